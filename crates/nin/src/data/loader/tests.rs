//! Order, resumption, threads, memory and faults of the loader, on toy images.

use super::*;
use crate::data::ArrayDataset;
use crate::data::sampler::WeightedRandomSampler;
use std::collections::HashSet;
use tensor::{Purpose, RandomStream};

/// `n` images of 2 channels of 4 x 5 pixels; sample i is full of i, but for a corner that shows a shift.
fn toy(n: usize) -> Arc<ArrayDataset> {
    let mut images = Vec::new();
    for i in 0..n {
        let mut image = [i as u8 + 1; 40];
        image[0] = 255;
        images.extend_from_slice(&image);
    }
    let labels: Vec<usize> = (0..n).map(|i| i % 3).collect();
    Arc::new(ArrayDataset::named("arrays", &["a", "b", "c"], [2, 4, 5], images, labels).unwrap())
}

const ALL_STEPS: &str = "shift:2,flip,crop:0.5,rotate:20,scale:1.3,color:0.4,mixup:0.4,cutout:2";

fn options() -> LoaderOptions {
    LoaderOptions { batch_size: 4, shuffle: true, seed: 7, ..LoaderOptions::default() }
}

fn loader(n: usize, options: LoaderOptions) -> DataLoader {
    DataLoader::new(toy(n), options).unwrap()
}

type Contents = (Vec<u64>, Vec<usize>, Vec<u8>, Vec<f32>);

fn contents(epoch: Epoch) -> Vec<Contents> {
    epoch
        .map(|batch| {
            let batch = batch.unwrap();
            let targets = batch.targets_in(BufferPool::global(), 0, batch.len());
            (
                batch.samples().to_vec(),
                batch.labels().to_vec(),
                batch.pixels().to_vec(),
                targets.data().to_vec(),
            )
        })
        .collect()
}

fn order(loader: &DataLoader, epoch: u64) -> Vec<u64> {
    contents(loader.epoch(epoch)).into_iter().flat_map(|(samples, ..)| samples).collect()
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
    let make = |workers| {
        let augmentation: Augmentation = ALL_STEPS.parse().unwrap();
        let image_size = Some((9, 6));
        let all = LoaderOptions { workers, augmentation, image_size, ..options() };
        contents(loader(23, all).epoch(2))
    };
    let expected = make(0);
    assert_eq!(expected.len(), 6);
    for workers in [1, 2, 3, 9] {
        assert_eq!(make(workers), expected, "{workers} threads");
    }
}

#[test]
fn an_epoch_begun_in_the_middle_goes_on_as_the_whole_one() {
    for workers in [0, 1, 2] {
        let augmentation = ALL_STEPS.parse().unwrap();
        let loader = loader(23, LoaderOptions { workers, augmentation, ..options() });
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
        let part = batch.narrow_in(&pool, 1, batch.len());
        assert_eq!(part.data(), &images.data()[40..]);
        assert_eq!(*part.shape(), [batch.len() - 1, 2, 4, 5]);
    }
}

