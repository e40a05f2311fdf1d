//! Layers: [`Module`] is what a network is made of, [`Sequential`] runs one layer after the other, [`Parameter`] is what
//! training changes.

mod layers;
mod module;
mod parameter;
mod sequential;

pub use layers::{
    AdaptiveAvgPool2d, AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, Linear, MaxPool2d, Relu,
    Sigmoid, Tanh,
};
pub use module::{Module, initialise, parameter_count, parameters, parameters_mut};
pub use parameter::Parameter;
pub use sequential::Sequential;
pub(crate) use sequential::{relu_is_left, relu_is_taken};
