//! Each layer by itself, on one thread, with a micro-batch of the size that training uses.
//!
//! An op is measured as it runs in a step: a convolution with bias and ReLU in the forward pass, ReLU's mask in the gradients
//! (but where the max pooling after it takes both over), weights packed or transformed beforehand, as a step does once for all of
//! its micro-batches. Every layer's data is in cache only as far as it fits: the sum over the layers leaves out what one layer
//! costs the next.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use autograd::{AutogradError, Graph};
use nin::nn::Module;
use serde::Serialize;
use tensor::conv::{self, ConvAlgorithm};
use tensor::init::Init;
use tensor::{BufferPool, Context, GradientSum, Op, Shape, Sinks, Tensor, ops};

use super::{Until, median_seconds};

/// One pass of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Pass {
    /// The pick of [`conv::choose`] or [`conv::choose_gradient`]; `None` for a layer that is no convolution.
    pub(crate) algorithm: Option<String>,
    /// Milliseconds for the micro-batch.
    pub(crate) ms: f64,
    /// 10^9 floating-point operations of the direct convolution a second; `None` for a layer that is no convolution.
    pub(crate) gflop_per_s: Option<f64>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LayerTimes {
    /// The place of the layer: `0.2`.
    pub(crate) path: String,
    /// Its kind and settings, with `+ ReLU` if it applies the one after it, `ReLU +` if the one before it.
    pub(crate) kind: String,
    /// C x H x W of its input.
    pub(crate) input: [usize; 3],
    /// C x H x W of its output; 1 x 1 where it has no rows and columns.
    pub(crate) output: [usize; 3],
    /// The output.
    pub(crate) forward: Pass,
    /// The gradient with respect to the input; `None` for the first layer, whose input is the images.
    pub(crate) input_gradient: Option<Pass>,
    /// The gradient with respect to weight and bias, if it has any.
    pub(crate) weight_gradient: Option<Pass>,
}

/// Measures every op of a network, ReLUs with their neighbors, for images of this shape (N x C x H x W, N the images of a
/// micro-batch), `seconds` a pass.
///
/// # Errors
/// [`AutogradError`] if the images do not fit.
pub(crate) fn measure(
    network: &dyn Module<f32>,
    images: Shape,
    path: ConvAlgorithm,
    seconds: f64,
) -> Result<Vec<LayerTimes>, AutogradError> {
    let context = Context { conv: path, ..Context::training(BufferPool::new()) };
    let graph = Graph::<f32>::trace(&context, images, |x| network.forward(x))?.with_fused_relus();
    let ops = (0..graph.nodes().len()).filter(|&index| graph.nodes()[index].is_op());
    Ok(ops.map(|index| layer(&context, &graph, index, Until::Seconds(seconds))).collect())
}

/// Each convolution of a node with its settings, and the algorithms that compute it and its weight's gradient; empty if the node
/// has none.
pub(crate) fn convolutions(
    graph: &Graph<f32>,
    index: usize,
    asked: ConvAlgorithm,
) -> Vec<(String, [ConvAlgorithm; 2])> {
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
        let op = Op::<f32>::describe(layer, &[x, weight]);
        x = geometry.output_shape();
        (op, [conv::choose::<f32>(&geometry, asked), conv::choose_gradient::<f32>(&geometry, asked)])
    });
    of_layers.collect()
}

/// Numbers between -1 and 1.
fn random(shape: Shape, index: u64) -> Tensor<f32> {
    Init::PyTorch.fill(shape, (1, 1), 0, index)
}

/// C x H x W of a shape, with 1 for axes that are not there.
fn plane(shape: Shape) -> [usize; 3] {
    std::array::from_fn(|axis| shape.get(axis + 1).copied().unwrap_or(1))
}

fn layer(context: &Context, graph: &Graph<f32>, index: usize, until: Until) -> LayerTimes {
    let (nodes, shapes) = (graph.nodes(), graph.input_shapes(index));
    let node = &nodes[index];
    let is_parameter = |input: &usize| nodes[*input].parameter().is_some();
    let flops = graph.flops(index);
    let algorithms = convolutions(graph, index, context.conv).pop().map(|(_, algorithms)| algorithms);
    let pass = |times: &[Duration], of_weight: bool| {
        let seconds = median_seconds(times);
        let gflop_per_s = algorithms.is_some().then(|| flops as f64 / seconds.max(1e-9) / 1e9);
        let algorithm = algorithms.map(|all| all[usize::from(of_weight)].to_string());
        Pass { algorithm, ms: 1e3 * seconds, gflop_per_s }
    };
    let inputs: Vec<_> = shapes.iter().zip(0..).map(|(&shape, seed)| random(shape, seed)).collect();
    let dy = random(node.shape(), shapes.len() as u64);
    // Copies of what moves, which the pass may overwrite; parameters are shared, with what was packed of them.
    let fresh = |input: (&Tensor<f32>, &usize)| match is_parameter(input.1) {
        true => input.0.clone(),
        false => input.0.narrow_in(context.pool(), 0, input.0.shape()[0]),
    };
    let fresh_inputs = || inputs.iter().zip(node.inputs()).map(fresh).collect();
    let timed = |wanted: Option<Vec<Option<usize>>>, of_weight: bool| {
        let times = until.measure(|| {
            let inputs = fresh_inputs();
            let begin = Instant::now();
            let (y, backward) = graph.apply(index, context, inputs);
            let forward = begin.elapsed();
            let Some(wanted) = &wanted else { return Ok::<_, Infallible>(forward) };
            let dy = dy.narrow_in(context.pool(), 0, dy.shape()[0]);
            let begin = Instant::now();
            let mut sums: Vec<GradientSum<f32>> = wanted.iter().map(|_| GradientSum::new()).collect();
            backward.run(context, dy, &mut Sinks::new(&mut sums, wanted));
            let gradients: Vec<_> = sums.into_iter().map(|sum| sum.finish(context.pool())).collect();
            let time = begin.elapsed();
            drop((y, gradients));
            Ok(time)
        });
        pass(&times.unwrap_or_else(|never| match never {}), of_weight)
    };
    let of = |parameters: bool| -> Vec<Option<usize>> {
        let inputs = node.inputs().iter().enumerate();
        inputs.map(|(place, input)| (is_parameter(input) == parameters).then_some(place)).collect()
    };
    let (of_parameters, of_others) = (of(true), of(false));
    let first = node.inputs().iter().any(|&input| !nodes[input].is_op() && !is_parameter(&input));
    LayerTimes {
        path: node.path().to_owned(),
        kind: graph.describe(index),
        input: plane(shapes[0]),
        output: plane(node.shape()),
        forward: timed(None, false),
        input_gradient: (!first).then(|| timed(Some(of_others), false)),
        weight_gradient: of_parameters.iter().any(Option::is_some).then(|| timed(Some(of_parameters), true)),
    }
}