#[test]
fn memory_is_used_again() {
    let loader = loader(64, LoaderOptions { batch_size: 8, workers: 1, ..options() });
    let mut addresses = HashSet::new();
    for epoch in 0..5 {
        addresses.extend(loader.epoch(epoch).map(|batch| batch.unwrap().pixels().as_ptr()));
    }
    // One in use, one ready, one in the making: 3 at most, not 40.
    assert!(addresses.len() <= 3, "{}", addresses.len());
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

/// Draws a sample that is not there, and promises more than it draws.
#[derive(Debug)]
struct Broken(usize);

impl Sampler for Broken {
    fn len(&self, _: usize) -> usize {
        12
    }

    fn draw(&self, _: usize, _: u64) -> Vec<usize> {
        vec![0, 1, 2, 3, 4, self.0, 6, 7]
    }
}

#[test]
fn a_sampler_s_fault_is_an_error_and_the_end() {
    for workers in [0, 1, 2] {
        let fault = |sample| {
            let loader = loader(8, LoaderOptions { workers, ..options() }).with_sampler(Broken(sample));
            let mut epoch = loader.epoch(0);
            assert_eq!(epoch.next().unwrap().unwrap().samples(), [0, 1, 2, 3]);
            let error = epoch.find_map(Result::err).unwrap().to_string();
            assert!(epoch.next().is_none());
            error
        };
        assert_eq!(
            fault(99),
            "loader: batch 1 could not be prepared: the sampler drew sample 99 of a set of 8"
        );
        assert_eq!(fault(5), "loader: batch 2 could not be prepared: the sampler drew only 8 samples");
    }
}

#[test]
fn numbers_and_dense_targets_come_as_they_are_or_normalized() {
    let pixels: Vec<f32> = (0..6 * 2 * 4).map(|i| i as f32 / 2.0).collect();
    let targets: Vec<[f32; 3]> = (0..6).map(|i| [i as f32, 0.5, -1.0]).collect();
    let set = Arc::new(ArrayDataset::new([2, 2, 2], pixels.clone(), targets).unwrap());
    let pool = BufferPool::poisoning();
    let normalization = Normalization { mean: vec![1.0, 2.0], std: vec![2.0, 4.0] };
    for normalization in [None, Some(normalization)] {
        let options = LoaderOptions { normalization: normalization.clone(), ..options() };
        for batch in DataLoader::new(set.clone(), options).unwrap().epoch(0) {
            let batch = batch.unwrap();
            let (images, targets) = (batch.images_in(&pool), batch.targets_in(&pool, 1, batch.len()));
            assert_eq!(*targets.shape(), [batch.len() - 1, 3]);
            assert!(batch.labels().is_empty() && batch.pixels().is_empty());
            for (row, &sample) in batch.samples().iter().enumerate() {
                for (i, &found) in images.data()[row * 8..][..8].iter().enumerate() {
                    let value = pixels[sample as usize * 8 + i];
                    let expected =
                        normalization.as_ref().map_or(value, |n| (value - n.mean[i / 4]) / n.std[i / 4]);
                    assert_eq!(found, expected);
                }
                if row > 0 {
                    assert_eq!(targets.data()[(row - 1) * 3..][..3], [sample as f32, 0.5, -1.0]);
                }
            }
        }
    }
    // Enlarging a plane that is the same everywhere keeps it.
    let flat = Arc::new(ArrayDataset::new([1, 3, 3], vec![0.25f32; 9], vec![0usize]).unwrap());
    let larger = LoaderOptions { image_size: Some((7, 5)), ..LoaderOptions::default() };
    let batch = DataLoader::new(flat, larger).unwrap().epoch(0).next().unwrap().unwrap();
    assert!(batch.images_in(&pool).data().iter().all(|value| (value - 0.25).abs() < 1e-6));
}

/// Images, each varied by its own draws, and targets of both kinds are weighted means.
#[test]
fn mixup_mixes_images_and_targets() {
    let names = ["a", "b", "c", "d", "e"];
    let pixels: Vec<f32> = (0..5 * 6).map(|i| (i as f32 * 0.7).sin()).collect();
    let classes =
        ArrayDataset::named("toy", &names, [1, 2, 3], pixels.clone(), (0..5).collect::<Vec<_>>()).unwrap();
    let ones = (0..5)
        .map(|class| std::array::from_fn(|k| f32::from(u8::from(k == class))))
        .collect::<Vec<[f32; 5]>>();
    let dense = ArrayDataset::new([1, 2, 3], pixels, ones).unwrap();
    let epoch = |set: &ArrayDataset, augmentation: &str| {
        let augmentation = augmentation.parse().unwrap();
        let options = LoaderOptions { augmentation, batch_size: 5, shuffle: false, ..options() };
        DataLoader::new(Arc::new(set.clone()), options).unwrap().epoch(3).next().unwrap().unwrap()
    };
    let (plain, mixed) = (epoch(&classes, "shift:1,flip"), epoch(&classes, "shift:1,flip,mixup:1"));
    let pool = BufferPool::poisoning();
    let (plain, images, targets) =
        (plain.images_in(&pool), mixed.images_in(&pool), mixed.targets_in(&pool, 0, 5));
    assert_eq!(*targets.shape(), [5, 5]);
    let mut partners = HashSet::new();
    for (sample, (image, target)) in images.data().chunks(6).zip(targets.data().chunks(5)).enumerate() {
        let mut stream = RandomStream::new(7, 3, Purpose::Augmentation(6), sample as u64);
        let partner = stream.below(5) as usize;
        let rest = stream.beta(1.0, 1.0) as f32;
        partners.insert((partner, rest.to_bits()));
        let shares: [f32; 5] = std::array::from_fn(
            |k| if k == sample { 1.0 - rest } else { 0.0 } + if k == partner { rest } else { 0.0 },
        );
        assert_eq!(target, shares);
        for (i, &pixel) in image.iter().enumerate() {
            let expected = (1.0 - rest) * plain.data()[sample * 6 + i] + rest * plain.data()[partner * 6 + i];
            assert_eq!(pixel, expected);
        }
        assert_eq!(mixed.labels()[sample], if rest > 0.5 { partner } else { sample });
    }
    assert!(partners.len() == 5);
    let also = epoch(&dense, "shift:1,flip,mixup:1");
    assert_eq!(also.images_in(&pool).data(), images.data());
    assert_eq!(also.targets_in(&pool, 0, 5).data(), targets.data());
    assert!(also.labels().is_empty());
}

/// A set whose second image is short.
#[derive(Debug)]
struct Ragged;

impl Dataset for Ragged {
    fn len(&self) -> usize {
        2
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 2, 2]
    }

    fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError> {
        Ok((Image::Bytes(vec![0; 4 - index].into()), Target::Class(0)))
    }
}

