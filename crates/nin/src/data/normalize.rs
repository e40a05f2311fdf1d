//! From 8-bit pixels to the numbers that a network sees.
//!
//! As `torchvision.transforms`: a pixel p becomes p / 255 (`ToTensor`), then, if asked for, (p / 255 - mean)
//! / std of its channel (`Normalize`), each step rounded to f32. There are only 256 pixels, so the result is
//! looked up in a table.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dataset::{Dataset, Image};
use super::error::DataError;

/// The mean that is subtracted from the pixels of each channel and the deviation that divides them, after division by 255.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalization {
    /// The mean of each channel, in units of 255 if pixels have 8 bits.
    pub mean: Vec<f32>,
    /// The standard deviation of each channel, in the same units; positive.
    pub std: Vec<f32>,
}

impl Normalization {
    /// Mean and standard deviation (of the population) of each channel of `dataset`, over all its pixels as
    /// published, before any resizing.
    ///
    /// Numbers are added in f64, in a fixed order; sums of 8-bit pixels and of their squares are exact. A channel whose pixels
    /// are all the same would have deviation 0; it gets 1 (of 255, if pixels have 8 bits), and becomes 0 everywhere.
    ///
    /// # Errors
    /// As [`Dataset::get`].
    pub fn of(dataset: &dyn Dataset) -> Result<Normalization, DataError> {
        let [channels, h, w] = dataset.image_shape();
        let (plane, n) = (h * w, dataset.len());
        // Runs of samples, so that files that must be decoded again are decoded by all threads. Their sums are added in order.
        let runs = n.div_ceil(RUN);
        let run = |run: usize| {
            let (mut sums, mut has_bytes) = (vec![(0.0, 0.0); channels], false);
            for index in run * RUN..n.min((run + 1) * RUN) {
                let image = dataset.get(index)?.0;
                has_bytes = matches!(image, Image::Bytes(_));
                match image {
                    Image::Bytes(pixels) => add(&mut sums, plane, &pixels),
                    Image::Floats(pixels) => add(&mut sums, plane, &pixels),
                }
            }
            Ok((sums, has_bytes))
        };
        let runs = (0..runs).into_par_iter().map(run).collect::<Result<Vec<_>, DataError>>()?;
        // All samples of a set are of one kind.
        let has_bytes = runs.first().is_some_and(|run| run.1);
        let mut sums = vec![(0.0, 0.0); channels];
        for (own, _) in runs {
            for ((sum, squares), (own_sum, own_squares)) in sums.iter_mut().zip(own) {
                *sum += own_sum;
                *squares += own_squares;
            }
        }
        let (unit, count) = (if has_bytes { 255.0 } else { 1.0 }, (n * plane) as f64);
        let moments = sums.iter().map(|&(sum, squares)| {
            let mean = sum / count;
            let variance = (squares / count - mean * mean).max(0.0);
            let std = if variance == 0.0 { unit } else { variance.sqrt() };
            ((mean / unit) as f32, (std / unit) as f32)
        });
        let (mean, std) = moments.unzip();
        Ok(Normalization { mean, std })
    }
}

/// Samples whose pixels are added up by one thread.
const RUN: usize = 1024;

/// Adds the pixels of each plane and their squares to its channel's sums. Those of a plane of 8-bit pixels, of which there are at
/// most 2^28 (`resize::MAX_SIDE` squared), are whole numbers that f64 holds.
fn add<P: Copy + Into<f64>>(sums: &mut [(f64, f64)], plane: usize, pixels: &[P]) {
    for ((sum, squares), pixels) in sums.iter_mut().zip(pixels.chunks_exact(plane)) {
        let numbers = || pixels.iter().map(|&pixel| pixel.into());
        *sum += numbers().sum::<f64>();
        *squares += numbers().map(|number| number * number).sum::<f64>();
    }
}

/// The value of each of the 256 pixels, for each channel.
#[derive(Debug, Clone)]
pub(crate) struct PixelTable {
    tables: Vec<[f32; 256]>,
    /// For pixels that are numbers already.
    normalization: Option<Normalization>,
}

impl PixelTable {
    /// The table for `channels` channels; `None` only divides by 255. Refuses a normalization that is not for that many channels,
    /// with a mean that is not finite or a deviation that is not positive and finite.
    pub(crate) fn new(
        channels: usize,
        normalization: Option<&Normalization>,
    ) -> Result<PixelTable, DataError> {
        if let Some(Normalization { mean, std }) = normalization {
            let sound = mean.len() == channels
                && std.len() == channels
                && mean.iter().all(|m| m.is_finite())
                && std.iter().all(|s| *s > 0.0 && s.is_finite());
            if !sound {
                return Err(DataError::Options(format!(
                    "normalization with means {mean:?} and deviations {std:?}: expected {channels} finite means and as many \
                     positive deviations"
                )));
            }
        }
        let value = |channel: usize, pixel: usize| {
            let scaled = pixel as f32 / 255.0;
            normalization.map_or(scaled, |n| (scaled - n.mean[channel]) / n.std[channel])
        };
        let tables = (0..channels).map(|c| std::array::from_fn(|pixel| value(c, pixel))).collect();
        Ok(PixelTable { tables, normalization: normalization.cloned() })
    }

