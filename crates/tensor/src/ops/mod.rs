//! One file per op: its shape rule, forward pass, backward pass and tests.

mod adaptive_avg_pool2d;
mod avg_pool2d;
mod conv2d;
mod dropout;
mod linear;
mod max_pool2d;
mod pool_window;
mod relu;
mod reshape;
mod softmax_cross_entropy;
mod sum_slice;

pub use adaptive_avg_pool2d::AdaptiveAvgPool2d;
pub use avg_pool2d::AvgPool2d;
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub use linear::Linear;
pub use max_pool2d::MaxPool2d;
pub use relu::Relu;
pub use reshape::{Flatten, Reshape};
pub use softmax_cross_entropy::SoftmaxCrossEntropy;
