//! The loader: batches of a data set, in an order drawn for each epoch, prepared ahead on other threads.
//!
//! The samples of a batch and their variations are functions of (seed, epoch, index): the number of
//! threads decides only when a batch is ready. So an epoch can begin at any batch and goes on exactly as it
//! would have.
//!
//! Batches carry 8-bit pixels at the network's size. They become `f32` micro-batch by micro-batch
//! ([`Batch::narrow_in`]), on the worker that computes on them, which keeps a prepared batch four times
//! smaller and a micro-batch's numbers in cache.

#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;
use tensor::{Buffer, BufferPool};

use super::augment::{self, Augmentation, Frame};
use super::batch::{Batch, Pixels};
use super::dataset::{Dataset, Image, Target, empty};
use super::error::DataError;
use super::normalize::{Normalization, PixelTable};
use super::prefetch::{self, Prefetch};
use super::resize::{Pixel, ResizeScratch, Resizer};
use super::sampler::{RandomSampler, Sampler, SequentialSampler};
use super::whiten::Whitening;

/// Options of a [`DataLoader`].
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderOptions {
    /// N, the samples of a batch; the last batch of an epoch may hold fewer.
    pub batch_size: usize,
    /// Height and width that images are resized to; `None` keeps them.
    pub image_size: Option<(usize, usize)>,
    /// Gives each epoch an order of its own ([`RandomSampler`]); otherwise samples come as the set has them.
    pub shuffle: bool,
    /// Leaves out a last batch of fewer than `batch_size` samples.
    pub drop_last: bool,
    /// The seed of the order and of the augmentation.
    pub seed: u64,
    /// The normalization of pixels after division by 255.
    pub normalization: Option<Normalization>,
    /// The whitening of whole images, before anything else, in the place of all other steps from pixels to numbers.
    pub whitening: Option<Arc<Whitening>>,
    /// Random variations of the images.
    pub augmentation: Augmentation,
    /// Threads that prepare batches, each of which has one ready before it is asked for; 0 prepares each batch when it is asked
    /// for, on the thread that asks.
    pub workers: usize,
}

impl Default for LoaderOptions {
    /// Batches of 128 in the set's order, images as they are, no augmentation, one thread, one batch ahead.
    fn default() -> Self {
        LoaderOptions {
            batch_size: 128,
            image_size: None,
            shuffle: false,
            drop_last: false,
            seed: 0,
            normalization: None,
            whitening: None,
            augmentation: Augmentation::default(),
            workers: 1,
        }
    }
}

/// Hands out a data set in batches. See the [module](self)'s description.
#[derive(Debug)]
pub struct DataLoader {
    maker: Arc<BatchMaker>,
    sampler: Arc<dyn Sampler>,
}

impl DataLoader {
    /// A loader over `dataset`.
    ///
    /// # Errors
    /// [`DataError::Samples`] if the set is empty, [`DataError::Options`] if the batch size is 0, the images cannot be resized as
    /// asked, a normalization is not for the set's channels or divides by what is not a positive number, or a step of the
    /// augmentation is there twice, has a number out of its bounds or one of more pixels than an image's side, or would mix
    /// classes that have no names.
    pub fn new(dataset: Arc<dyn Dataset>, options: LoaderOptions) -> Result<DataLoader, DataError> {
        let (name, [c, h, w]) = (dataset.name(), dataset.image_shape());
        if options.batch_size == 0 {
            let message = format!("{name}: batch size 0 is impossible: expected at least 1");
            return Err(DataError::Options(message));
        }
        if dataset.is_empty() || c * h * w == 0 {
            return Err(empty(name, dataset.len(), [c, h, w]));
        }
        let augment = |why| DataError::Options(format!("augment: {why}"));
        options.augmentation.check_for([c, h, w]).map_err(augment)?;
        if options.augmentation.mixup().is_some()
            && dataset.class_names().is_empty()
            && let Target::Class(_) = dataset.target(0)?
        {
            let why = format!(
                "mixup: the samples of {name} have classes: expected names of the classes, one for each"
            );
            return Err(augment(why));
        }
        let size = options.image_size.unwrap_or((h, w));
        if let Some(whitening) = &options.whitening {
            let [c, h, w] = whitening.image_shape();
            if dataset.image_shape() != [c, h, w] || size != (h, w) || options.normalization.is_some() {
                return Err(DataError::Options(format!(
                    "{name}: whitened are images of {c} x {h} x {w} at their size, and not normalized besides"
                )));
            }
        }
        let sampler: Arc<dyn Sampler> = if options.shuffle {
            Arc::new(RandomSampler { seed: options.seed })
        } else {
            Arc::new(SequentialSampler)
        };
        let maker = BatchMaker {
            resizer: Resizer::new((h, w), size)?,
            table: Arc::new(PixelTable::new(c, options.normalization.as_ref())?),
            pool: BufferPool::new(),
            dataset,
            options,
        };
        Ok(DataLoader { maker: Arc::new(maker), sampler })
    }

