//! The layers with parameters or random numbers; those without are the ops themselves.

use autograd::Var;
use tensor::{Element, Shape, ops};

use super::module::{Module, Output};
use super::parameter::Parameter;

/// Convolution: weight O x C/groups x K x K, bias O. See [`ops::Conv2d`].
#[derive(Debug)]
pub struct Conv2d<T: Element> {
    weight: Parameter<T>,
    bias: Option<Parameter<T>>,
    op: ops::Conv2d,
}

impl<T: Element> Conv2d<T> {
    /// A square window of `kernel`, with zeros as weights until [`initialize`](super::initialize) fills them.
    #[must_use]
    pub fn new(c_in: usize, c_out: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let op = ops::Conv2d { stride: [stride; 2], padding: [padding; 2], ..ops::Conv2d::default() };
        Self::with_op(c_in, c_out, [kernel; 2], op)
    }

    /// Any window, stride, padding, dilation and groups.
    ///
    /// # Panics
    /// If `c_in` does not divide into the groups.
    #[must_use]
    pub fn with_op(c_in: usize, c_out: usize, kernel: [usize; 2], op: ops::Conv2d) -> Self {
        assert!(
            op.groups > 0 && c_in.is_multiple_of(op.groups),
            "C = {c_in} must divide into {} groups",
            op.groups
        );
        let shape = Shape::from([c_out, c_in / op.groups, kernel[0], kernel[1]]);
        let fans = tensor::init::fans(shape);
        let bias = Some(Parameter::new([c_out], false, fans));
        Self { weight: Parameter::new(shape, true, fans), bias, op }
    }

    /// The same without a bias, as before a normalization, which has one.
    #[must_use]
    pub fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }
}

impl<T: Element> Module<T> for Conv2d<T> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        let (weight, bias) = (self.weight.on(&x), self.bias.as_ref().map(|bias| bias.on(&x)));
        x.conv2d(weight, bias, self.op)
    }

    crate::visit_fields!(T: weight, bias);
}

/// Sets elements to 0 with probability `p` while training. See [`ops::Dropout`].
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The probability, at least 0 and below 1.
    pub p: f64,
}

impl<T: Element> Module<T> for Dropout {
    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.dropout(self.p)
    }
}

/// The fully connected layer with a bias: weight OUT x IN, bias OUT, N x IN to N x OUT. See [`ops::Linear`].
#[derive(Debug)]
pub struct Linear<T: Element> {
    weight: Parameter<T>,
    bias: Parameter<T>,
}

impl<T: Element> Linear<T> {
    /// IN to OUT features, with zeros as weights until [`initialize`](super::initialize) fills them.
    #[must_use]
    pub fn new(features_in: usize, features_out: usize) -> Self {
        let shape = Shape::from([features_out, features_in]);
        let fans = tensor::init::fans(shape);
        Self { weight: Parameter::new(shape, true, fans), bias: Parameter::new([features_out], false, fans) }
    }
}

impl<T: Element> Module<T> for Linear<T> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        let (weight, bias) = (self.weight.on(&x), self.bias.on(&x));
        x.linear(weight, Some(bias))
    }

    crate::visit_fields!(T: weight, bias);
}

#[cfg(test)]
mod tests {
    use autograd::{Context, Tape};
    use tensor::Tensor;

    use super::*;
    use crate::nn::{
        AdaptiveAvgPool2d, Flatten, Sequential, Sigmoid, Tanh, output_shape, parameters, parameters_mut,
    };
    use crate::summary::layers;

    /// Two features of 2 x 2 windows through every layer that the three networks do without.
    #[test]
    fn a_fully_connected_network_by_hand() {
        let mut network = Sequential::<f64>::new()
            .with(AdaptiveAvgPool2d { output: [1, 2] })
            .with(Flatten)
            .with(Linear::new(2, 3))
            .with(Tanh)
            .with(Sigmoid);
        let names: Vec<_> = parameters(&network).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["2.weight", "2.bias"]);
        for (_, parameter) in parameters_mut(&mut network) {
            parameter.value = Tensor::from_fn(parameter.value.shape(), |i| 0.1 * (i as f64 + 1.0));
        }
        let x = Tensor::from_slice([1, 1, 2, 4], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).unwrap();
        let tape = Tape::new(Context::default());
        let output = network.forward(tape.constant(x.clone())).unwrap();
        assert_eq!(output_shape(&network, x.shape()).unwrap(), output.shape());
        // The means of columns 0 and 1 and of columns 2 and 3 are 2.5 and 4.5.
        for (row, &found) in output.value().data().iter().enumerate() {
            let r = row as f64;
            let linear = 2.5 * 0.1 * (2.0 * r + 1.0) + 4.5 * 0.1 * (2.0 * r + 2.0) + 0.1 * (r + 1.0);
            let expected = 1.0 / (1.0 + (-linear.tanh()).exp());
            assert!((found - expected).abs() < 1e-12, "output {row}: {found}, expected {expected}");
        }
        let kinds: Vec<_> =
            layers(&network, x.shape()).unwrap().into_iter().map(|layer| layer.kind).collect();
        assert_eq!(kinds, ["AdaptiveAvgPool2d(1x2)", "Flatten", "Linear(2, 3)", "Tanh", "Sigmoid"]);
        let error = output_shape(&network, [1, 2, 4, 4].into()).unwrap_err().to_string();
        assert_eq!(
            error,
            "linear: layer 2, Linear(2, 3): weight expects 2 input features, input has 4 (its input is 1 x 4)"
        );
    }
}
