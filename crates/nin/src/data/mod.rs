//! Data: from files on disk to batches of N x C x H x W tensors.
//!
//! The way of an image: [`idx`] reads the files, a [`Dataset`] has the images and their targets ([`ArrayDataset`] in memory, or
//! one's own; `ImageFolder` on disk, with the feature `image`), [`load`](mod@load) knows where each data set lies, and `download`
//! (a feature) how to fetch one. [`augment`] varies an image, [`resize`] brings it to the network's size, [`normalize`] makes
//! numbers of its pixels, or [`mod@whiten`], before all this, of a whole image. A [`sampler`] draws which samples an epoch has.
//! [`loader`] does all this for one [`batch`] after another, ahead of the training, on threads of its own.

mod affine;
pub mod array;
pub mod augment;
pub mod batch;
mod cifar;
pub mod dataset;
#[cfg(feature = "download")]
pub mod download;
#[cfg(feature = "image")]
mod encoded;
pub mod error;
mod files;
#[cfg(feature = "image")]
pub mod folder;
pub mod idx;
pub mod kind;
pub mod load;
pub mod loader;
pub mod normalize;
pub mod observer;
#[cfg(feature = "image")]
mod open;
pub mod picture;
mod prefetch;
mod record;
pub mod resize;
pub mod sampler;
pub mod whiten;

pub use array::ArrayDataset;
pub use augment::{Augmentation, Step};
pub use batch::Batch;
pub use dataset::{Dataset, HoldOut, Image, Splits, Subset, Target};
pub use error::DataError;
#[cfg(feature = "image")]
pub use folder::{FolderOptions, ImageFolder};
pub use kind::{DatasetKind, DatasetName};
pub use load::{DataSources, load};
pub use loader::{DataLoader, Epoch, LoaderOptions};
pub use normalize::Normalization;
pub use observer::{DataEvent, Observer};
#[cfg(feature = "image")]
pub use open::open;
pub use picture::Picture;
pub use record::{DataMarks, DataRecord};
pub use sampler::Sampler;
pub use whiten::{Whiten, Whitening};
