//! Layers: [`Module`] is what a network is made of, [`Sequential`] runs one layer after the other, [`Parameter`] is what
//! training changes, [`Planned`] keeps a network's plans.

mod layers;
mod module;
mod norm;
mod parameter;
mod planned;
mod sequential;

pub use layers::{Conv2d, Dropout, Linear};
pub(crate) use module::Output;
pub use module::{
    Module, freeze, initialize, join, output_shape, parameter_count, parameters, parameters_mut, scoped,
    update_buffers,
};
pub use norm::{BatchNorm2d, GroupNorm};
pub use parameter::Parameter;
pub use planned::Planned;
pub use sequential::Sequential;
pub use tensor::ops::{
    AdaptiveAvgPool2d, AvgPool2d, Flatten, Gelu, Hardswish, LeakyRelu, MaxPool2d, Relu, Sigmoid, Tanh,
};
