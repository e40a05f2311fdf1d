//! Layers: [`Module`] is what a network is made of, [`Sequential`] runs one layer after the other, [`Parameter`] is what
//! training changes.

mod layers;
mod module;
mod parameter;
mod sequential;

pub use layers::{AvgPool2d, Conv2d, Dropout, Flatten, GlobalAvgPool2d, MaxPool2d, Relu};
pub use module::{Module, initialise, parameter_count, parameters, parameters_mut};
pub use parameter::Parameter;
pub use sequential::Sequential;
