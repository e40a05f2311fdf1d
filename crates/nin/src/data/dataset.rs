//! [`Dataset`]: images with their targets.

use std::borrow::Cow;
use std::fmt::Debug;

use super::array::ArrayDataset;
use super::error::DataError;

/// Images of one size, each with a target. Implement it for data of one's own; [`DataLoader`](super::DataLoader) does the rest.
pub trait Dataset: Debug + Send + Sync {
    /// The name in messages.
    fn name(&self) -> &str {
        "data set"
    }

    /// The number of samples, N.
    fn len(&self) -> usize;

    /// Tells whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// C, H and W of every image.
    fn image_shape(&self) -> [usize; 3];

    /// The image and the target of sample `index`, which is below [`Dataset::len`]. All images have pixels of one kind, all
    /// targets are of one kind and length. What is in memory is borrowed: nothing is copied.
    fn get(&self, index: usize) -> (Image<'_>, Target<'_>);
}

/// The pixels of an image, C x H x W, or of many.
#[derive(Debug, Clone, PartialEq)]
pub enum Image<'a> {
    /// 8 bits each. The network sees them divided by 255, then normalized.
    Bytes(Cow<'a, [u8]>),
    /// Numbers. The network sees them as they are, or normalized.
    Floats(Cow<'a, [f32]>),
}

impl From<Vec<u8>> for Image<'_> {
    fn from(pixels: Vec<u8>) -> Self {
        Self::Bytes(pixels.into())
    }
}

impl From<Vec<f32>> for Image<'_> {
    fn from(pixels: Vec<f32>) -> Self {
        Self::Floats(pixels.into())
    }
}

/// The answer that a network is to give for an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Target<'a> {
    /// The number of its class.
    Class(usize),
    /// Dense values, K of them.
    Values(Cow<'a, [f32]>),
}

/// The error of a set without samples or pixels.
pub(super) fn empty(name: &str, n: usize, [c, h, w]: [usize; 3]) -> DataError {
    let reason = format!("empty data set: N = {n}, C = {c}, H = {h}, W = {w} (each must be at least 1)");
    DataError::Samples { name: name.to_owned(), reason }
}

/// The two halves of a data set.
#[derive(Debug, Clone)]
pub struct Splits {
    /// The images to learn from.
    pub train: ArrayDataset,
    /// The images to be judged by.
    pub test: ArrayDataset,
}
