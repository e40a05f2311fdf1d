//! [`Sequential`]: one layer after the other.

use autograd::{AutogradError, Var};
use tensor::{Element, Shape, ShapeError};

use super::layers::Conv2d;
use super::module::Module;
use super::parameter::Parameter;

/// Layers that are applied one after the other. Names of parameters begin with the layer's number, as in PyTorch: `0.2.weight`.
///
/// A ReLU is applied by one of its neighbours, also where a nested `Sequential` ends between them: by the max pooling after it,
/// so that nothing of the size before the pooling is kept for the backward pass; or else by the convolution before it, to its
/// output while that is still in registers. A convolution and the 1x1 convolutions after it are one op, [`MlpConv`](tensor::ops::MlpConv).
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

/// The layers of a module that are not made of others, in their order.
fn flatten<'a, T: Element>(module: &'a dyn Module<T>, all: &mut Vec<&'a dyn Module<T>>) {
    for child in module.children() {
        if child.children().is_empty() {
            all.push(child.as_ref());
        } else {
            flatten(child.as_ref(), all);
        }
    }
}

/// Whether the first of `layers` is a ReLU that the second applies.
pub fn relu_is_taken<T: Element>(layers: &[&dyn Module<T>]) -> bool {
    matches!(layers, [relu, next, ..] if relu.is_relu() && next.takes_relu_before())
}

/// Whether the first of `layers` is a ReLU that the layer before it may apply.
pub fn relu_is_left<T: Element>(layers: &[&dyn Module<T>]) -> bool {
    layers.first().is_some_and(|layer| layer.is_relu()) && !relu_is_taken(layers)
}

/// Convolutions, each with whether it applies the ReLU after it.
type Convolutions<'a, T> = Vec<(&'a Conv2d<T>, bool)>;

