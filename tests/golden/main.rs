//! Networks, optimizers and files against PyTorch; the ops are in `ops.rs`, a test of the crate `tensor`.

mod element_types;
mod models;
mod optimizers;
mod whitening;
