//! A convolution and the pointwise ones after it, a block of pixels at a time: a block goes through all layers while it is
//! in the second-level cache, forward and backward, so that maps between the layers are written once, read
//! once, and not at all where nothing needs them.
//!
//! Layers whose algorithm looks further than a pixel run one after the other, as they would alone. The outputs have the same
//! bits either way.

use std::ops::Range;

use super::implicit_gemm::{Pass, batches, part, planes};
use super::windows::{ElementLanes, PositionLanes, Windows};
use super::{Algorithm, ConvGeometry, Wanted, choose, fast};
use crate::context::Context;
use crate::element::Element;
use crate::gemm::{Epilogue, Operand, Output, Planes, Stage, gemm_backward, gemm_columns};
use crate::simd::Isa;
use crate::tensor::Tensor;

/// Pixels of a block of the forward pass.
const BLOCK: usize = 240;

/// What the walk of a block backward may occupy: with more, layers push each other out of a second-level cache of 2 MB.
const WALK_BYTES: usize = 7 << 18;

const F32: &str = "the fast passes are chosen for f32 only";

/// One of the convolutions.
#[derive(Debug)]
pub struct Layer<'a, T: Element> {
    /// The sizes of this convolution.
    pub geometry: ConvGeometry,
    /// O x C/groups x KH x KW.
    pub weight: &'a Tensor<T>,
    /// O.
    pub bias: &'a Tensor<T>,
    /// Whether ReLU is applied to the output.
    pub relu: bool,
}

impl<T: Element> Layer<'_, T> {
    fn is_direct(&self, context: &Context) -> bool {
        self.geometry.groups == 1 && choose::<T>(&self.geometry, context.conv) == Algorithm::Direct
    }
}

/// The first of the layers at the end that a block of pixels can go through.
fn together<T: Element>(context: &Context, layers: &[Layer<'_, T>]) -> usize {
    if context.parallel {
        return layers.len();
    }
    let direct = |layer: &&Layer<'_, T>| layer.is_direct(context);
    let pointwise = layers.iter().rev().take_while(|layer| layer.geometry.is_pointwise()).take_while(direct);
    let first = layers.len() - pointwise.count();
    first - usize::from(layers[..first].last().is_some_and(|layer| layer.is_direct(context)))
}

/// The outputs of all layers if `keep`, otherwise of the last alone.
///
/// # Panics
/// If a tensor does not have its geometry's shape.
pub fn forward<T: Element>(
    context: &Context,
    layers: &[Layer<'_, T>],
    x: &Tensor<T>,
    keep: bool,
) -> Vec<Tensor<T>> {
    let first = together(context, layers);
    let mut outputs: Vec<Tensor<T>> = Vec::with_capacity(layers.len());
    for Layer { geometry, weight, bias, relu } in &layers[..first] {
        let mut y = Tensor::uninit_in(context.pool(), geometry.output_shape());
        let x = outputs.last().unwrap_or(x);
        super::forward(context, geometry, x, weight, Some(bias), *relu, &mut y);
        if !keep {
            outputs.clear();
        }
        outputs.push(y);
    }
    if first < layers.len() {
        let x = outputs.last().unwrap_or(x).clone();
        if !keep {
            outputs.clear();
        }
        forward_blocks(context, &layers[first..], &x, keep, &mut outputs);
    }
    outputs
}

/// The output of a layer: all of it, or a block.
struct Target<'a> {
    data: &'a mut [f32],
    whole: bool,
}

impl Target<'_> {
    /// As an input: the planes, and which of their columns are the block `columns` of `images`.
    fn input(&self, g: &ConvGeometry, images: &Range<usize>, columns: &Range<usize>) -> (Planes<'_>, usize) {
        if self.whole {
            let part = part(self.data, None, g.c_out, 1, g.out_pixels(), images, 0);
            (planes(part, g.out_pixels()), columns.start)
        } else {
            (Planes::matrix(self.data, g.c_out, BLOCK), 0)
        }
    }

    /// The place for such a block: an output and the first of its columns.
    fn output(
        &mut self,
        g: &ConvGeometry,
        images: &Range<usize>,
        columns: &Range<usize>,
    ) -> (Output<'_>, usize) {
        if self.whole {
            let (channels, pixels) = (g.c_out, g.out_pixels());
            let y = &mut self.data[images.start * channels * pixels..];
            (Output::planes(y, channels, pixels, [images.len(), pixels, channels * pixels]), columns.start)
        } else {
            (Output::matrix(self.data, g.c_out, BLOCK, BLOCK), 0)
        }
    }
}

