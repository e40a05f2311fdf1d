//! The activations without parameters that networks beside NiN use: an op of the `tensor` crate each.

use autograd::Var;
use tensor::{Element, Op, Shape, ShapeError, ops};

use super::layers::Output;
use super::module::Module;

/// x where it is above 0, a small multiple of it elsewhere. See [`ops::LeakyRelu`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LeakyRelu(pub ops::LeakyRelu);

impl<T: Element> Module<T> for LeakyRelu {
    fn kind(&self) -> String {
        format!("LeakyReLU({})", self.0.slope)
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.leaky_relu(self.0.slope)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&self.0, &[input])
    }
}

/// x times the normal distribution's probability of what is below it. See [`ops::Gelu`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Gelu(pub ops::Gelu);

impl<T: Element> Module<T> for Gelu {
    fn kind(&self) -> String {
        match self.0 {
            ops::Gelu::Erf => "GELU".to_owned(),
            ops::Gelu::Tanh => "GELU(tanh)".to_owned(),
        }
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.gelu(self.0)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }
}

/// x min(max(x + 3, 0), 6) / 6. See [`ops::Hardswish`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Hardswish;

impl<T: Element> Module<T> for Hardswish {
    fn kind(&self) -> String {
        "Hardswish".to_owned()
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.hardswish()
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }
}

#[cfg(test)]
mod tests {
    use autograd::Tape;
    use tensor::{Context, Tensor};

    use super::*;

    #[test]
    fn layers_are_their_ops() {
        let layers: [(Box<dyn Module<f64>>, &str, f64); 4] = [
            (Box::new(LeakyRelu::default()), "LeakyReLU(0.01)", -0.01),
            (Box::new(Gelu::default()), "GELU", -0.158_655_253_931_457),
            (Box::new(Gelu(ops::Gelu::Tanh)), "GELU(tanh)", -0.158_808_009_383_391_3),
            (Box::new(Hardswish), "Hardswish", -1.0 / 3.0),
        ];
        for (layer, kind, expected) in layers {
            let tape = Tape::new(Context::default());
            let y = layer.forward(tape.constant(Tensor::full([2, 3], -1.0))).unwrap();
            assert_eq!((layer.kind().as_str(), layer.output_shape(y.shape())), (kind, Ok(y.shape())));
            assert!(y.value().data().iter().all(|y| (y - expected).abs() < 1e-9), "{kind}: {y:?}");
        }
        let refused = Module::<f32>::output_shape(&LeakyRelu(ops::LeakyRelu { slope: -1.0 }), [3].into());
        assert!(refused.is_err());
    }
}
