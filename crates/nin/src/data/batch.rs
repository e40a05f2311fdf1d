//! One mini-batch: images at the network's size, their targets, and which samples they are.

use std::sync::Arc;

use tensor::{Buffer, BufferPool, Shape, Tensor};

use super::normalize::PixelTable;

/// A mini-batch. The memory of its pixels goes back to the loader when it is dropped.
#[derive(Debug)]
pub struct Batch {
    pub(super) image_shape: [usize; 3],
    pub(super) pixels: Pixels,
    /// The classes, N, if targets are or were classes; otherwise empty.
    pub(super) labels: Vec<usize>,
    /// The targets, N x K, if they are dense; otherwise empty.
    pub(super) values: Buffer<f32>,
    pub(super) samples: Vec<u64>,
    pub(super) table: Arc<PixelTable>,
}

/// The pixels of a batch, N x C x H x W.
#[derive(Debug)]
pub(super) enum Pixels {
    Bytes(Buffer<u8>),
    Floats(Buffer<f32>),
}

impl Batch {
    /// N, the number of samples (at least 1, which is why there is no `is_empty`).
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// N x C x H x W.
    pub fn shape(&self) -> Shape {
        let [c, h, w] = self.image_shape;
        Shape::from([self.len(), c, h, w])
    }

    /// The class of each image, of images that are mixed ([`Step::Mixup`](super::augment::Step::Mixup)) that of the larger share;
    /// empty if the data set's targets are dense.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The targets of images `from..to`, the input of a [`Loss`](crate::loss::Loss), with storage from `pool`: the numbers of
    /// their classes, or dense values, (to - from) x K, such as the classes' shares in images that are mixed.
    ///
    /// # Panics
    /// If the range lies outside of the batch.
    pub fn targets_in(&self, pool: &Arc<BufferPool>, from: usize, to: usize) -> Tensor<f32> {
        if !self.values.is_empty() {
            let width = self.values.len() / self.len();
            let mut targets = Tensor::empty_in(pool, [to - from, width]);
            targets.data_mut().copy_from_slice(&self.values[from * width..to * width]);
            return targets;
        }
        let mut targets = Tensor::empty_in(pool, [to - from]);
        for (target, &label) in targets.data_mut().iter_mut().zip(&self.labels[from..to]) {
            *target = label as f32;
        }
        targets
    }

    /// The data set's index of each image.
    pub fn samples(&self) -> &[u64] {
        &self.samples
    }

    /// The 8-bit pixels, N x C x H x W; empty if pixels are numbers.
    pub fn pixels(&self) -> &[u8] {
        match &self.pixels {
            Pixels::Bytes(bytes) => bytes,
            Pixels::Floats(_) => &[],
        }
    }

    /// Images `from..to` as the network sees them, (to - from) x C x H x W, with storage from `pool`.
    ///
    /// # Panics
    /// If the range lies outside of the batch.
    pub fn narrow_in(&self, pool: &Arc<BufferPool>, from: usize, to: usize) -> Tensor<f32> {
        assert!(from <= to && to <= self.len(), "images {from}..{to} of a batch of {}", self.len());
        let [c, h, w] = self.image_shape;
        let mut images = Tensor::empty_in(pool, [to - from, c, h, w]);
        let place = from * c * h * w..to * c * h * w;
        match &self.pixels {
            Pixels::Bytes(bytes) => self.table.apply(h * w, &bytes[place], images.data_mut()),
            Pixels::Floats(floats) => {
                images.data_mut().copy_from_slice(&floats[place]);
                self.table.normalize(h * w, images.data_mut());
            }
        }
        images
    }

    /// All images as the network sees them, N x C x H x W, with storage from `pool`.
    pub fn images_in(&self, pool: &Arc<BufferPool>) -> Tensor<f32> {
        self.narrow_in(pool, 0, self.len())
    }
}
