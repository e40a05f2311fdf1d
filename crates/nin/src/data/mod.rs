//! Data: from files on disk to batches of N x C x H x W tensors.
//!
//! The way of an image: [`idx`] reads the files, [`dataset`] holds the 8-bit images and their labels, [`files`] knows
//! where each data set lies.

pub mod dataset;
pub mod error;
pub mod files;
pub mod idx;
pub mod kind;

pub use dataset::{Dataset, DatasetInfo, Splits};
pub use error::DataError;
pub use kind::DatasetKind;
