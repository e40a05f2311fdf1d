//! The loader: batches of a data set, in an order drawn for each epoch, prepared ahead on other threads.
//!
//! Which samples a batch holds, and how each is varied, are functions of (seed, epoch, index): the number of threads
//! decides only when a batch is ready. So an epoch can begin at any batch and goes on exactly as it would have.
//!
//! Batches carry 8-bit pixels at the network's size. They become `f32` shard by shard ([`Batch::entries_in`]), on the
//! worker that computes on them, which keeps a prepared batch four times smaller and a shard's numbers in cache.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tensor::{BufferPool, Purpose, RandomStream};

use super::augment::Augmentation;
use super::batch::{Batch, Ids};
use super::dataset::Dataset;
use super::error::DataError;
use super::normalize::{Normalization, PixelTable};
use super::prefetch::Prefetch;
use super::resize::{ResizeScratch, Resizer};

/// How a [`DataLoader`] makes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderOptions {
    /// N, the samples of a batch; the last batch of an epoch may hold fewer.
    pub batch_size: usize,
    /// Height and width that images are resized to; `None` keeps them.
    pub image_size: Option<(usize, usize)>,
    /// Whether each epoch has an order of its own; otherwise samples come as the set has them.
    pub shuffle: bool,
    /// Whether a last batch of fewer than `batch_size` samples is left out.
    pub drop_last: bool,
    /// The seed of the order and of the augmentation.
    pub seed: u64,
    /// What is done to pixels after division by 255.
    pub normalization: Option<Normalization>,
    /// Random variations of the images.
    pub augmentation: Augmentation,
    /// Threads that prepare batches; 0 prepares each batch when it is asked for, on the thread that asks.
    pub workers: usize,
    /// Batches that each thread may have ready before they are asked for (at least one).
    pub prefetch: usize,
}

impl Default for LoaderOptions {
    /// Batches of 128 in the set's order, images as they are, no augmentation, one thread, two batches ahead.
    fn default() -> Self {
        LoaderOptions {
            batch_size: 128,
            image_size: None,
            shuffle: false,
            drop_last: false,
            seed: 0,
            normalization: None,
            augmentation: Augmentation::default(),
            workers: 1,
            prefetch: 2,
        }
    }
}

/// Hands out a data set in batches. See the [module](self)'s description.
#[derive(Debug)]
pub struct DataLoader {
    maker: Arc<BatchMaker>,
    options: LoaderOptions,
    /// The last epoch's order, whose memory the next epoch takes over.
    spare_order: Mutex<Arc<Vec<usize>>>,
    waited: Arc<Mutex<Duration>>,
}

impl DataLoader {
    /// A loader over `dataset`.
    ///
    /// # Errors
    /// [`DataError::BatchSize`] if the batch size is 0, [`DataError::ImageSize`] if the images cannot be resized as
    /// asked, [`DataError::Normalization`] if a normalisation is not for the set's channels or divides by what is not a
    /// positive number, [`DataError::Padding`] if the augmentation would pad by more than an image's side.
    pub fn new(dataset: Arc<Dataset>, options: LoaderOptions) -> Result<DataLoader, DataError> {
        if options.batch_size == 0 {
            return Err(DataError::BatchSize { name: dataset.name().to_owned() });
        }
        let size = (dataset.height(), dataset.width());
        if options.augmentation.padding > size.0.min(size.1) {
            return Err(DataError::Padding { found: options.augmentation.padding, h: size.0, w: size.1 });
        }
        let maker = BatchMaker {
            resizer: Resizer::new(size, options.image_size.unwrap_or(size))?,
            table: Arc::new(PixelTable::new(dataset.channels(), options.normalization.as_ref())?),
            augmentation: options.augmentation,
            seed: options.seed,
            batch_size: options.batch_size,
            pool: BufferPool::new(),
            ids: Arc::default(),
            dataset,
        };
        Ok(DataLoader {
            maker: Arc::new(maker),
            options,
            spare_order: Mutex::default(),
            waited: Arc::default(),
        })
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.maker.dataset
    }