    /// Brings numbers (n x C x H x W, `plane` = H x W) to mean 0 and standard deviation 1, if there is a normalization. They are
    /// not divided by 255.
    pub(super) fn normalize(&self, plane: usize, values: &mut [f32]) {
        let Some(Normalization { mean, std }) = &self.normalization else { return };
        let channels = mean.iter().zip(std).cycle();
        for (values, (mean, std)) in values.chunks_mut(plane).zip(channels) {
            values.iter_mut().for_each(|value| *value = (*value - mean) / std);
        }
    }

    /// Writes the values of `pixels` (n x C x H x W, `plane` = H x W) to `values`, which are as many.
    pub(crate) fn apply(&self, plane: usize, pixels: &[u8], values: &mut [f32]) {
        assert_eq!(pixels.len(), values.len(), "as many values as pixels");
        let channels = self.tables.iter().cycle();
        let planes = pixels.chunks(plane).zip(values.chunks_mut(plane));
        for ((pixels, values), table) in planes.zip(channels) {
            for (value, &pixel) in values.iter_mut().zip(pixels) {
                *value = table[usize::from(pixel)];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::data::{ArrayDataset, Target, files};

    fn set(channels: usize, pixels: &[u8]) -> ArrayDataset {
        let labels = vec![0usize; pixels.len() / 2 / channels];
        ArrayDataset::new([channels, 1, 2], pixels.to_vec(), labels).unwrap()
    }

    #[test]
    fn statistics_are_taken_per_channel() {
        // Channel 0: 0, 10, 20, 30 (mean 15, variance 125); channel 1: always 51.
        let n = Normalization::of(&set(2, &[0, 10, 51, 51, 20, 30, 51, 51])).unwrap();
        assert_eq!(n.mean, [15.0 / 255.0, 0.2]);
        assert_eq!(n.std, [(125.0f64.sqrt() / 255.0) as f32, 1.0]);
        // The same as numbers, which are not divided by 255.
        let numbers = [0.0f32, 10.0, 51.0, 51.0, 20.0, 30.0, 51.0, 51.0];
        let n = Normalization::of(&ArrayDataset::new([2, 1, 2], numbers.to_vec(), vec![0usize; 2]).unwrap())
            .unwrap();
        assert_eq!((n.mean, n.std), (vec![15.0, 51.0], vec![125.0f64.sqrt() as f32, 1.0]));
    }

    /// Images that may be asked for once each: of a folder, each is decoded from its file.
    #[derive(Debug)]
    struct Once(ArrayDataset, Vec<AtomicBool>);

    impl Dataset for Once {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn image_shape(&self) -> [usize; 3] {
            self.0.image_shape()
        }

        fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError> {
            assert!(!self.1[index].swap(true, Ordering::Relaxed), "image {index} is read twice");
            self.0.get(index)
        }
    }

    #[test]
    fn statistics_take_each_image_once() {
        let pixels: Vec<u8> = (0..2 * 1500).map(|i| (i % 251) as u8).collect();
        let all = set(1, &pixels);
        let expected = Normalization::of(&all).unwrap();
        let once = Once(all, (0..1500).map(|_| AtomicBool::new(false)).collect());
        assert_eq!(Normalization::of(&once).unwrap(), expected);
    }

    /// NumPy over the same files: mean 0.2862821093437375, standard deviation 0.35368150622031364.
    #[test]
    fn statistics_of_the_bundled_set() {
        let train = files::bundled().unwrap().train;
        let n = Normalization::of(&train).unwrap();
        assert!((f64::from(n.mean[0]) - 0.286_282_109_343_737_5).abs() < 3e-8, "{n:?}");
        assert!((f64::from(n.std[0]) - 0.353_681_506_220_313_64).abs() < 3e-8, "{n:?}");
    }

    #[test]
    fn values_are_those_of_the_formula() {
        let pixels: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        let mut values = vec![f32::NAN; 512];
        PixelTable::new(1, None).unwrap().apply(512, &pixels, &mut values);
        assert!(values.iter().zip(&pixels).all(|(&v, &p)| v.to_bits() == (f32::from(p) / 255.0).to_bits()));

        let n = Normalization { mean: vec![0.25, 0.5], std: vec![0.5, 2.0] };
        let mut values = vec![f32::NAN; 8];
        let pixels = [0, 255, 51, 102, 255, 0, 102, 51];
        PixelTable::new(2, Some(&n)).unwrap().apply(2, &pixels, &mut values);
        for (i, (value, pixel)) in values.into_iter().zip(pixels).enumerate() {
            let (mean, std) = [(0.25, 0.5), (0.5, 2.0)][i / 2 % 2];
            assert_eq!(value, (f32::from(pixel) / 255.0 - mean) / std);
        }
    }
}
