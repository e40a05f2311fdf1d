//! The layers but for pooling: an op of the `tensor` crate each, with its parameters if it has any.

use autograd::{AutogradError, Var};
use tensor::conv::ConvGeometry;
use tensor::{Element, Op, Shape, ShapeError, ops};

use super::module::Module;
use super::parameter::Parameter;

pub(super) type Output<'t, T> = Result<Var<'t, T>, AutogradError>;

/// Convolution with a bias: weight O x C/groups x K x K, bias O. See [`ops::Conv2d`].
#[derive(Debug)]
pub struct Conv2d<T: Element> {
    weight: Parameter<T>,
    bias: Parameter<T>,
    op: ops::Conv2d,
}

impl<T: Element> Conv2d<T> {
    /// A square window of `kernel`, with zeros as weights until [`initialise`](super::initialise) fills them.
    #[must_use]
    pub fn new(c_in: usize, c_out: usize, kernel: usize, stride: usize, padding: usize) -> Self {
        let op = ops::Conv2d { stride: [stride; 2], padding: [padding; 2], ..ops::Conv2d::default() };
        Self::with_op(c_in, c_out, [kernel; 2], op)
    }

    /// Any window, stride, padding, dilation and groups. The op's `relu` is left to [`Sequential`](super::Sequential).
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
        Self {
            weight: Parameter::new(shape, true, fans),
            bias: Parameter::new([c_out], false, fans),
            op: ops::Conv2d { relu: false, ..op },
        }
    }

    /// Whether each output pixel is made of the input pixel in its place alone.
    pub(super) fn is_pointwise(&self) -> bool {
        self.weight.value.shape()[2..] == [1, 1] && self.op.stride == [1, 1] && self.op.padding == [0, 0]
    }

    /// Weight, bias and settings on the tape of `x`, with a ReLU after it if `relu`.
    pub(super) fn on<'t>(&self, x: &Var<'t, T>, relu: bool) -> (Var<'t, T>, Var<'t, T>, ops::Conv2d) {
        (self.weight.on(x), self.bias.on(x), ops::Conv2d { relu, ..self.op })
    }

    fn apply<'t>(&self, x: Var<'t, T>, relu: bool) -> Output<'t, T> {
        let (weight, bias, op) = self.on(&x, relu);
        x.conv2d(weight, Some(bias), op)
    }
}

impl<T: Element> Module<T> for Conv2d<T> {
    fn kind(&self) -> String {
        let weight = self.weight.value.shape();
        Op::<T>::describe(&self.op, &[weight, weight])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        self.apply(x, false)
    }

    fn forward_with_relu<'t>(&self, x: &Var<'t, T>) -> Option<Output<'t, T>> {
        Some(self.apply(x.clone(), true))
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&self.op, &[input, self.weight.value.shape(), self.bias.value.shape()])
    }

    fn convolution(&self, input: Shape) -> Option<ConvGeometry> {
        self.op.geometry(input, self.weight.value.shape()).ok()
    }

    fn as_conv2d(&self) -> Option<&Conv2d<T>> {
        Some(self)
    }

    fn visit<'a>(&'a self, prefix: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        visit(format!("{prefix}weight"), &self.weight);
        visit(format!("{prefix}bias"), &self.bias);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        visit(format!("{prefix}weight"), &mut self.weight);
        visit(format!("{prefix}bias"), &mut self.bias);
    }
}

/// max(x, 0). See [`ops::Relu`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Relu;

impl<T: Element> Module<T> for Relu {
    fn kind(&self) -> String {
        Op::<T>::describe(&ops::Relu, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.relu()
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }

    fn is_relu(&self) -> bool {
        true
    }
}

/// Sets elements to 0 with probability `p` while training. See [`ops::Dropout`].
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// The probability, at least 0 and below 1.
    pub p: f64,
}

impl<T: Element> Module<T> for Dropout {
    fn kind(&self) -> String {
        Op::<T>::describe(&ops::Dropout { p: self.p, layer: 0 }, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.dropout(self.p)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&ops::Dropout { p: self.p, layer: 0 }, &[input])
    }
}

