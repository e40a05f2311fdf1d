//! [`Sequential`]: one layer after the other.

use autograd::{AutogradError, Var};
use tensor::Element;

use super::module::{Module, join, scoped};
use super::parameter::Parameter;

/// Layers that are applied one after the other. Names of parameters begin with the layer's number, as in PyTorch (`0.2.weight`),
/// or with the name that it is given.
#[derive(Debug, Default)]
pub struct Sequential<T: Element> {
    layers: Vec<(String, Box<dyn Module<T>>)>,
}

impl<T: Element> Sequential<T> {
    /// No layers yet.
    #[must_use]
    pub fn new() -> Self {
        Self { layers: Vec::new() }
    }

    /// With one more layer at the end, under the number of layers before it.
    ///
    /// # Panics
    /// If an earlier layer was given that number as its name.
    #[must_use]
    pub fn with(self, layer: impl Module<T> + 'static) -> Self {
        let name = self.layers.len().to_string();
        self.named(&name, layer)
    }

    /// With one more layer at the end, under a name.
    ///
    /// # Panics
    /// If the name is empty, has a dot, or is that of an earlier layer.
    #[must_use]
    pub fn named(mut self, name: &str, layer: impl Module<T> + 'static) -> Self {
        assert!(
            !name.is_empty() && !name.contains('.'),
            "a layer's name is text without dots, found {name:?}"
        );
        assert!(self.layers.iter().all(|(own, _)| own != name), "two layers are called {name}");
        self.layers.push((name.to_owned(), Box::new(layer)));
        self
    }
}

impl<T: Element> Module<T> for Sequential<T> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        self.layers.iter().try_fold(x, |x, (name, layer)| scoped(name, &**layer, x))
    }

    fn visit<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        for (name, layer) in &self.layers {
            layer.visit(&join(path, name), visit);
        }
    }

    fn visit_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        for (name, layer) in &mut self.layers {
            layer.visit_mut(&join(path, name), visit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::sync::Arc;

    use autograd::{Context, Tape};
    use tensor::{GradientSum, Tensor, init::Init};

    use super::*;
    use crate::models::{Model, Network};
    use crate::nn::Relu;
    use crate::nn::{bound, gradients_of, initialize, parameters};

    #[test]
    fn every_layer_has_a_name_of_its_own() {
        let net = || Sequential::<f32>::new().named("2", Relu).with(Relu);
        let refused = |add: fn(Sequential<f32>) -> Sequential<f32>| {
            *catch_unwind(|| add(net())).unwrap_err().downcast::<String>().unwrap()
        };
        assert_eq!(refused(|net| net.with(Relu)), "two layers are called 2");
        assert_eq!(refused(|net| net.named("1", Relu)), "two layers are called 1");
        assert_eq!(refused(|net| net.named("", Relu)), "a layer's name is text without dots, found \"\"");
        assert_eq!(
            refused(|net| net.named("0.1", Relu)),
            "a layer's name is text without dots, found \"0.1\""
        );
        assert_eq!(net().named("last", Relu).with(Relu).layers.len(), 4);
    }

    /// A fused network has the output of layer after layer on a tape, bit for bit; of the gradients, a fused chain may add some
    /// of a weight's terms in another order.
    #[test]
    fn a_plan_has_the_bits_of_the_layers() {
        for (model, side) in [(Model::Nin, 64), (Model::NinCifar, 28), (Model::LeNet, 28), (Model::Vgg11, 32)]
        {
            let network = Network { narrow: 16, ..Network::new(model, [1, side, side], 10) };
            let mut network = network.build::<f32>().unwrap();
            initialize(&mut network, Init::HeNormal, Init::Constant(0.1), 4);
            let x = Tensor::from_fn([2, 1, side, side], |i| ((i * 37 % 19) as f32 - 9.0) / 5.0);
            let context = Context::default();
            let tape = Tape::new(context.clone());
            let output = network.forward(tape.constant(x.clone())).unwrap();
            let (expected, recorded) = (output.value().clone(), tape.len());
            let gradient = Tensor::from_fn(expected.shape(), |i| (i as f32).sin());
            let gradients = tape.backward_with(output, gradient.clone()).unwrap();

            let plan = network.plan(&context, x.shape()).unwrap();
            let own = parameters(&network);
            let bound = bound(&network, Arc::clone(&plan), &context);
            if model != Model::LeNet {
                assert!(plan.graph().nodes().len() - 1 < recorded, "{model}: fewer nodes");
            }
            let run = bound.forward(&context, x);
            assert_eq!(run.output(), &expected, "{model}");
            let mut sums: Vec<_> = own.iter().map(|_| GradientSum::new()).collect();
            bound.backward(&context, run, gradient, &mut sums);
            let of_tape = gradients_of(&network, &gradients);
            for (((name, _), sum), expected) in own.iter().zip(sums).zip(&of_tape) {
                let found =
                    sum.finish(context.pool()).unwrap_or_else(|| panic!("{model}: no gradient of {name}"));
                let expected = expected.data();
                let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
                let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6 * largest;
                assert!(found.data().iter().zip(expected).all(near), "{model}, {name}");
            }
        }
    }
}