/// A set of which one sample cannot be had, and another one panics.
#[derive(Debug)]
struct Faulty(usize);

impl Dataset for Faulty {
    fn len(&self) -> usize {
        4
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 1, 1]
    }

    fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError> {
        assert!(index != 3, "no sample\nof this number");
        if index == self.0 {
            return Err(DataError::Samples { name: "a disk".to_owned(), reason: "it is off".to_owned() });
        }
        Ok((Image::Bytes(vec![7].into()), Target::Class(0)))
    }

    fn target(&self, _: usize) -> Result<Target<'_>, DataError> {
        Ok(Target::Class(0))
    }
}

/// With and without threads.
#[test]
fn what_a_data_set_of_ones_own_does_wrong_is_an_error_with_the_sample_s_number() {
    for workers in [0, 1, 2] {
        let fault = |of| {
            let options = LoaderOptions { workers, batch_size: 1, ..LoaderOptions::default() };
            let mut epoch = DataLoader::new(Arc::new(Faulty(of)), options).unwrap().epoch(0);
            let error = epoch.find_map(Result::err).unwrap().to_string();
            assert!(epoch.next().is_none());
            error
        };
        assert_eq!(fault(1), "loader: batch 1 could not be prepared: sample 1: a disk: it is off");
        assert_eq!(fault(9), "loader: batch 3 could not be prepared: panicked: no sample of this number");
    }
}

#[test]
fn a_data_set_s_fault_is_an_error() {
    let loader = DataLoader::new(Arc::new(Ragged), LoaderOptions::default()).unwrap();
    assert_eq!(
        loader.epoch(0).next().unwrap().unwrap_err().to_string(),
        "loader: batch 0 could not be prepared: sample 1: 3 pixels, expected 1 x 2 x 2"
    );
}

#[test]
fn a_sampler_may_draw_more_than_the_set_has() {
    let weighted = WeightedRandomSampler::new(&[1.0, 0.0, 1.0], 10, 3).unwrap();
    let loader = loader(3, options()).with_sampler(weighted);
    let whole = contents(loader.epoch(1));
    assert_eq!(whole.iter().map(|(_, samples, ..)| samples.len()).collect::<Vec<_>>(), [4, 4, 2]);
    assert!(whole.iter().all(|(_, samples, ..)| samples.iter().all(|&sample| sample != 1)));
    assert_eq!(contents(loader.epoch_from(1, 1)), whole[1..]);
}

#[test]
fn waiting_is_counted() {
    let loader = loader(8, LoaderOptions { workers: 0, ..options() });
    let mut epoch = loader.epoch(0);
    assert_eq!(epoch.wait_time(), Duration::ZERO);
    let _ = epoch.by_ref().count();
    assert!(epoch.wait_time() > Duration::ZERO);
}

#[test]
fn impossible_options_are_refused() {
    let fault = |options| DataLoader::new(toy(3), options).unwrap_err().to_string();
    assert_eq!(
        fault(LoaderOptions { batch_size: 0, ..options() }),
        "arrays: batch size 0 is impossible: expected at least 1"
    );
    assert_eq!(
        fault(LoaderOptions { image_size: Some((0, 9)), ..options() }),
        "image size 0 x 9 is impossible: expected 1 to 16384 pixels a side"
    );
    for (augmentation, expected) in [
        ("shift:5", "a shift by 5 pixels: expected at most the shorter side of the images, 4 x 5"),
        ("cutout:5", "a cutout of 5 pixels: expected at most the shorter side of the images, 4 x 5"),
    ] {
        let augmentation = augmentation.parse().unwrap();
        assert_eq!(fault(LoaderOptions { augmentation, ..options() }), format!("augment: {expected}"));
    }
    let unnamed = Arc::new(ArrayDataset::new([1; 3], vec![0u8], vec![0usize]).unwrap());
    let mixup = LoaderOptions { augmentation: "mixup:1".parse().unwrap(), ..options() };
    assert_eq!(
        DataLoader::new(unnamed, mixup).unwrap_err().to_string(),
        "augment: mixup: the samples of arrays have classes: expected names of the classes, one for each"
    );
    for (mean, std) in
        [(vec![0.5], vec![0.5]), (vec![0.5; 2], vec![0.5, 0.0]), (vec![0.5, f32::NAN], vec![0.5; 2])]
    {
        let found = fault(LoaderOptions { normalization: Some(Normalization { mean, std }), ..options() });
        assert!(found.ends_with("expected 2 finite means and as many positive deviations"), "{found}");
    }
}
