//! Network in Network on the CPU: models, data, optimiser, training loop and command line.
//!
//! The way of a batch: [`data`] reads the images and hands out batches, [`train::Lanes`] cuts each into shards, a shard's
//! tape runs the [`models`]' layers ([`nn`]) forward and backward, the gradients are summed and [`optim::Sgd`] moves the
//! parameters, [`train::RunDir`] writes down the figures and [`checkpoint`] the weights.
#![forbid(unsafe_code)]

pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod inspect;
pub mod loss;
pub mod models;
pub mod names;
pub mod nn;
pub mod optim;
pub mod pictures;
pub mod summary;
pub mod train;

/// The Rust of the documents for readers, so that the tests compile it.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/adding-an-op.md")]
    struct AddingAnOp;
}
