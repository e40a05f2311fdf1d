//! Layers: [`Module`] is what a network is made of, [`Sequential`] runs one layer after the other, [`Parameter`] is what
//! training changes, [`Planned`] keeps a network's plans. The ops of the `tensor` crate are here, too, since those of one input
//! are layers as they are; a layer with parameters bears the name of its op.

mod layers;
mod module;
mod norm;
mod parameter;
mod planned;
mod sequential;
mod visit;

pub use layers::{Conv2d, Dropout, Linear};
pub use module::{
    Module, bound, freeze, gradients_of, initialize, join, output_shape, parameter_count, parameters,
    parameters_mut, scoped, unfreeze, update_buffers,
};
pub(crate) use module::{Output, check_names, values};
pub use norm::{BatchNorm2d, GroupNorm};
pub use parameter::Parameter;
pub use planned::Planned;
pub use sequential::Sequential;
pub use tensor::ops::*;
pub use visit::Visit;
