//! A network's layers: output shapes, parameters and work.

use autograd::{AutogradError, Context, Graph, Node};
use tensor::{Element, Shape};

use crate::nn::Module;

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// The place of the layer: `0.2`.
    pub path: String,
    /// Its kind and settings.
    pub kind: String,
    /// The shape of its input.
    pub input: Shape,
    /// The shape of its output.
    pub output: Shape,
    /// The number of its parameters' elements.
    pub parameters: usize,
    /// Floating-point operations of its forward pass for the whole input; convolutions and fully connected layers only, the rest
    /// is negligible.
    pub flops: u64,
}

/// Floating-point operations of a network's passes, counted as if every convolution were computed directly: an algorithm that
/// saves multiplications does the same work in less time. A multiplication and an addition count one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// The forward pass.
    pub forward: u64,
    /// A training step: forward, weight gradients and input gradients. Nobody asks for the gradient of the images, so the first
    /// layer that has weights needs no input gradient.
    pub training: u64,
}

impl Work {
    /// The work of these layers, for the input that they were counted for.
    #[must_use]
    pub fn of(layers: &[LayerSummary]) -> Self {
        let forward: u64 = layers.iter().map(|layer| layer.flops).sum();
        let first = layers.iter().find(|layer| layer.flops > 0).map_or(0, |layer| layer.flops);
        Self { forward, training: 3 * forward - first }
    }
}

/// The layers of a network for an input of this shape in training, nested ones in their order.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the input does not fit.
pub fn layers<T: Element>(module: &dyn Module<T>, input: Shape) -> Result<Vec<LayerSummary>, AutogradError> {
    let graph = Graph::trace(&Context::default(), input, |x| module.forward(x))?;
    let nodes = graph.nodes();
    let summary = |(index, node): (usize, &Node<T>)| {
        let inputs = graph.input_shapes(index);
        let own = node.inputs().iter().map(|&input| &nodes[input]).filter(|node| node.parameter().is_some());
        LayerSummary {
            path: node.path().to_owned(),
            kind: graph.describe(index),
            input: inputs[0],
            output: node.shape(),
            parameters: own.map(|node| node.shape().elements()).sum(),
            flops: graph.flops(index),
        }
    };
    Ok(nodes.iter().enumerate().filter(|(_, node)| node.is_op()).map(summary).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;

    /// Three passes of each convolution but the first, which has two.
    #[test]
    fn work_of_a_training_step() {
        let network = Model::Nin.build::<f32>(1, 10, 0.5);
        let all = layers(&network, [2, 1, 224, 224].into()).unwrap();
        let work = Work::of(&all);
        let convolutions: Vec<u64> =
            all.iter().filter(|layer| layer.kind.starts_with("Conv2d")).map(|layer| layer.flops).collect();
        assert_eq!(convolutions.len(), 12);
        assert_eq!(convolutions.iter().sum::<u64>(), work.forward);
        assert_eq!(convolutions[0], 2 * 2 * 96 * 121 * 72 * 72);
        assert_eq!(work.training, 3 * work.forward - convolutions[0]);
        assert_eq!((work.training as f64 / 2e7).round() as u64, 835);
    }
}
