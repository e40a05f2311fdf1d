//! Layers: [`Module`] is what a network is made of, [`Sequential`] runs one layer after the other, [`Parameter`] is what
//! training changes.

mod activations;
mod layers;
mod module;
mod norm;
mod parameter;
mod pooling;
mod sequential;

pub use activations::{Gelu, Hardswish, LeakyRelu};
pub use layers::{Conv2d, Dropout, Flatten, Linear, Relu, Sigmoid, Tanh};
pub use module::{Module, freeze, initialise, parameter_count, parameters, parameters_mut};
pub use norm::{BatchNorm2d, GroupNorm};
pub use parameter::Parameter;
pub use pooling::{AdaptiveAvgPool2d, AvgPool2d, GlobalAvgPool2d, MaxPool2d};
pub use sequential::Sequential;
#[doc(hidden)]
pub use sequential::{relu_is_left, relu_is_taken};
