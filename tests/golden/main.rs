//! Networks and optimizers against PyTorch; the ops are in `ops.rs`, a test of the crate `tensor`.

mod models;
mod optimizers;