    /// How batches are made.
    pub fn options(&self) -> &LoaderOptions {
        &self.options
    }

    /// C, H and W of the batches' images.
    pub fn image_shape(&self) -> [usize; 3] {
        let (h, w) = self.maker.resizer.output_size();
        [self.maker.dataset.channels(), h, w]
    }

    /// How many batches an epoch has (0 if `drop_last` leaves none).
    pub fn batches_per_epoch(&self) -> usize {
        let (n, size) = (self.maker.dataset.len(), self.options.batch_size);
        if self.options.drop_last { n / size } else { n.div_ceil(size) }
    }

    /// The batches of `epoch`, counted from 0.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        self.epoch_from(epoch, 0)
    }

    /// The batches of `epoch` from batch `first` on: the same as [`DataLoader::epoch`] with the first ones left out, at no
    /// cost. An epoch that has no more batches is empty.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Epoch {
        let order = self.order(epoch);
        let last = self.batches_per_epoch();
        let first = first.min(last);
        let source = if self.options.workers == 0 {
            Source::Here(Box::new(Work {
                maker: Arc::clone(&self.maker),
                order,
                epoch,
                scratch: Scratch::default(),
            }))
        } else {
            let work = || Work {
                maker: Arc::clone(&self.maker),
                order: Arc::clone(&order),
                epoch,
                scratch: Scratch::default(),
            };
            let threads = self.options.workers.min(last - first);
            Source::Ahead(Prefetch::start(threads, self.options.prefetch.max(1), first..last, |_| {
                let mut work = work();
                move |index| work.make(index)
            }))
        };
        Epoch { source, next: first, last, waited: Duration::ZERO, total_waited: Arc::clone(&self.waited) }
    }

    /// How long consumers have waited for batches since the loader was made, over all epochs.
    pub fn wait_time(&self) -> Duration {
        *self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The order of an epoch's samples, in the memory of an earlier epoch's if that has ended.
    fn order(&self, epoch: u64) -> Arc<Vec<usize>> {
        let mut spare = self.spare_order.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::get_mut(&mut spare).is_none() {
            *spare = Arc::default();
        }
        if let Some(order) = Arc::get_mut(&mut spare) {
            order.clear();
            order.extend(0..self.maker.dataset.len());
            if self.options.shuffle {
                shuffle(order, self.options.seed, epoch);
            }
        }
        Arc::clone(&spare)
    }
}

/// Puts `order` in the random order of (seed, epoch): Fisher and Yates' shuffle.
fn shuffle(order: &mut [usize], seed: u64, epoch: u64) {
    let mut stream = RandomStream::new(seed, epoch, Purpose::Shuffle, 0);
    for last in (1..order.len()).rev() {
        order.swap(last, stream.below(last as u64 + 1) as usize);
    }
}

/// The batches of one epoch, or of its rest. Dropping it early stops the threads behind it.
#[derive(Debug)]
pub struct Epoch {
    source: Source,
    next: usize,
    last: usize,
    waited: Duration,
    total_waited: Arc<Mutex<Duration>>,
}

#[derive(Debug)]
enum Source {
    Here(Box<Work>),
    Ahead(Prefetch<Batch>),
}

impl Epoch {
    /// How long the consumer has waited for batches of this epoch. Without loader threads, all of making them.
    pub fn wait_time(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    /// The next batch; [`DataError::Worker`] if the thread that was to prepare it panicked, after which there are none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.last {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let start = Instant::now();
        let batch = match &mut self.source {
            Source::Here(work) => Ok(work.make(index)),
            Source::Ahead(prefetch) => {
                prefetch.next().map_err(|message| DataError::Worker { index, message })
            }
        };
        let waited = start.elapsed();
        self.waited += waited;
        *self.total_waited.lock().unwrap_or_else(PoisonError::into_inner) += waited;
        if batch.is_err() {
            self.next = self.last;
        }
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.last - self.next, Some(self.last - self.next))
    }
}

