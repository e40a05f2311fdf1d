//! One file per op: its shape rule, forward pass, backward pass and tests.

mod conv2d;
mod relu;

pub use conv2d::Conv2d;
pub use relu::Relu;
