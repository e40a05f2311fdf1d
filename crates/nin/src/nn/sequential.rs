//! [`Sequential`]: one layer after the other.

use autograd::{AutogradError, Var};
use tensor::{Element, Shape, ShapeError};

use super::module::Module;
use super::parameter::Parameter;

/// Layers that are applied one after the other. Names of parameters begin with the layer's number, as in PyTorch: `0.2.weight`.
///
/// A convolution that is followed by a ReLU applies it to its output while that is still in registers.
#[derive(Debug, Default)]
pub struct Sequential<T: Element> {
    layers: Vec<Box<dyn Module<T>>>,
}

impl<T: Element> Sequential<T> {
    /// No layers yet.
    #[must_use]
    pub fn new() -> Self {
        Self { layers: Vec::new() }
    }

    /// With one more layer at the end.
    #[must_use]
    pub fn with(mut self, layer: impl Module<T> + 'static) -> Self {
        self.layers.push(Box::new(layer));
        self
    }
}

impl<T: Element> Module<T> for Sequential<T> {
    fn kind(&self) -> String {
        "Sequential".to_owned()
    }

    fn forward<'t>(&self, mut x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        let mut layers = self.layers.iter().peekable();
        while let Some(layer) = layers.next() {
            if layers.peek().is_some_and(|next| next.is_relu())
                && let Some(output) = layer.forward_with_relu(&x)
            {
                x = output?;
                layers.next();
            } else {
                x = layer.forward(x)?;
            }
        }
        Ok(x)
    }

    /// As [`Module::output_shape`]; an error names the layer by its path and kind.
    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        self.layers.iter().enumerate().try_fold(input, |shape, (index, layer)| {
            layer.output_shape(shape).map_err(|error| {
                // A nested layer has named itself already: only its path grows.
                let message = match error.message.strip_prefix("layer ") {
                    Some(inner) => format!("layer {index}.{inner}"),
                    None => {
                        format!("layer {index}, {}: {} (its input is {shape})", layer.kind(), error.message)
                    }
                };
                ShapeError::new(error.op, message)
            })
        })
    }

    fn visit<'a>(&'a self, prefix: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        for (index, layer) in self.layers.iter().enumerate() {
            layer.visit(&format!("{prefix}{index}."), visit);
        }
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            layer.visit_mut(&format!("{prefix}{index}."), visit);
        }
    }

    fn children(&self) -> &[Box<dyn Module<T>>] {
        &self.layers
    }
}

#[cfg(test)]
mod tests {
    use autograd::{Context, Tape};
    use tensor::{Tensor, init::Init};

    use super::*;
    use crate::nn::{Conv2d, MaxPool2d, Relu, initialise, parameters};

    #[test]
    fn names_are_pytorchs() {
        let net = Sequential::<f32>::new()
            .with(
                Sequential::new()
                    .with(Conv2d::new(1, 2, 3, 1, 1))
                    .with(Relu)
                    .with(Conv2d::new(2, 2, 1, 1, 0)),
            )
            .with(MaxPool2d::new(3, 2));
        let names: Vec<_> = parameters(&net).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias"]);
    }

    #[test]
    fn a_size_that_does_not_fit_names_the_layer() {
        let net = Sequential::<f32>::new()
            .with(Sequential::new().with(Conv2d::new(1, 2, 3, 1, 0)).with(Relu))
            .with(Sequential::new().with(Conv2d::new(2, 2, 5, 1, 0)));
        let error = net.output_shape([1, 1, 6, 6].into()).unwrap_err().to_string();
        assert_eq!(
            error,
            "conv2d: layer 1.0, Conv2d(2, 2, 5x5): a window of 5 does not fit H = 4 with padding 0 (its input is 1 x 2 x 4 x 4)"
        );
    }

    #[test]
    fn a_relu_applied_by_the_convolution_changes_nothing() {
        let mut fused = Sequential::<f32>::new().with(Conv2d::new(2, 3, 3, 1, 1)).with(Relu);
        initialise(&mut fused, Init::HeNormal, Init::Constant(0.1), 4);
        let x = Tensor::from_fn([2, 2, 5, 5], |i| ((i * 37 % 19) as f32 - 9.0) / 5.0);
        let tape = Tape::new(Context::default());
        let with = fused.forward(tape.constant(x.clone())).unwrap();
        let conv = fused.children()[0].forward(tape.constant(x)).unwrap();
        let without = conv.relu().unwrap();
        for (a, b) in with.value().data().iter().zip(without.value().data()) {
            assert!((a - b).abs() <= 1e-5, "{a} {b}");
        }
    }
}