/// Runs layers that go [`together`], and adds their outputs to those there are.
fn forward_blocks<T: Element>(
    context: &Context,
    layers: &[Layer<'_, T>],
    x: &Tensor<T>,
    keep: bool,
    outputs: &mut Vec<Tensor<T>>,
) {
    let (pool, count, known) = (context.pool(), layers.len(), outputs.len());
    let whole = |index: usize| keep || index + 1 == count;
    let kept = layers.iter().enumerate().filter(|&(index, _)| whole(index));
    outputs.extend(kept.map(|(_, layer)| Tensor::uninit_in(pool, layer.geometry.output_shape())));
    let blocks = layers.iter().enumerate().filter(|&(index, _)| !whole(index));
    let mut blocks: Vec<_> =
        blocks.map(|(_, layer)| pool.take::<f32>(layer.geometry.c_out * BLOCK)).collect();
    let blocks = blocks.iter_mut().map(|block| Target { data: block, whole: false });
    let tensors = outputs[known..].iter_mut();
    let tensors = tensors.map(|y| Target { data: T::as_f32_mut(y.data_mut()).expect(F32), whole: true });
    let mut targets: Vec<Target<'_>> = blocks.chain(tensors).collect();

    let weights: Vec<_> =
        layers.iter().map(|layer| fast::packed(&layer.geometry, Pass::Forward, layer.weight)).collect();
    let g = &layers[0].geometry;
    let x = T::as_f32(x.data()).expect(F32);
    for images in batches(g) {
        let x = part(x, None, g.c_in, 1, g.in_pixels(), &images, 0);
        let input: Box<dyn Operand + '_> = if g.is_pointwise() {
            Box::new(planes(x, g.in_pixels()).by_pixel())
        } else {
            Box::new(PositionLanes(Windows::for_positions(pool, g, x)))
        };
        let pixels = images.len() * g.out_pixels();
        for start in (0..pixels).step_by(BLOCK) {
            let columns = start..pixels.min(start + BLOCK);
            for (index, (layer, weights)) in layers.iter().zip(&weights).enumerate() {
                let (below, own) = targets.split_at_mut(index);
                let (mut y, place) = own[0].output(&layer.geometry, &images, &columns);
                let bias = T::as_f32(layer.bias.data());
                let epilogue = Epilogue { accumulate: false, bias, relu: layer.relu };
                let weights = weights.only_group();
                let Some(below) = below.last() else {
                    gemm_columns(pool, weights, &*input, columns.clone(), epilogue, &mut y, place);
                    continue;
                };
                let (x, first) = below.input(&layers[index - 1].geometry, &images, &columns);
                let block = first..first + columns.len();
                gemm_columns(pool, weights, &x.by_pixel(), block, epilogue, &mut y, place);
            }
        }
    }
}

/// The gradients that [`backward`] answers: with respect to the input, if it is wanted, and each layer's with respect to
/// weight and bias, if they are wanted and the context's sums have not taken them.
pub type Gradients<T> = (Option<Tensor<T>>, Vec<[Option<Tensor<T>>; 2]>);

