//! A table of a network's layers: output shapes, parameters and work.

use std::fmt::Write;
use std::sync::Arc;

use autograd::{AutogradError, Context, Graph, Node};
use tensor::conv::{ConvAlgorithm, choose};
use tensor::{BufferPool, Element, Op, Shape, ops};

use crate::nn::{Module, parameter_count};

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Where the layer is: `0.2`.
    pub path: String,
    /// Its kind and settings.
    pub kind: String,
    /// The shape of its input.
    pub input: Shape,
    /// The shape of its output.
    pub output: Shape,
    /// How many numbers training changes in it.
    pub parameters: usize,
    /// Floating-point operations of its forward pass for the whole input; convolutions and fully connected layers only, the rest is negligible.
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

/// The table as text, with totals.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the input does not fit.
pub fn table<T: Element>(module: &dyn Module<T>, input: Shape) -> Result<String, AutogradError> {
    let all = layers(module, input)?;
    let mut text = String::new();
    let mut line = |path: &str, kind: &str, output: &str, parameters: &str, work: &str| {
        writeln!(text, "{path:<6} {kind:<40} {output:<20} {parameters:>12} {work:>9}")
            .expect("a string takes any text");
    };
    line("layer", "kind", "output", "parameters", "MFLOP");
    line("", "input", &input.to_string(), "", "");
    for layer in &all {
        let work = if layer.flops > 0 { format!("{:.1}", layer.flops as f64 / 1e6) } else { String::new() };
        let parameters = if layer.parameters > 0 { grouped(layer.parameters) } else { String::new() };
        line(&layer.path, &layer.kind, &layer.output.to_string(), &parameters, &work);
    }
    let flops = Work::of(&all).forward;
    line("total", "", "", &grouped(parameter_count(module)), &format!("{:.1}", flops as f64 / 1e6));
    Ok(text)
}

/// The plan that an evaluation of an input of this shape follows, as text: each op after fusion with its algorithm for convolutions,
/// its output, its work and the bytes of its output, and what is in memory at once in evaluation.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the input does not fit.
pub fn plan_table<T: Element>(
    module: &dyn Module<T>,
    input: Shape,
    asked: ConvAlgorithm,
) -> Result<String, AutogradError> {
    let context = Context::evaluation(Arc::clone(BufferPool::global()));
    let plan = module.plan(&context, input)?;
    let graph = plan.graph();
    let mut text = String::new();
    let mut line = |cells: [&str; 6]| {
        let [path, op, algorithm, output, work, bytes] = cells;
        let line = format!("{path:<6} {op:<44} {algorithm:<12} {output:<20} {work:>9} {bytes:>8}");
        text += line.trim_end();
        text.push('\n');
    };
    line(["node", "op", "algorithm", "output", "MFLOP", "KiB"]);
    let kib = |elements: usize| format!("{:.0}", (elements * size_of::<T>()) as f64 / 1024.0);
    line(["", "input", "", &input.to_string(), "", &kib(input.elements())]);
    let mut total = 0;
    for (index, node) in graph.nodes().iter().enumerate().filter(|(index, _)| plan.runs(*index)) {
        let flops = graph.flops(index);
        total += flops;
        let work = if flops > 0 { format!("{:.1}", flops as f64 / 1e6) } else { String::new() };
        let mut parts = convolutions(graph, index, asked);
        if parts.is_empty() {
            parts.push((graph.describe(index), String::new()));
        }
        // A line for each convolution of a chain; what is true of the whole op stands in the last.
        let (last, rows) = parts.split_last().expect("there is a part");
        let mut path = node.path();
        for (op, algorithm) in rows {
            line([std::mem::take(&mut path), op, algorithm, "", "", ""]);
        }
        let (output, bytes) = (node.shape().to_string(), kib(node.shape().elements()));
        line([path, &last.0, &last.1, &output, &work, &bytes]);
    }
    let work = format!("{:.1}", total as f64 / 1e6);
    line(["total", "activations in memory at once, at most", "", "", &work, &kib(plan.peak_elements())]);
    Ok(text)
}

/// What each convolution of a node is and the algorithm that computes it; empty if the node has none.
fn convolutions<T: Element>(graph: &Graph<T>, index: usize, asked: ConvAlgorithm) -> Vec<(String, String)> {
    let (node, inputs) = (&graph.nodes()[index], graph.input_shapes(index));
    let layers: &[ops::Conv2d] = match (node.op::<ops::Conv2d>(), node.op::<ops::MlpConv>()) {
        (Some(layer), _) => std::slice::from_ref(layer),
        (_, Some(chain)) => &chain.layers,
        _ => return Vec::new(),
    };
    let mut x = inputs[0];
    // The weights: every second input from the first on.
    let of_layers = layers.iter().zip(inputs[1..].iter().step_by(2)).map(|(layer, &weight)| {
        let geometry = layer.geometry(x, weight).expect("the trace checked it");
        let op = Op::<T>::describe(layer, &[x, weight]);
        x = geometry.output_shape();
        (op, choose::<T>(&geometry, asked).to_string())
    });
    of_layers.collect()
}

/// A number with a comma between thousands.
pub fn grouped(number: usize) -> String {
    match number / 1000 {
        0 => number.to_string(),
        thousands => format!("{},{:03}", grouped(thousands), number % 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Model;

    #[test]
    fn the_articles_table() {
        let network = Model::Nin.build::<f32>(1, 10, 0.5);
        let text = table(&network, [1, 1, 224, 224].into()).unwrap();
        for part in [
            "0.0    Conv2d(1, 96, 11x11, stride 3)",
            "1 x 96 x 72 x 72",
            "MaxPool2d(3/2)",
            "1 x 384 x 17 x 17",
            "1,992,166    2824.2",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

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

    #[test]
    fn the_plan_of_the_article() {
        let network = Model::Nin.build::<f32>(1, 10, 0.5);
        let text = plan_table(&network, [1, 1, 224, 224].into(), ConvAlgorithm::Auto).unwrap();
        let paths = text.lines().skip(2).map(|line| line[..6].trim().to_owned());
        let ops: Vec<_> = paths.filter(|path| !path.is_empty()).collect();
        // Four blocks, three poolings, average and flatten; evaluation drops nothing out.
        assert_eq!(ops, ["0.0", "1", "2.0", "3", "4.0", "5", "7.0", "8", "9", "total"]);
        for part in
            ["0.0    Conv2d(1, 96, 11x11, stride 3) + ReLU        direct", "ReLU + MaxPool2d(3/2)", "2824.2"]
        {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        // The first block's output and the pooling's are together the most that is in memory.
        let kib = (96 * (72 * 72 + 35 * 35) * 4) as f64 / 1024.0;
        assert!(text.trim_end().ends_with(&format!(" {kib:.0}")), "{text}");
    }
}
