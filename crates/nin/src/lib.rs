//! Network in Network on the CPU: models, data, optimizer and training loop. The command line is the crate `nin-cli`.
//!
//! A training loop of one's own:
//!
//! ```
//! use std::sync::Arc;
//!
//! use nin::data::{DataLoader, DataSources, DatasetKind, LoaderOptions, load};
//! use nin::loss::CrossEntropy;
//! use nin::nn::{AdaptiveAvgPool2d, Conv2d, Flatten, Relu, Sequential, initialize};
//! use nin::optim::{AdamW, Optimizer, Schedule};
//! use nin::tensor::init::Init;
//! use nin::train::{StepSettings, Workers};
//!
//! let data = load(DatasetKind::FashionMnistMini, &DataSources::new(None))?.train;
//! # let data = nin::data::Subset::new(Arc::new(data), 0..64);
//! let mut net = Sequential::new().with(Conv2d::new(1, 10, 3, 2, 1)).with(Relu).with(AdaptiveAvgPool2d::GLOBAL).with(Flatten);
//! initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 7);
//! let loader = DataLoader::new(Arc::new(data), LoaderOptions { batch_size: 32, shuffle: true, ..Default::default() })?;
//! let (loss, mut optimizer, mut workers) = (CrossEntropy::default(), AdamW::new(1e-3), Workers::new(2)?);
//! let schedule = Schedule::Cosine.over(2 * loader.batches_per_epoch() as u64);
//! let mut steps = 0..;
//! for epoch in 0..2 {
//!     for batch in loader.epoch(epoch) {
//!         let sums = workers.step(&net, &batch?, &loss, StepSettings { seed: 7, epoch })?;
//!         optimizer.set_learning_rate(1e-3 * schedule.factor(steps.next().unwrap_or(0)));
//!         workers.gradients(|gradients| optimizer.step(&mut net, gradients.into()))?;
//!         println!("loss {:.4}, accuracy {:.3}", sums.mean_loss(), sums.accuracy());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The way of a batch: [`data`] reads the images and hands out batches, [`train::Workers`] cuts each into micro-batches, a
//! micro-batch's tape runs the [`models`]' layers ([`nn`]) forward, the [`loss`], and both backward, the gradients are summed and
//! an [`optim::Optimizer`] moves the parameters, [`train::RunDir`] writes down the figures and [`checkpoint`] the weights.
#![forbid(unsafe_code)]

mod card;
pub mod checkpoint;
mod classifier;
pub mod data;
pub mod disk;
pub mod loss;
pub mod models;
pub mod names;
pub mod nn;
pub mod onnx;
pub mod optim;
mod protobuf;
pub mod summary;
pub mod tensorboard;
#[cfg(test)]
mod testing;
pub mod train;
mod weights_file;

pub use card::{JudgedBy, ModelCard};
pub use classifier::{Answer, BlockMaps, ClassMaps, Classifier};
pub use {autograd, tensor};

/// The Rust of the documents for readers, so that the tests compile it.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/adding-an-op.md")]
    struct AddingAnOp;
    #[doc = include_str!("../../../docs/chapter.md")]
    struct Chapter;
    #[doc = include_str!("../../../docs/from-pytorch.md")]
    struct FromPytorch;
}