/// A convolution and the 1x1 convolutions that follow it, and the layers that are left.
fn mlp_conv<'a, 'b, T: Element>(
    mut layers: &'b [&'a dyn Module<T>],
) -> (Convolutions<'a, T>, &'b [&'a dyn Module<T>]) {
    let mut convolutions = Vec::new();
    while let [layer, rest @ ..] = layers
        && let Some(convolution) = layer.as_conv2d()
        && (convolutions.is_empty() || convolution.is_pointwise())
    {
        let relu = relu_is_left(rest);
        convolutions.push((convolution, relu));
        layers = &rest[usize::from(relu)..];
    }
    (convolutions, layers)
}

impl<T: Element> Module<T> for Sequential<T> {
    fn kind(&self) -> String {
        "Sequential".to_owned()
    }

    fn forward<'t>(&self, mut x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        let tape = x.tape();
        if tape.is_tracing() {
            // Each layer by itself: the graph has rules of its own for what is fused.
            let mut layers = self.layers.iter().enumerate();
            return layers.try_fold(x, |x, (index, layer)| tape.scope(index, || layer.forward(x)));
        }
        let mut layers = Vec::new();
        flatten(self, &mut layers);
        let mut layers = layers.as_slice();
        while let [layer, rest @ ..] = layers {
            let (convolutions, after) = mlp_conv(layers);
            if convolutions.len() > 1 {
                let parameters: Vec<_> =
                    convolutions.into_iter().map(|(convolution, relu)| convolution.on(&x, relu)).collect();
                x = x.mlp_conv(parameters)?;
                layers = after;
            } else if relu_is_taken(layers) {
                x = rest[0].forward_after_relu(x)?;
                layers = &rest[1..];
            } else if relu_is_left(rest)
                && let Some(output) = layer.forward_with_relu(&x)
            {
                x = output?;
                layers = &rest[1..];
            } else {
                x = layer.forward(x)?;
                layers = rest;
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
    use autograd::{Context, Graph, Plan, Tape};
    use tensor::{Tensor, init::Init};

    use super::*;
    use crate::models::{Model, Network};
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
    fn a_relu_applied_by_a_neighbour_changes_nothing() {
        let block = || Sequential::<f64>::new().with(Conv2d::new(2, 3, 3, 1, 1)).with(Relu);
        for mut fused in [
            block(),
            block().with(MaxPool2d::new(3, 2)),
            Sequential::new().with(block()).with(Sequential::new().with(MaxPool2d::ceil(2, 2))),
            // A pooling that follows something else, a ReLU that does, and one that nothing follows.
            Sequential::new().with(Relu).with(MaxPool2d::new(2, 1)).with(MaxPool2d::new(3, 2)),
            Sequential::new().with(block()).with(Relu).with(MaxPool2d::new(3, 2)).with(Relu),
        ] {
            initialise(&mut fused, Init::HeNormal, Init::Constant(0.1), 4);
            let x = Tensor::from_fn([2, 2, 7, 7], |i| ((i * 37 % 19) as f64 - 9.0) / 5.0);
            let mut results = Vec::new();
            for together in [true, false] {
                let tape = Tape::new(Context::default());
                let input = tape.leaf(x.clone());
                let mut layers = Vec::new();
                flatten(&fused, &mut layers);
                let output = if together {
                    fused.forward(input.clone()).unwrap()
                } else {
                    layers.iter().fold(input.clone(), |x, layer| layer.forward(x).unwrap())
                };
                let recorded = tape.len();
                let value = output.value().clone();
                let gradient = Tensor::from_fn(value.shape(), |i| (i as f64).sin());
                let gradients = tape.backward_with(output, gradient).unwrap();
                let parameters = gradients.parameters().map(|(_, gradient)| gradient.clone());
                let gradients = [gradients.get(&input).unwrap().clone()].into_iter().chain(parameters);
                results.push((recorded, value, gradients.collect::<Vec<_>>()));
            }
            let (one, other) = (&results[0], &results[1]);
            assert!(one.0 < other.0, "{fused:?}: a neighbour applies the ReLU");
            assert_eq!((&one.1, &one.2), (&other.1, &other.2), "{fused:?}");
        }
    }

    /// The rules of the graph fuse what the layers fuse among each other, and the bits are the same.
    #[test]
    fn a_plan_has_the_bits_of_the_layers() {
        for (model, side) in [(Model::Nin, 64), (Model::NinCifar, 28), (Model::LeNet, 28), (Model::Vgg11, 32)]
        {
            let network = Network { narrow: 16, ..Network::new(model, [1, side, side], 10) };
            let mut network = network.build::<f32>().unwrap();
            initialise(&mut network, Init::HeNormal, Init::Constant(0.1), 4);
            let x = Tensor::from_fn([2, 1, side, side], |i| ((i * 37 % 19) as f32 - 9.0) / 5.0);
            let tape = Tape::new(Context::default());
            let output = network.forward(tape.constant(x.clone())).unwrap();
            let (expected, recorded) = (output.value().clone(), tape.len());
            let gradient = Tensor::from_fn(expected.shape(), |i| (i as f32).sin());
            let gradients = tape.backward_with(output, gradient.clone()).unwrap();

            let plan = Plan::new(Graph::trace(x.shape(), |x| network.forward(x)).unwrap(), false);
            // The tape has no node for ops before the first parameter; the plan has one for its input.
            assert_eq!(plan.graph().nodes().len() - 1, recorded, "{model}: as many nodes");
            let own = parameters(&network);
            let values: Vec<_> = plan
                .parameters()
                .map(|identity| own.iter().find(|own| own.1.identity == identity).unwrap().1.value.clone())
                .collect();
            let context = Context::default();
            let run = plan.forward(&context, x, &values);
            assert_eq!(run.output(), &expected, "{model}");
            let identities: Vec<u64> = plan.parameters().collect();
            let mut seen = 0;
            plan.backward(&context, run, gradient, |number, found| {
                assert_eq!(Some(&found), gradients.parameter(identities[number]), "{model}, {number}");
                seen += 1;
            });
            assert_eq!(seen, own.len(), "{model}: every parameter has a gradient");
        }
    }
}
