//! Data, networks and places of files that tests of several modules have in common.

use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tensor::init::Init;

use crate::data::{ArrayDataset, Batch, DataLoader, Dataset, LoaderOptions};
use crate::nn::{Flatten, Linear, Sequential, initialize};

/// Bytes without any pattern that a wrong place would preserve.
pub(crate) fn noise<P: From<u8>>(len: usize) -> Vec<P> {
    (0..len as u32).map(|i| P::from((i.wrapping_mul(2_654_435_761) >> 24) as u8)).collect()
}

/// Numbers from -1 to 1, of which neighbors differ.
pub(crate) fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 37 % 19) as f32 / 9.0 - 1.0).collect()
}

/// Images of C x H x W such numbers, one for each class.
pub(crate) fn images(shape: [usize; 3], classes: impl IntoIterator<Item = usize>) -> ArrayDataset {
    let classes: Vec<usize> = classes.into_iter().collect();
    let pixels = numbers(classes.len() * shape.iter().product::<usize>());
    ArrayDataset::new(shape, pixels, classes).unwrap()
}

/// Batches of some data in their order.
pub(crate) fn loader(data: &(impl Dataset + Clone + 'static), batch_size: usize) -> DataLoader {
    let options = LoaderOptions { batch_size, ..LoaderOptions::default() };
    DataLoader::new(Arc::new(data.clone()), options).unwrap()
}

/// All of the data as one batch.
pub(crate) fn batch(data: &(impl Dataset + Clone + 'static)) -> Batch {
    loader(data, data.len()).epoch(0).next().unwrap().unwrap()
}

/// A fully connected layer on all numbers of an image.
pub(crate) fn linear(inputs: usize, outputs: usize) -> Sequential<f32> {
    let mut net = Sequential::new().with(Flatten).with(Linear::new(inputs, outputs));
    initialize(&mut net, Init::HeNormal, Init::Constant(0.3), 1);
    net
}

/// The place of a file in a folder of its own.
pub(crate) fn place(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}