    /// The same loader with epochs that this sampler draws, whatever [`LoaderOptions::shuffle`] says.
    #[must_use]
    pub fn with_sampler(self, sampler: impl Sampler + 'static) -> DataLoader {
        DataLoader { sampler: Arc::new(sampler), ..self }
    }

    /// The same samples in the same order with other options.
    ///
    /// # Errors
    /// As [`DataLoader::new`].
    pub(crate) fn with_options(&self, options: LoaderOptions) -> Result<DataLoader, DataError> {
        let other = DataLoader::new(Arc::clone(self.dataset()), options)?;
        Ok(DataLoader { sampler: Arc::clone(&self.sampler), ..other })
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<dyn Dataset> {
        &self.maker.dataset
    }

    /// The options that batches are made by.
    pub fn options(&self) -> &LoaderOptions {
        &self.maker.options
    }

    /// C, H and W of the batches' images.
    pub fn image_shape(&self) -> [usize; 3] {
        let (h, w) = self.maker.resizer.output_size();
        [self.maker.dataset.image_shape()[0], h, w]
    }

    /// The number of samples in the batches of an epoch: those that `drop_last` leaves out do not count.
    pub fn samples_per_epoch(&self) -> usize {
        let LoaderOptions { batch_size, drop_last, .. } = *self.options();
        let n = self.sampler.len(self.maker.dataset.len());
        if drop_last { n / batch_size * batch_size } else { n }
    }

    /// The number of batches of an epoch: 0 if `drop_last` leaves none.
    pub fn batches_per_epoch(&self) -> usize {
        self.samples_per_epoch().div_ceil(self.options().batch_size)
    }

    /// The batches of `epoch`, counted from 0.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        self.epoch_from(epoch, 0)
    }

    /// The batches of `epoch` from batch `first` on: the same as [`DataLoader::epoch`] with the first ones
    /// left out, at no cost. An epoch that has no more batches is empty.
    pub fn epoch_from(&self, epoch: u64, first: usize) -> Epoch {
        let order = Arc::new(self.sampler.draw(self.maker.dataset.len(), epoch));
        let last = self.batches_per_epoch();
        let first = first.min(last);
        let work = || {
            let (maker, order) = (Arc::clone(&self.maker), Arc::clone(&order));
            Work { maker, order, epoch, scratch: Scratch::default() }
        };
        let workers = self.options().workers;
        let source = if workers == 0 {
            Source::Here(Box::new(work()))
        } else {
            Source::Ahead(Prefetch::start(workers.min(last - first), first..last, || {
                let mut work = work();
                move |index| work.make(index)
            }))
        };
        Epoch { source, next: first, last, waited: Duration::ZERO }
    }
}

/// The batches of one epoch, or of its rest. Dropping it early stops the threads behind it.
#[derive(Debug)]
pub struct Epoch {
    source: Source,
    next: usize,
    last: usize,
    waited: Duration,
}

#[derive(Debug)]
enum Source {
    Here(Box<Work>),
    Ahead(Prefetch<Result<Batch, DataError>>),
}