/// The gradients, from those with respect to the last layer's output. `outputs` are those of the forward pass; the last is only
/// needed if that layer has a ReLU. `wanted` has the input's, and a weight's and a bias's for each layer.
///
/// # Panics
/// If a tensor does not have its geometry's shape.
pub fn backward<T: Element>(
    context: &Context,
    layers: &[Layer<'_, T>],
    x: &Tensor<T>,
    mut outputs: Vec<Tensor<T>>,
    mut gradient: Tensor<T>,
    wanted: &[bool],
) -> Gradients<T> {
    let mut all: Vec<[Option<Tensor<T>>; 2]> = layers.iter().map(|_| [None, None]).collect();
    let mut end = layers.len();
    while end > 0 {
        let first = walk_start(context, &layers[..end], wanted);
        let input = first > 0 || wanted[0];
        let dx = if end - first > 1 {
            walk(context, &layers[..end], first, x, &outputs, &gradient, input, &mut all[first..end])
        } else {
            let layer = &layers[first];
            let x = if first == 0 { x } else { &outputs[first - 1] };
            let rectified = layer.relu.then(|| &outputs[first]);
            let wanted = Wanted { input, weight: wanted[1 + 2 * first], bias: wanted[2 + 2 * first] };
            let own = super::backward(context, &layer.geometry, x, layer.weight, gradient, rectified, wanted);
            all[first] = [own.weight, own.bias];
            own.input
        };
        outputs.truncate(first);
        end = first;
        match dx {
            Some(dx) => gradient = dx,
            None => return (None, all),
        }
    }
    (Some(gradient), all)
}

/// The first of the layers at the end that one walk takes; the last one if they go one by one.
fn walk_start<T: Element>(context: &Context, layers: &[Layer<'_, T>], wanted: &[bool]) -> usize {
    let last = layers.len() - 1;
    let mut first = together(context, layers).min(last);
    // Only a pointwise layer's input gradient belongs to the same pixels.
    if first == 0 && wanted[0] && !layers[0].geometry.is_pointwise() {
        first = last.min(1);
    }
    let all_wanted = |index: usize| wanted[1 + 2 * index] && wanted[2 + 2 * index];
    // Two blocks of the widest map, and of each layer the weights and their gradients.
    let bytes = |first: usize| -> usize {
        let widest = layers[first..].iter().map(|layer| layer.geometry.c_out).max().unwrap_or(0);
        let weights = layers[first..].iter().map(|layer| layer.geometry.weight_len());
        4 * (2 * 256 * widest + 2 * weights.sum::<usize>())
    };
    while first < last && (bytes(first) > WALK_BYTES || !(first..=last).all(all_wanted)) {
        first += 1;
    }
    first
}

/// All gradients of the layers from `first` on, in one walk, and if `input` that with respect to the first one's input.
fn walk<T: Element>(
    context: &Context,
    layers: &[Layer<'_, T>],
    first: usize,
    x: &Tensor<T>,
    outputs: &[Tensor<T>],
    gradient: &Tensor<T>,
    input: bool,
    all: &mut [[Option<Tensor<T>>; 2]],
) -> Option<Tensor<T>> {
    let pool = context.pool();
    let single = |tensor| T::as_f32(Tensor::data(tensor)).expect(F32);
    let end = layers.len();
    let x_of = |index: usize| single(if index == 0 { x } else { &outputs[index - 1] });
    let weights: Vec<_> = layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let used = index > first || index == first && input;
            used.then(|| fast::packed(&layer.geometry, Pass::InputGradient, layer.weight))
        })
        .collect();
    let (g, last) = (&layers[first].geometry, &layers[end - 1]);
    let mut dx = input.then(|| Tensor::<T>::uninit_in(pool, g.input_shape()));
    for (layer, own) in layers[first..].iter().zip(&mut *all) {
        *own = [layer.weight, layer.bias].map(|value| Some(Tensor::uninit_in(pool, value.shape())));
    }
    for images in batches(g) {
        let planes_of = |data, mask, channels| {
            planes(part(data, mask, channels, 1, g.out_pixels(), &images, 0), g.out_pixels())
        };
        let mask = last.relu.then(|| single(&outputs[end - 1]));
        let dy = planes_of(single(gradient), mask, last.geometry.c_out);
        let operands: Vec<Box<dyn Operand + '_>> = (first..end)
            .map(|index| -> Box<dyn Operand + '_> {
                let g = &layers[index].geometry;
                if g.is_pointwise() {
                    return Box::new(planes_of(x_of(index), None, g.c_in).by_channel());
                }
                let x = part(x_of(index), None, g.c_in, 1, g.in_pixels(), &images, 0);
                Box::new(ElementLanes(Windows::for_elements(pool, g, x)))
            })
            .collect();
        let mut links: Vec<Stage<'_>> = all
            .iter_mut()
            .zip(&operands)
            .zip(first..end)
            .map(|((own, input), index)| {
                let [dw, db] = own.each_mut().map(|own| {
                    let own = own.as_mut().expect("it was just made");
                    T::as_f32_mut(own.data_mut()).expect(F32)
                });
                let below = (index > first && layers[index - 1].relu).then(|| x_of(index));
                Stage {
                    input: &**input,
                    dw,
                    db: Some(db),
                    weights: weights[index].as_ref().map(|weights| weights.only_group()),
                    relu_mask: below.map(|below| planes_of(below, None, layers[index].geometry.c_in)),
                }
            })
            .collect();
        links.reverse();
        let mut out = dx.as_mut().map(|dx| {
            let (channels, pixels) = (g.c_in, g.in_pixels());
            let dx = T::as_f32_mut(dx.data_mut()).expect(F32);
            let dx = &mut dx[images.start * channels * pixels..];
            Output::planes(dx, channels, pixels, [images.len(), pixels, channels * pixels])
        });
        gemm_backward(pool, Isa::current(), &dy, &mut links, images.start > 0, out.as_mut());
    }
    dx
}
