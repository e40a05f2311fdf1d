//! Each layer by itself, on one thread, with a shard of the size that training uses.
//!
//! A convolution is measured as it runs in a step: bias and ReLU in the forward pass, ReLU's mask in the gradients (but where the
//! max pooling after it takes both over), weights packed or transformed beforehand, as a step does once for all of its shards. Every layer's data is in cache only as far as
//! it fits: the sum over the layers leaves out what one layer costs the next.

use std::time::{Duration, Instant};

use autograd::Tape;
use nin::nn::{Module, relu_is_left, relu_is_taken};
use nin::summary::{LayerSummary, layers, leaves};
use nin::train::TrainError;
use serde::Serialize;
use tensor::conv::{self, ConvAlgorithm, ConvGeometry, Convolution, Wanted};
use tensor::init::Init;
use tensor::{BufferPool, Context, Shape, Tensor};

use super::{Until, median_seconds};

/// One pass of one layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pass {
    /// What [`conv::choose`] picked; `None` for a layer that is no convolution.
    pub algorithm: Option<String>,
    /// Milliseconds for the shard.
    pub ms: f64,
    /// 10^9 floating-point operations of the direct convolution a second; `None` for a layer that is no convolution.
    pub gflop_per_s: Option<f64>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerTimes {
    /// Where the layer is: `0.2`.
    pub path: String,
    /// Its kind and settings, with `+ ReLU` if it applies the one after it, `ReLU +` if the one before it.
    pub kind: String,
    /// C x H x W of its input.
    pub input: [usize; 3],
    /// C x H x W of its output; 1 x 1 where it has no rows and columns.
    pub output: [usize; 3],
    /// The output.
    pub forward: Pass,
    /// The gradient with respect to the input; `None` for the first layer, whose input is the images.
    pub input_gradient: Option<Pass>,
    /// The gradient with respect to weight and bias, if it has any.
    pub weight_gradient: Option<Pass>,
}

/// Measures every layer of a network for images of this shape (N x C x H x W, N the images of a shard), `seconds` a pass.
///
/// # Errors
/// [`TrainError`] if the images do not fit.
pub fn measure(
    network: &dyn Module<f32>,
    images: Shape,
    path: ConvAlgorithm,
    seconds: f64,
) -> Result<Vec<LayerTimes>, TrainError> {
    let summaries = layers(network, images)?;
    let modules: Vec<&dyn Module<f32>> = leaves(network).into_iter().map(|(_, module)| module).collect();
    let context = Context { conv: path, ..Context::training(BufferPool::new()) };
    let mut all = Vec::new();
    let mut applied = false;
    for (index, summary) in summaries.iter().enumerate() {
        if std::mem::take(&mut applied) || relu_is_taken(&modules[index..]) {
            continue;
        }
        let until = Until::Seconds(seconds);
        all.push(if let Some(geometry) = summary.convolution {
            applied = relu_is_left(&modules[index + 1..]);
            convolution(&context, summary, &geometry, applied, index == 0, until)?
        } else {
            let after_relu = index > 0 && relu_is_taken(&modules[index - 1..]);
            other(&context, summary, modules[index], after_relu, until)?
        });
    }
    Ok(all)
}

/// Numbers between -1 and 1.
fn random(shape: Shape, index: u64) -> Tensor<f32> {
    Init::PyTorch.fill(shape, (1, 1), 0, index)
}

/// C x H x W of a shape, with 1 for axes that are not there.
fn plane(shape: Shape) -> [usize; 3] {
    std::array::from_fn(|axis| shape.get(axis + 1).copied().unwrap_or(1))
}

fn convolution(
    context: &Context,
    summary: &LayerSummary,
    geometry: &ConvGeometry,
    relu: bool,
    first: bool,
    until: Until,
) -> Result<LayerTimes, TrainError> {
    let algorithm = conv::choose::<f32>(geometry, context.conv);
    let (x, w) = (random(geometry.input_shape(), 0), random(geometry.weight_shape(), 1));
    let (bias, dy) = (random(geometry.bias_shape(), 2), random(geometry.output_shape(), 3));
    let layer = Convolution { geometry: *geometry, weight: &w, bias: Some(&bias), relu };
    let y = conv::forward(context, &layer, &x);
    let pass = |times: &[Duration]| {
        let seconds = median_seconds(times);
        Pass {
            algorithm: Some(algorithm.to_string()),
            ms: 1e3 * seconds,
            gflop_per_s: Some(geometry.flops() as f64 / seconds.max(1e-9) / 1e9),
        }
    };
    let forward = until.measure(|| {
        let begin = Instant::now();
        let y = conv::forward(context, &layer, &x);
        let time = begin.elapsed();
        drop(y);
        Ok::<_, TrainError>(time)
    })?;
    let gradient = |wanted: Wanted| {
        until.measure(|| {
            // A copy that the pass may overwrite.
            let dy = dy.narrow_in(context.pool(), 0, dy.shape()[0]);
            let begin = Instant::now();
            let gradients = conv::backward(context, &layer, &x, relu.then_some(&y), dy, wanted);
            let time = begin.elapsed();
            drop(gradients);
            Ok::<_, TrainError>(time)
        })
    };
    let weight = gradient(Wanted { input: false, weight: true, bias: true })?;
    let input = match first {
        true => None,
        false => Some(gradient(Wanted { input: true, weight: false, bias: false })?),
    };
    Ok(LayerTimes {
        path: summary.path.clone(),
        kind: format!("{}{}", summary.kind, if relu { " + ReLU" } else { "" }),
        input: plane(summary.input),
        output: plane(summary.output),
        forward: pass(&forward),
        input_gradient: input.as_deref().map(pass),
        weight_gradient: Some(pass(&weight)),
    })
}

/// A layer without a convolution: its forward pass, and all of its backward pass as input gradient.
fn other(
    context: &Context,
    summary: &LayerSummary,
    module: &dyn Module<f32>,
    after_relu: bool,
    until: Until,
) -> Result<LayerTimes, TrainError> {
    let n = summary.input[0];
    let (x, dy) = (random(summary.input, 0), random(summary.output, 1));
    let pass =
        |times: &[Duration]| Pass { algorithm: None, ms: 1e3 * median_seconds(times), gflop_per_s: None };
    let mut forward = Vec::new();
    let backward = until.measure(|| {
        let tape = Tape::new(context.clone());
        let input = tape.leaf(x.narrow_in(context.pool(), 0, n));
        let gradient = dy.narrow_in(context.pool(), 0, n);
        let begin = Instant::now();
        let output = if after_relu { module.forward_after_relu(input) } else { module.forward(input) }?;
        forward.push(begin.elapsed());
        let begin = Instant::now();
        tape.backward_with(output, gradient)?;
        Ok::<_, TrainError>(begin.elapsed())
    })?;
    // As many as were timed backward: what came before was warming up.
    let forward = forward.split_off(forward.len() - backward.len());
    Ok(LayerTimes {
        path: summary.path.clone(),
        kind: format!("{}{}", if after_relu { "ReLU + " } else { "" }, summary.kind),
        input: plane(summary.input),
        output: plane(summary.output),
        forward: pass(&forward),
        input_gradient: Some(pass(&backward)),
        weight_gradient: None,
    })
}