impl Epoch {
    /// The time that the consumer has waited for batches of this epoch. Without loader threads, all of making
    /// them.
    pub fn wait_time(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch, DataError>;

    /// The next batch; [`DataError::Worker`] if a sample of it could not be had, preparing it panicked or the
    /// sampler drew what is not there, after which there are none.
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.last {
            return None;
        }
        let index = self.next;
        self.next += 1;
        let start = Instant::now();
        let batch = match &mut self.source {
            // A panic ends the epoch, so that nothing is done with what it may have left half done.
            Source::Here(work) => catch_unwind(AssertUnwindSafe(|| work.make(index)))
                .map_err(|panic| prefetch::panic_message(&*panic)),
            Source::Ahead(prefetch) => prefetch.next(),
        };
        let batch = batch.unwrap_or_else(|message| Err(DataError::Worker { index, message }));
        self.waited += start.elapsed();
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
    dataset: Arc<dyn Dataset>,
    resizer: Resizer,
    table: Arc<PixelTable>,
    options: LoaderOptions,
    pool: Arc<BufferPool>,
}

/// Memory that one thread uses for one image after another.
#[derive(Debug, Default)]
struct Scratch {
    bytes: PixelScratch<u8>,
    floats: PixelScratch<f32>,
}

#[derive(Debug, Default)]
struct PixelScratch<P: Pixel> {
    augment: augment::Scratch,
    varied: Vec<P>,
    resize: ResizeScratch<P>,
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
    /// Makes batch `index` of the epoch. An error is the sampler's or the data set's fault.
    fn make(&mut self, index: usize) -> Result<Batch, DataError> {
        let Self { maker, order, epoch, scratch } = self;
        let BatchMaker { dataset, resizer, table, options, pool } = &**maker;
        let from = index * options.batch_size;
        let samples = order.get(from..order.len().min(from + options.batch_size)).unwrap_or_default();
        let worker = |message| DataError::Worker { index, message };
        if samples.is_empty() {
            return Err(worker(format!("the sampler drew only {} samples", order.len())));
        }
        if let Some(sample) = samples.iter().find(|&&sample| sample >= dataset.len()) {
            return Err(worker(format!("the sampler drew sample {sample} of a set of {}", dataset.len())));
        }
        let frame = maker.frame(*epoch);
        let mut images = maker.read(&frame, samples).map_err(worker)?;
        let whitened = options.whitening.as_ref().map(|whitening| {
            let whole: Vec<_> = images.iter().flatten().map(|part| &part.image).collect();
            whitening.apply(pool, whole.into_iter())
        });
        let whitened = whitened.transpose()?;
        if let Some(whitened) = &whitened {
            let rows = whitened.data().chunks(dataset.image_shape().iter().product());
            for (part, row) in images.iter_mut().flatten().zip(rows) {
                part.image = Image::Floats(row.into());
            }
        }
        let pixels = match images[0][0].image {
            Image::Bytes(_) => maker.pixels(&frame, &images, &mut scratch.bytes).map(Pixels::Bytes),
            Image::Floats(_) => maker.pixels(&frame, &images, &mut scratch.floats).map(Pixels::Floats),
        };
        let pixels = pixels.map_err(worker)?;
        let (labels, values) = maker.targets(&images).map_err(worker)?;
        let ([channels, ..], (h, w)) = (dataset.image_shape(), resizer.output_size());
        let samples = samples.iter().map(|&sample| sample as u64).collect();
        Ok(Batch { image_shape: [channels, h, w], pixels, labels, values, samples, table: Arc::clone(table) })
    }
}

/// A sample and its share of an image and of a target; all of it, but where images are mixed.
struct WeightedSample<'a> {
    sample: usize,
    image: Image<'a>,
    target: Target<'a>,
    share: f32,
}

impl WeightedSample<'_> {
    fn refuse<T>(&self, message: &str) -> Result<T, String> {
        Err(format!("sample {}: {message}", self.sample))
    }

    /// The pixels, which are to be of this kind and number.
    fn pixels<P: Pixel>(&self, [c, h, w]: [usize; 3]) -> Result<&[P], String> {
        match P::of(&self.image) {
            Some(pixels) if pixels.len() == c * h * w => Ok(pixels),
            Some(pixels) => self.refuse(&format!("{} pixels, expected {c} x {h} x {w}", pixels.len())),
            None => self.refuse("pixels of another kind than the first image of the batch has"),
        }
    }

    /// Adds the share of the target to the row of dense targets, of which there are none if classes are not mixed.
    fn add_target(&self, is_dense: bool, row: &mut [f32]) -> Result<(), String> {
        let width = row.len();
        match &self.target {
            Target::Class(_) if !is_dense && width == 0 => {}
            &Target::Class(class) if !is_dense => match row.get_mut(class) {
                Some(place) => *place += self.share,
                None => {
                    return self.refuse(&format!("class {class}, expected one of the {width} with names"));
                }
            },
            Target::Values(values) if is_dense && values.len() == width => {
                row.iter_mut().zip(&**values).for_each(|(place, value)| *place += self.share * value);
            }
            _ => return self.refuse("a target of another kind or length than the first of the batch has"),
        }
        Ok(())
    }
}

