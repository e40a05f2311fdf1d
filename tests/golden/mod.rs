//! Ops, networks, optimizers and files against PyTorch.

mod element_types;
mod models;
mod ops;
mod optimizers;
mod whitening;
