//! A convolution and the pointwise ones after it, a block of pixels at a time: a block goes through all layers while it is
//! in the second-level cache, forward and backward, so that maps between the layers are written once, read
//! once, and not at all where nothing needs them.
//!
//! Layers whose algorithm looks further than a pixel run one after the other, as they would alone. The outputs have the same
//! bits either way.

use std::ops::Range;

use super::direct::{batches, part, part_mut};
use super::fast::packed;
use super::windows::windows;
use super::{ConvAlgorithm, ConvGeometry, Convolution, Pass};
use crate::buffer_pool::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::gemm::{By, Epilogue, Operand, Output, Planes, Stage, gemm_backward, gemm_columns};
use crate::simd::Isa;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// Pixels of a block of the forward pass.
const BLOCK: usize = 240;

/// Bytes that a block on its way backward may occupy: with more, layers push each other out of a second-level cache of 2 MB.
const BACKWARD_BYTES: usize = 7 << 18;

/// The outputs of all layers if `keep`, otherwise of the last alone.
///
/// # Panics
/// If a tensor does not have its geometry's shape.
pub(crate) fn forward<T: Element>(
    context: &Context,
    layers: &[Convolution<'_, T>],
    x: &Tensor<T>,
    keep: bool,
) -> Vec<Tensor<T>> {
    T::forward_chain(context, layers, x, keep)
}

/// [`forward`], a layer after the other.
pub(super) fn one_by_one<T: Element>(
    context: &Context,
    layers: &[Convolution<'_, T>],
    x: &Tensor<T>,
    keep: bool,
) -> Vec<Tensor<T>> {
    let mut outputs: Vec<Tensor<T>> = Vec::with_capacity(layers.len());
    for layer in layers {
        let y = super::forward(context, layer, outputs.last().unwrap_or(x));
        if !keep {
            outputs.clear();
        }
        outputs.push(y);
    }
    outputs
}

/// The gradient with respect to the first layer's input, if wanted, from that with respect to the last one's output. Those with
/// respect to weights and biases are added to the `sinks`: 0 and 1 are the first layer's. `outputs` are those of the forward
/// pass; the last is only needed if that layer has a ReLU.
///
/// # Panics
/// If a tensor does not have its geometry's shape.
pub(crate) fn backward<T: Element>(
    context: &Context,
    layers: &[Convolution<'_, T>],
    x: &Tensor<T>,
    mut outputs: Vec<Tensor<T>>,
    gradient: Tensor<T>,
    input_wanted: bool,
    sinks: &mut Sinks<'_, T>,
) -> Option<Tensor<T>> {
    let (mut left, mut gradient) = (layers.len(), Some(gradient));
    while let Some(dy) = gradient.take_if(|_| left > 0) {
        let layers = &layers[..left];
        (left, gradient) = T::backward_chain_end(context, layers, x, &outputs, dy, input_wanted, sinks);
        outputs.truncate(left);
    }
    gradient
}

/// [`Convolve::backward_chain_end`](super::Convolve::backward_chain_end) of the last layer alone.
pub(super) fn backward_last<T: Element>(
    context: &Context,
    layers: &[Convolution<'_, T>],
    x: &Tensor<T>,
    outputs: &[Tensor<T>],
    gradient: Tensor<T>,
    input_wanted: bool,
    sinks: &mut Sinks<'_, T>,
) -> (usize, Option<Tensor<T>>) {
    let last = layers.len() - 1;
    let output = layers[last].relu.then(|| &outputs[last]);
    let (x, wanted) = if last == 0 { (x, input_wanted) } else { (&outputs[last - 1], true) };
    (last, super::backward(context, &layers[last], x, output, gradient, wanted, &mut sinks.tail(2 * last)))
}

impl Convolution<'_, f32> {
    fn is_direct(&self, context: &Context) -> bool {
        self.geometry.groups == 1 && self.algorithm(context) == ConvAlgorithm::Direct
    }
}

/// The first of the layers at the end that a block of pixels can go through.
fn together(context: &Context, layers: &[Convolution<'_, f32>]) -> usize {
    if context.parallel {
        return layers.len();
    }
    let pointwise = |layer: &&Convolution<'_, f32>| layer.geometry.is_pointwise() && layer.is_direct(context);
    let first = layers.len() - layers.iter().rev().take_while(pointwise).count();
    first - usize::from(layers[..first].last().is_some_and(|layer| layer.is_direct(context)))
}

/// [`forward`] in f32: layers that look further than a pixel by themselves, blocks of pixels through the others.
pub(super) fn forward_in_blocks(
    context: &Context,
    layers: &[Convolution<'_, f32>],
    x: &Tensor<f32>,
    keep: bool,
) -> Vec<Tensor<f32>> {
    let first = together(context, layers);
    let mut outputs = one_by_one(context, &layers[..first], x, keep);
    if first < layers.len() {
        let x = outputs.last().unwrap_or(x).clone();
        if !keep {
            outputs.clear();
        }
        outputs.extend(blocks(context, &layers[first..], &x, keep));
    }
    outputs
}

/// The output of a layer: all of it, or a block.
enum Target {
    Whole(Tensor<f32>),
    Block(Buffer<f32>),
}

impl Target {
    /// As an input: the planes, and where in their columns the block `columns` of `images` begins.
    fn input(&self, g: &ConvGeometry, images: &Range<usize>, columns: &Range<usize>) -> (Planes<'_>, usize) {
        match self {
            Self::Whole(y) => {
                (part((y.data(), None), [g.c_out, g.out_pixels()], images, [0, 1]), columns.start)
            }
            Self::Block(block) => (Planes::matrix(block, g.c_out, BLOCK), 0),
        }
    }

    /// The place for such a block: an output and the first of its columns.
    fn output(
        &mut self,
        g: &ConvGeometry,
        images: &Range<usize>,
        columns: &Range<usize>,
    ) -> (Output<'_>, usize) {
        match self {
            Self::Whole(y) => {
                (part_mut(y.data_mut(), [g.c_out, g.out_pixels()], images, [0, 1]), columns.start)
            }
            Self::Block(block) => (Output::matrix(block, g.c_out, BLOCK, BLOCK), 0),
        }
    }
}

/// The outputs of layers that go [`together`].
fn blocks(
    context: &Context,
    layers: &[Convolution<'_, f32>],
    x: &Tensor<f32>,
    keep: bool,
) -> impl Iterator<Item = Tensor<f32>> + use<> {
    let pool = context.pool();
    let target = |(index, layer): (usize, &Convolution<'_, f32>)| match keep || index + 1 == layers.len() {
        true => Target::Whole(Tensor::empty_in(pool, layer.geometry.output_shape())),
        false => Target::Block(pool.take(layer.geometry.c_out * BLOCK)),
    };
    let mut targets: Vec<Target> = layers.iter().enumerate().map(target).collect();
    let weights: Vec<_> = layers.iter().map(|layer| packed(layer, Pass::Forward)).collect();
    let g = &layers[0].geometry;
    for images in batches(g) {
        let x = part((x.data(), None), [g.c_in, g.in_pixels()], &images, [0, 1]);
        let input = windows(pool, g, x, By::Position);
        let pixels = images.len() * g.out_pixels();
        for start in (0..pixels).step_by(BLOCK) {
            let columns = start..pixels.min(start + BLOCK);
            for (index, (layer, weights)) in layers.iter().zip(&weights).enumerate() {
                let (below, own) = targets.split_at_mut(index);
                let (mut y, place) = own[0].output(&layer.geometry, &images, &columns);
                let bias = layer.bias.map(Tensor::data);
                let epilogue = Epilogue { accumulate: false, bias, relu: layer.relu };
                let weights = weights.only_group();
                let Some(below) = below.last() else {
                    gemm_columns(pool, weights, &*input, columns.clone(), epilogue, &mut y, place);
                    continue;
                };
                let (x, first) = below.input(&layers[index - 1].geometry, &images, &columns);
                let x = x.by(By::Position);
                gemm_columns(pool, weights, &x, first..first + columns.len(), epilogue, &mut y, place);
            }
        }
    }
    targets.into_iter().filter_map(|target| match target {
        Target::Whole(y) => Some(y),
        Target::Block(_) => None,
    })
}

/// The first of the layers at the end that a block of the output gradient goes through.
fn backward_start(
    context: &Context,
    layers: &[Convolution<'_, f32>],
    input_wanted: bool,
    sinks: &Sinks<'_, f32>,
) -> usize {
    let last = layers.len() - 1;
    let mut first = together(context, layers).min(last);
    // Only a pointwise layer's input gradient belongs to the same pixels.
    if first == 0 && input_wanted && !layers[0].geometry.is_pointwise() {
        first = last.min(1);
    }
    // Two blocks of the widest map, and of each layer the weights and their gradients.
    let bytes = |first: usize| -> usize {
        let widest = layers[first..].iter().map(|layer| layer.geometry.c_out).max().unwrap_or(0);
        let weights = layers[first..].iter().map(|layer| layer.geometry.weight_len());
        4 * (2 * 256 * widest + 2 * weights.sum::<usize>())
    };
    let all_wanted = |first: usize| (2 * first..2 * layers.len()).all(|sink| sinks.wanted(sink));
    while first < last && (bytes(first) > BACKWARD_BYTES || !all_wanted(first)) {
        first += 1;
    }
    first
}

/// [`Convolve::backward_chain_end`](super::Convolve::backward_chain_end): of the layers that a block goes through in one pass, or of
/// the last alone.
pub(super) fn backward_end(
    context: &Context,
    layers: &[Convolution<'_, f32>],
    x: &Tensor<f32>,
    outputs: &[Tensor<f32>],
    gradient: Tensor<f32>,
    input_wanted: bool,
    sinks: &mut Sinks<'_, f32>,
) -> (usize, Option<Tensor<f32>>) {
    let (first, last) = (backward_start(context, layers, input_wanted, sinks), layers.len() - 1);
    if first == last {
        return backward_last(context, layers, x, outputs, gradient, input_wanted, sinks);
    }
    let x_of = |index: usize| if index == 0 { x } else { &outputs[index - 1] };
    let input_wanted = first > 0 || input_wanted;
    let (pool, g) = (context.pool(), &layers[first].geometry);
    let stages = || (first..=last).rev();
    let mut dx = input_wanted.then(|| Tensor::empty_in(pool, g.input_shape()));
    let mut parameters: Vec<[Tensor<f32>; 2]> = stages()
        .map(|index| {
            let g = &layers[index].geometry;
            [g.weight_shape(), g.bias_shape()].map(|shape| Tensor::empty_in(pool, shape))
        })
        .collect();
    let weights: Vec<_> = stages()
        .map(|index| (index > first || input_wanted).then(|| packed(&layers[index], Pass::InputGradient)))
        .collect();
    for images in batches(g) {
        let maps = |data, mask, channels| part((data, mask), [channels, g.out_pixels()], &images, [0, 1]);
        let output = layers[last].relu.then(|| outputs[last].data());
        let dy = maps(gradient.data(), output, layers[last].geometry.c_out);
        let inputs: Vec<Box<dyn Operand + '_>> = stages()
            .map(|index| {
                let (g, x) = (&layers[index].geometry, x_of(index).data());
                windows(pool, g, part((x, None), [g.c_in, g.in_pixels()], &images, [0, 1]), By::Element)
            })
            .collect();
        let mut run: Vec<Stage<'_>> = Vec::with_capacity(parameters.len());
        let all = stages().zip(&mut parameters).zip(inputs.iter().zip(&weights));
        for ((index, [dw, db]), (input, weights)) in all {
            let below = (index > first && layers[index - 1].relu).then(|| x_of(index).data());
            run.push(Stage {
                input: &**input,
                dw: dw.data_mut(),
                db: Some(db.data_mut()),
                weights: weights.as_ref().map(|weights| (weights.only_group(), layers[index].weight.data())),
                relu_mask: below.map(|below| maps(below, None, layers[index].geometry.c_in)),
            });
        }
        let mut out = dx.as_mut().map(|dx| part_mut(dx.data_mut(), [g.c_in, g.in_pixels()], &images, [0, 1]));
        gemm_backward(pool, Isa::current(), &dy, &mut run, images.start > 0, out.as_mut());
    }
    for (index, [dw, db]) in stages().zip(parameters) {
        sinks.add(2 * index, || dw);
        sinks.add(2 * index + 1, || db);
    }
    (first, dx)
}