impl BatchMaker {
    /// The inputs that the variations of an epoch's images have in common.
    fn frame(&self, epoch: u64) -> Frame<'_> {
        let LoaderOptions { seed, normalization, .. } = &self.options;
        let means = normalization.as_ref().map(|normalization| &*normalization.mean);
        Frame { seed: *seed, epoch, shape: self.dataset.image_shape(), means }
    }

    /// Reads the samples that the images of a batch are made of, the parts of an image together.
    fn read(&self, frame: &Frame<'_>, samples: &[usize]) -> Result<Vec<Vec<WeightedSample<'_>>>, String> {
        let part = |(sample, share)| {
            let refuse = |error| format!("sample {sample}: {error}");
            let (image, target) = self.dataset.get(sample).map_err(refuse)?;
            Ok(WeightedSample { sample, image, target, share })
        };
        let shares = |&sample| self.options.augmentation.shares(frame, sample, self.dataset.len());
        samples.iter().map(|sample| shares(sample).map(part).collect()).collect()
    }

    /// The pixels of a batch, N x C x H x W, all of one kind.
    fn pixels<P: Pixel + Pod>(
        &self,
        frame: &Frame<'_>,
        images: &[Vec<WeightedSample<'_>>],
        scratch: &mut PixelScratch<P>,
    ) -> Result<Buffer<P>, String> {
        let ([channels, ..], (h, w)) = (frame.shape, self.resizer.output_size());
        let mut pixels = self.pool.take(images.len() * channels * h * w);
        for (parts, target) in images.iter().zip(pixels.chunks_exact_mut(channels * h * w)) {
            self.prepare(frame, parts, target, scratch)?;
        }
        Ok(pixels)
    }

    /// The targets of a batch: N classes, or none, and dense values, N x K, or none. All are of the kind and length that the
    /// first is.
    fn targets(&self, images: &[Vec<WeightedSample<'_>>]) -> Result<(Vec<usize>, Buffer<f32>), String> {
        let (is_dense, width) = match &images[0][0].target {
            Target::Values(values) => (true, values.len()),
            // Of images that are mixed, the shares of all classes.
            Target::Class(_) if self.options.augmentation.mixup().is_some() => {
                (false, self.dataset.class_names().len())
            }
            Target::Class(_) => (false, 0),
        };
        let (mut labels, mut values) =
            (Vec::with_capacity(images.len()), self.pool.take(images.len() * width));
        values.fill(0.0);
        for (row, parts) in images.iter().enumerate() {
            let row = &mut values[row * width..][..width];
            parts.iter().try_for_each(|part| part.add_target(is_dense, row))?;
            let larger = parts.iter().max_by(|a, b| a.share.total_cmp(&b.share));
            if let Some(&WeightedSample { target: Target::Class(class), .. }) = larger {
                labels.push(class);
            }
        }
        Ok((labels, values))
    }

    /// Varies and resizes the image of a sample, the first of the parts, mixed with the second if there is one.
    fn prepare<P: Pixel>(
        &self,
        frame: &Frame<'_>,
        parts: &[WeightedSample<'_>],
        target: &mut [P],
        PixelScratch { augment, varied, resize }: &mut PixelScratch<P>,
    ) -> Result<(), String> {
        let ([_, height, width], (h, w)) = (frame.shape, self.resizer.output_size());
        let parts = parts.iter().map(|part| Ok((part.sample, part.share, part.pixels(frame.shape)?)));
        let parts = parts.collect::<Result<Vec<_>, String>>()?;
        let mut image = parts[0].2;
        if !self.options.augmentation.is_none() {
            self.options.augmentation.apply(frame, &parts, augment, varied);
            image = varied;
        }
        for (source, target) in image.chunks_exact(height * width).zip(target.chunks_exact_mut(h * w)) {
            self.resizer.resize(source, target, resize);
        }
        Ok(())
    }
}
