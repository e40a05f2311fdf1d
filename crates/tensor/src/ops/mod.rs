//! One file per op: its shape rule, forward pass, backward pass and tests.

mod adaptive_avg_pool2d;
mod add;
mod avg_pool2d;
mod broadcast;
mod conv2d;
mod dropout;
pub(crate) mod linear;
mod map;
mod max_pool2d;
mod mul;
mod pool_window;
mod reduction;
mod relu;
mod reshape;
mod scale;
mod sigmoid;
mod softmax;
mod softmax_cross_entropy;
mod sum_slice;
mod tanh;

pub use adaptive_avg_pool2d::AdaptiveAvgPool2d;
pub use add::Add;
pub use avg_pool2d::AvgPool2d;
pub use conv2d::Conv2d;
pub use dropout::Dropout;
pub use linear::Linear;
pub use max_pool2d::MaxPool2d;
pub use mul::Mul;
pub use reduction::{Mean, Sum};
pub use relu::Relu;
pub use reshape::{Flatten, Reshape};
pub use scale::Scale;
pub use sigmoid::Sigmoid;
pub use softmax::Softmax;
pub use softmax_cross_entropy::SoftmaxCrossEntropy;
pub use tanh::Tanh;
