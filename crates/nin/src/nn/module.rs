//! [`Module`]: what every layer and network is.

use std::fmt::Debug;

use autograd::{AutogradError, Var};
use tensor::conv::ConvGeometry;
use tensor::init::Init;
use tensor::{Element, Shape, ShapeError, Tensor};

use super::layers::Conv2d;
use super::parameter::Parameter;
use crate::optim::matches;

/// A layer or a network: a function of one variable with parameters of its own.
pub trait Module<T: Element>: Debug + Send + Sync {
    /// The kind and its settings, as a summary shows it: `Conv2d(96, 256, 5x5, padding 2)`.
    fn kind(&self) -> String;

    /// Applies the layer.
    ///
    /// # Errors
    /// [`AutogradError::Shape`] if the input does not fit.
    fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError>;

    /// The shape of the output for an input of this shape.
    ///
    /// # Errors
    /// [`ShapeError`] if the input does not fit.
    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError>;

    /// Calls `visit` with the name and value of each parameter, in the order of PyTorch's `state_dict`, each name beginning with
    /// `prefix`.
    fn visit<'a>(&'a self, prefix: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        let _ = (prefix, visit);
    }

    /// [`Module::visit`] for parameters to be changed.
    fn visit_mut<'a>(&'a mut self, prefix: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        let _ = (prefix, visit);
    }

    /// The layers that it is made of, applied one after the other; empty for a layer.
    fn children(&self) -> &[Box<dyn Module<T>>] {
        &[]
    }

    /// Applies the layer and the ReLU after it at once, if it can do that: `None` if not, with `x` unused.
    ///
    /// # Errors
    /// As [`Module::forward`].
    fn forward_with_relu<'t>(&self, x: &Var<'t, T>) -> Option<Result<Var<'t, T>, AutogradError>> {
        let _ = x;
        None
    }

    /// Whether [`Module::forward_after_relu`] costs no more than the layer alone, so that the layer is left the ReLU before it.
    fn takes_relu_before(&self) -> bool {
        false
    }

    /// Applies a ReLU and then the layer.
    ///
    /// # Errors
    /// As [`Module::forward`].
    fn forward_after_relu<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        self.forward(x.relu()?)
    }

    /// The sizes of the convolution that this layer is for an input of this shape: `None` if it is another kind of layer or the
    /// input does not fit.
    fn convolution(&self, input: Shape) -> Option<ConvGeometry> {
        let _ = input;
        None
    }

    /// This layer as a convolution, which the 1x1 convolutions after it may join; `None` if it is another kind of layer.
    fn as_conv2d(&self) -> Option<&Conv2d<T>> {
        None
    }

    /// Whether this is a ReLU, which the layer before may apply.
    fn is_relu(&self) -> bool {
        false
    }
}

/// Every parameter with its name, in the order of PyTorch's `state_dict`.
pub fn parameters<T: Element>(module: &dyn Module<T>) -> Vec<(String, &Parameter<T>)> {
    let mut all = Vec::new();
    module.visit("", &mut |name, parameter| all.push((name, parameter)));
    all
}

/// Every parameter with its name, to be changed.
pub fn parameters_mut<T: Element>(module: &mut dyn Module<T>) -> Vec<(String, &mut Parameter<T>)> {
    let mut all = Vec::new();
    module.visit_mut("", &mut |name, parameter| all.push((name, parameter)));
    all
}

/// Freezes the parameters whose names match a pattern, in which `*` stands for any text (`0.*`), and says how many they are: no
/// gradient of theirs is computed, and optimizers leave them as they are (`requires_grad = False` in PyTorch). What comes before
/// the first parameter that learns has no backward pass at all.
pub fn freeze<T: Element>(module: &mut dyn Module<T>, pattern: &str) -> usize {
    let mut frozen = 0;
    for (name, parameter) in parameters_mut(module) {
        if matches(pattern, &name) {
            parameter.requires_grad = false;
            frozen += 1;
        }
    }
    frozen
}

/// The number of numbers that a network has.
pub fn parameter_count<T: Element>(module: &dyn Module<T>) -> usize {
    parameters(module).iter().map(|(_, parameter)| parameter.value.len()).sum()
}

/// Fills every parameter anew: weights by one scheme, biases by another. Each draws from its own stream of the seed. A
/// [`Parameter::constant`] becomes that constant.
pub fn initialise<T: Element>(module: &mut dyn Module<T>, weights: Init, biases: Init, seed: u64) {
    for (index, (_, parameter)) in parameters_mut(module).into_iter().enumerate() {
        if let Some(value) = parameter.constant {
            parameter.value = Tensor::full(parameter.value.shape(), T::from_f64(value));
            continue;
        }
        let scheme = if parameter.decays { weights } else { biases };
        parameter.value = scheme.fill(parameter.value.shape(), parameter.fans, seed, index as u64);
    }
}