/// All axes but the first as one. See [`ops::Flatten`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Flatten;

impl<T: Element> Module<T> for Flatten {
    fn kind(&self) -> String {
        Op::<T>::describe(&ops::Flatten, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.flatten()
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&ops::Flatten, &[input])
    }
}

/// 1 / (1 + e^-x). See [`ops::Sigmoid`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Sigmoid;

impl<T: Element> Module<T> for Sigmoid {
    fn kind(&self) -> String {
        Op::<T>::describe(&ops::Sigmoid, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.sigmoid()
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }
}

/// The hyperbolic tangent. See [`ops::Tanh`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Tanh;

impl<T: Element> Module<T> for Tanh {
    fn kind(&self) -> String {
        Op::<T>::describe(&ops::Tanh, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.tanh()
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }
}

/// The fully connected layer with a bias: weight OUT x IN, bias OUT, N x IN to N x OUT. See [`ops::Linear`].
#[derive(Debug)]
pub struct Linear<T: Element> {
    weight: Parameter<T>,
    bias: Parameter<T>,
}

impl<T: Element> Linear<T> {
    /// IN to OUT features, with zeros as weights until [`initialise`](super::initialise) fills them.
    #[must_use]
    pub fn new(features_in: usize, features_out: usize) -> Self {
        let shape = Shape::from([features_out, features_in]);
        let fans = tensor::init::fans(shape);
        Self { weight: Parameter::new(shape, true, fans), bias: Parameter::new([features_out], false, fans) }
    }
}

impl<T: Element> Module<T> for Linear<T> {
    fn kind(&self) -> String {
        let weight = self.weight.value.shape();
        Op::<T>::describe(&ops::Linear, &[weight, weight])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        let (weight, bias) = (self.weight.on(&x), self.bias.on(&x));
        x.linear(weight, Some(bias))
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&ops::Linear, &[input, self.weight.value.shape(), self.bias.value.shape()])
    }

    fn visit<'a>(&'a self, prefix: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        visit(format!("{prefix}weight"), &self.weight);
        visit(format!("{prefix}bias"), &self.bias);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        visit(format!("{prefix}weight"), &mut self.weight);
        visit(format!("{prefix}bias"), &mut self.bias);
    }
}

#[cfg(test)]
mod tests {
    use autograd::{Context, Tape};
    use tensor::Tensor;

    use super::*;
    use crate::nn::{AdaptiveAvgPool2d, Sequential, parameters, parameters_mut};

    /// Two features of 2 x 2 windows through every layer that the three networks do without.
    #[test]
    fn a_fully_connected_network_by_hand() {
        let mut network = Sequential::<f64>::new()
            .with(AdaptiveAvgPool2d(ops::AdaptiveAvgPool2d { output: [1, 2] }))
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
        assert_eq!(network.output_shape(x.shape()).unwrap(), output.shape());
        // The means of columns 0 and 1 and of columns 2 and 3 are 2.5 and 4.5.
        for (row, &found) in output.value().data().iter().enumerate() {
            let r = row as f64;
            let linear = 2.5 * 0.1 * (2.0 * r + 1.0) + 4.5 * 0.1 * (2.0 * r + 2.0) + 0.1 * (r + 1.0);
            let expected = 1.0 / (1.0 + (-linear.tanh()).exp());
            assert!((found - expected).abs() < 1e-12, "output {row}: {found}, expected {expected}");
        }
        let kinds: Vec<_> = network.children().iter().map(|layer| layer.kind()).collect();
        assert_eq!(kinds, ["AdaptiveAvgPool2d(1x2)", "Flatten", "Linear(2, 3)", "Tanh", "Sigmoid"]);
        let error = network.output_shape([1, 2, 4, 4].into()).unwrap_err().to_string();
        assert_eq!(
            error,
            "linear: layer 2, Linear(2, 3): weight expects 2 input features, input has 4 (its input is 1 x 4)"
        );
    }
}
