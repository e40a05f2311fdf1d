//! One mini-batch: images as 8-bit pixels at the network's size, their labels, and which samples they are.

use std::sync::{Arc, Mutex, PoisonError};

use tensor::{Buffer, BufferPool, Shape, Tensor};

use super::dataset::Dataset;
use super::normalize::PixelTable;

/// The labels and sample numbers of a batch, recycled like its pixels.
#[derive(Debug, Default)]
pub(super) struct Ids {
    labels: Vec<usize>,
    samples: Vec<u64>,
}

impl Ids {
    /// Replaces the contents; `room` is the most samples that a batch has, so that no later batch needs new
    /// memory.
    pub(super) fn fill(&mut self, samples: &[usize], dataset: &Dataset, room: usize) {
        let room = room.min(dataset.len());
        self.labels.clear();
        self.labels.reserve_exact(room);
        self.labels.extend(samples.iter().map(|&sample| dataset.label(sample)));
        self.samples.clear();
        self.samples.reserve_exact(room);
        self.samples.extend(samples.iter().map(|&sample| sample as u64));
    }
}

/// A mini-batch. Its memory goes back to the loader when it is dropped.
#[derive(Debug)]
pub struct Batch {
    index: usize,
    image_shape: [usize; 3],
    pixels: Buffer<u8>,
    ids: Ids,
    table: Arc<PixelTable>,
    home: Arc<Mutex<Vec<Ids>>>,
}

impl Batch {
    pub(super) fn new(
        index: usize,
        image_shape: [usize; 3],
        pixels: Buffer<u8>,
        ids: Ids,
        table: Arc<PixelTable>,
        home: Arc<Mutex<Vec<Ids>>>,
    ) -> Batch {
        Batch { index, image_shape, pixels, ids, table, home }
    }

    /// Which batch of its epoch it is, counted from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// N, the number of samples (at least 1, which is why there is no `is_empty`).
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.ids.labels.len()
    }

    /// N x C x H x W.
    pub fn shape(&self) -> Shape {
        let [c, h, w] = self.image_shape;
        Shape::from([self.len(), c, h, w])
    }

    /// The label of each image.
    pub fn labels(&self) -> &[usize] {
        &self.ids.labels
    }

    /// What images `from..to` are to become, the input of a [`Loss`](crate::loss::Loss), with storage from `pool`: the numbers of
    /// their classes.
    ///
    /// # Panics
    /// If the range lies outside of the batch.
    pub fn targets_in(&self, pool: &Arc<BufferPool>, from: usize, to: usize) -> Tensor<f32> {
        let labels = &self.ids.labels[from..to];
        let mut targets = Tensor::empty_in(pool, [labels.len()]);
        for (target, &label) in targets.data_mut().iter_mut().zip(labels) {
            *target = label as f32;
        }
        targets
    }

    /// The data set's index of each image.
    pub fn samples(&self) -> &[u64] {
        &self.ids.samples
    }

    /// The 8-bit pixels, N x C x H x W.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Images `from..to` as the network sees them, (to - from) x C x H x W, with storage from `pool`.
    ///
    /// # Panics
    /// If the range lies outside of the batch.
    pub fn narrow_in(&self, pool: &Arc<BufferPool>, from: usize, to: usize) -> Tensor<f32> {
        assert!(from <= to && to <= self.len(), "images {from}..{to} of a batch of {}", self.len());
        let [c, h, w] = self.image_shape;
        let mut images = Tensor::empty_in(pool, [to - from, c, h, w]);
        let image = c * h * w;
        self.table.apply(h * w, &self.pixels[from * image..to * image], images.data_mut());
        images
    }

    /// All images as the network sees them, N x C x H x W, with storage from `pool`.
    pub fn images_in(&self, pool: &Arc<BufferPool>) -> Tensor<f32> {
        self.narrow_in(pool, 0, self.len())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let ids = std::mem::take(&mut self.ids);
        self.home.lock().unwrap_or_else(PoisonError::into_inner).push(ids);
    }
}