impl ExactSizeIterator for Epoch {}

/// All that is needed to make any batch of any epoch.
#[derive(Debug)]
struct BatchMaker {
    dataset: Arc<Dataset>,
    resizer: Resizer,
    table: Arc<PixelTable>,
    augmentation: Augmentation,
    seed: u64,
    batch_size: usize,
    pool: Arc<BufferPool>,
    ids: Arc<Mutex<Vec<Ids>>>,
}

/// Memory that one thread uses for one image after another.
#[derive(Debug, Default)]
struct Scratch {
    varied: Vec<u8>,
    resize: ResizeScratch,
}

/// One thread's part in an epoch.
#[derive(Debug)]
struct Work {
    maker: Arc<BatchMaker>,
    order: Arc<Vec<usize>>,
    epoch: u64,
    scratch: Scratch,
}

impl Work {
    /// Makes batch `index` of the epoch.
    fn make(&mut self, index: usize) -> Batch {
        let BatchMaker { dataset, resizer, table, augmentation, seed, batch_size, pool, ids } = &*self.maker;
        let Scratch { varied, resize } = &mut self.scratch;
        let from = index * batch_size;
        let samples = &self.order[from..self.order.len().min(from + batch_size)];
        let (channels, (h, w)) = (dataset.channels(), resizer.output_size());
        let (source_plane, plane) = (dataset.height() * dataset.width(), h * w);

        let mut pixels = pool.take::<u8>(samples.len() * channels * plane);
        for (&sample, target) in samples.iter().zip(pixels.chunks_exact_mut(channels * plane)) {
            let mut image = dataset.image(sample);
            if !augmentation.is_none() {
                varied.resize(image.len(), 0);
                let variation = augmentation.draw(*seed, self.epoch, sample as u64);
                variation.apply(dataset.height(), dataset.width(), image, varied);
                image = varied;
            }
            for (source, target) in image.chunks_exact(source_plane).zip(target.chunks_exact_mut(plane)) {
                resizer.resize(source, target, resize);
            }
        }

        let mut batch_ids = ids.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        batch_ids.fill(samples, dataset, *batch_size);
        Batch::new(index, [channels, h, w], pixels, batch_ids, Arc::clone(table), Arc::clone(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DatasetInfo;
    use std::collections::HashSet;

    /// `n` images of 2 channels of 4 x 5 pixels; sample i is full of i, but for a corner that shows a shift.
    fn toy(n: usize) -> Arc<Dataset> {
        let info = DatasetInfo {
            name: "toy".into(),
            channels: 2,
            height: 4,
            width: 5,
            class_names: (0..3).map(|i| i.to_string()).collect(),
        };
        let mut images = Vec::new();
        for i in 0..n {
            let mut image = [i as u8 + 1; 40];
            image[0] = 255;
            images.extend_from_slice(&image);
        }
        let labels = (0..n).map(|i| (i % 3) as u8).collect();
        Arc::new(Dataset::new(images, labels, info).unwrap())
    }

    fn options() -> LoaderOptions {
        LoaderOptions { batch_size: 4, shuffle: true, seed: 7, ..LoaderOptions::default() }
    }

    fn loader(n: usize, options: LoaderOptions) -> DataLoader {
        DataLoader::new(toy(n), options).unwrap()
    }

    type Contents = (usize, Vec<u64>, Vec<usize>, Vec<u8>);

    fn contents(epoch: Epoch) -> Vec<Contents> {
        epoch
            .map(|batch| {
                let batch = batch.unwrap();
                (batch.index(), batch.samples().to_vec(), batch.labels().to_vec(), batch.pixels().to_vec())
            })
            .collect()
    }

    fn order(loader: &DataLoader, epoch: u64) -> Vec<u64> {
        contents(loader.epoch(epoch)).into_iter().flat_map(|(_, samples, ..)| samples).collect()
    }

    #[test]
    fn an_epoch_has_every_sample_once_in_an_order_of_its_own() {
        let shuffled = loader(23, options());
        let first = order(&shuffled, 0);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..23).collect::<Vec<_>>());
        assert_ne!(first, sorted);
        assert_ne!(first, order(&shuffled, 1));
        assert_eq!(first, order(&shuffled, 0), "a function of seed and epoch, not of what came before");
        assert_ne!(first, order(&loader(23, LoaderOptions { seed: 8, ..options() }), 0));
        let plain = loader(23, LoaderOptions { shuffle: false, ..options() });
        assert_eq!(order(&plain, 5), sorted);
        // The order of the shared random stream, so that the two never part.
        let expected = RandomStream::new(7, 3, Purpose::Shuffle, 0).permutation(23);
        assert_eq!(order(&shuffled, 3), expected.iter().map(|&i| i as u64).collect::<Vec<_>>());
    }

    #[test]
    fn batches_are_the_same_for_any_number_of_threads() {
        let make = |workers, prefetch| {
            let augmentation = Augmentation { padding: 2, flip: true };
            let image_size = Some((9, 6));
            let all = LoaderOptions { workers, prefetch, augmentation, image_size, ..options() };
            contents(loader(23, all).epoch(2))
        };
        let expected = make(0, 0);
        assert_eq!(expected.len(), 6);
        for (workers, prefetch) in [(1, 0), (1, 1), (1, 2), (2, 2), (3, 1), (9, 2)] {
            assert_eq!(make(workers, prefetch), expected, "{workers} threads, {prefetch} ahead");
        }
    }

    #[test]
    fn an_epoch_begun_in_the_middle_goes_on_as_the_whole_one() {
        for workers in [0, 1, 2] {
            let loader = loader(
                23,
                LoaderOptions { workers, augmentation: Augmentation { padding: 1, flip: true }, ..options() },
            );
            let whole = contents(loader.epoch(1));
            for first in 0..=7 {
                let rest = loader.epoch_from(1, first);
                assert_eq!(rest.len(), 6usize.saturating_sub(first));
                assert_eq!(contents(rest), whole[first.min(6)..], "from batch {first}");
            }
        }
    }

    #[test]
    fn the_last_batch_is_kept_or_dropped() {
        let sizes = |n, batch_size, drop_last| {
            let loader = loader(n, LoaderOptions { batch_size, drop_last, ..options() });
            let sizes: Vec<usize> = loader.epoch(0).map(|batch| batch.unwrap().len()).collect();
            assert_eq!(sizes.len(), loader.batches_per_epoch());
            sizes
        };
        assert_eq!(sizes(10, 4, false), [4, 4, 2]);
        assert_eq!(sizes(10, 4, true), [4, 4]);
        assert_eq!(sizes(8, 4, true), [4, 4]);
        assert_eq!(sizes(3, 4, false), [3]);
        assert!(sizes(3, 4, true).is_empty());
    }

    #[test]
    fn numbers_are_those_of_the_samples() {
        let normalization = Normalization { mean: vec![0.5, 0.25], std: vec![0.5, 2.0] };
        let loader = loader(10, LoaderOptions { normalization: Some(normalization), ..options() });
        let pool = BufferPool::poisoning();
        for batch in loader.epoch(0) {
            let batch = batch.unwrap();
            let images = batch.images_in(&pool);
            assert_eq!(images.shape(), batch.shape());
            for (row, (&sample, &label)) in batch.samples().iter().zip(batch.labels()).enumerate() {
                assert_eq!(label as u64, sample % 3);
                let image = &images.data()[row * 40..][..40];
                let scaled = (sample + 1) as f32 / 255.0;
                assert_eq!(image[1], (scaled - 0.5) / 0.5);
                assert_eq!(image[39], (scaled - 0.25) / 2.0);
            }
            let part = batch.entries_in(&pool, 1, batch.len());
            assert_eq!(part.data(), &images.data()[40..]);
            assert_eq!(*part.shape(), [batch.len() - 1, 2, 4, 5]);
        }
    }

    #[test]
    fn memory_is_used_again() {
        let loader = loader(64, LoaderOptions { batch_size: 8, workers: 1, ..options() });
        let mut addresses = HashSet::new();
        for epoch in 0..5 {
            for batch in loader.epoch(epoch) {
                let batch = batch.unwrap();
                addresses.insert((batch.pixels().as_ptr(), batch.labels().as_ptr()));
            }
        }
        // One in use, two ready, one in the making: 4 of each kind at most, in any pairing, not 40.
        let pixels: HashSet<_> = addresses.iter().map(|a| a.0).collect();
        let labels: HashSet<_> = addresses.iter().map(|a| a.1).collect();
        assert!(pixels.len() <= 4 && labels.len() <= 4, "{} and {}", pixels.len(), labels.len());
    }

    #[test]
    fn dropping_an_epoch_early_stops_its_threads() {
        for workers in [0, 1, 3] {
            let loader = loader(200, LoaderOptions { workers, ..options() });
            let mut epoch = loader.epoch(0);
            let kept = epoch.next().unwrap().unwrap();
            drop(epoch);
            assert_eq!(Arc::strong_count(&loader.maker), 1, "{workers} threads");
            drop(loader.epoch(1));
            assert_eq!(Arc::strong_count(&loader.maker), 1);
            drop(loader);
            assert_eq!(kept.len(), 4, "a batch outlives its loader");
        }
    }

    #[test]
    fn a_failing_thread_is_an_error_and_the_end() {
        let loader = loader(8, options());
        let order = Arc::new(vec![0, 1, 2, 3, 4, 99, 6, 7]);
        let maker = Arc::clone(&loader.maker);
        let prefetch = Prefetch::start(1, 2, 0..2, |_| {
            let (maker, order) = (Arc::clone(&maker), Arc::clone(&order));
            let mut work = Work { maker, order, epoch: 0, scratch: Scratch::default() };
            move |index| work.make(index)
        });
        let waited = Arc::default();
        let source = Source::Ahead(prefetch);
        let mut epoch = Epoch { source, next: 0, last: 2, waited: Duration::ZERO, total_waited: waited };
        assert_eq!(epoch.next().unwrap().unwrap().samples(), [0, 1, 2, 3]);
        let error = epoch.next().unwrap().unwrap_err().to_string();
        assert!(error.starts_with("loader: batch 1 could not be prepared: panicked: "), "{error}");
        assert!(!error.contains('\n'));
        assert!(epoch.next().is_none());
    }

    #[test]
    fn waiting_is_counted() {
        let loader = loader(8, LoaderOptions { workers: 0, ..options() });
        let mut epoch = loader.epoch(0);
        assert_eq!((epoch.wait_time(), loader.wait_time()), (Duration::ZERO, Duration::ZERO));
        let _ = epoch.by_ref().count();
        assert!(epoch.wait_time() > Duration::ZERO);
        assert_eq!(epoch.wait_time(), loader.wait_time());
    }

    #[test]
    fn impossible_options_are_refused() {
        let fault = |options| DataLoader::new(toy(3), options).unwrap_err().to_string();
        assert_eq!(
            fault(LoaderOptions { batch_size: 0, ..options() }),
            "toy: batch size 0 is impossible: expected at least 1"
        );
        assert_eq!(
            fault(LoaderOptions { image_size: Some((0, 9)), ..options() }),
            "image size 0 x 9 is impossible: expected 1 to 16384 pixels a side"
        );
        let augmentation = Augmentation { padding: 5, flip: false };
        assert_eq!(
            fault(LoaderOptions { augmentation, ..options() }),
            "augmentation pads by 5 pixels: expected at most the shorter side of 4 x 5"
        );
        for (mean, std) in
            [(vec![0.5], vec![0.5]), (vec![0.5; 2], vec![0.5, 0.0]), (vec![0.5, f32::NAN], vec![0.5; 2])]
        {
            let found =
                fault(LoaderOptions { normalization: Some(Normalization { mean, std }), ..options() });
            assert!(found.ends_with("expected 2 finite means and as many positive deviations"), "{found}");
        }
    }
}
