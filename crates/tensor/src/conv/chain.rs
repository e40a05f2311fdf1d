//! A convolution and the pointwise ones after it, a block of pixels at a time: a block goes through all layers while it is
//! in the second-level cache, forward and backward, so that maps between the layers are written once, read
//! once, and not at all where nothing needs them.
//!
//! Layers whose algorithm looks further than a pixel run one after the other, as they would alone. The outputs have the same
//! bits either way.

use std::sync::Arc;

use super::direct::{PackedWeights, batches, part, part_mut};
use super::fast::packed;
use super::windows::windows;
use super::{Chain, Convolution, Pass};
use crate::buffer_pool::BufferPool;
use crate::gemm::{By, Operand, Stage, gemm, gemm_backward};
use crate::shape::Shape;
use crate::simd::Isa;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// Pixels of a block of the forward pass.
const BLOCK: usize = 240;

/// Bytes that a block on its way backward may occupy: with more, layers push each other out of a second-level cache of 2 MB.
const BACKWARD_BYTES: usize = 7 << 18;

/// The first of the layers at the end that a block of pixels can go through.
pub(super) fn together(parallel: bool, layers: &[Convolution<'_, f32>]) -> usize {
    let direct = |layer: &Convolution<'_, f32>| layer.geometry.groups == 1 && layer.is_direct();
    if parallel {
        return layers.len();
    }
    let pointwise = |layer: &&Convolution<'_, f32>| layer.geometry.is_pointwise() && direct(layer);
    let first = layers.len() - layers.iter().rev().take_while(pointwise).count();
    first - usize::from(layers[..first].last().is_some_and(direct))
}

/// The outputs of layers that go [`together`], all if `keep`, otherwise of the last alone.
pub(super) fn forward(
    pool: &Arc<BufferPool>,
    layers: &[Convolution<'_, f32>],
    x: &Tensor<f32>,
    keep: bool,
) -> Vec<Tensor<f32>> {
    let (g, last) = (&layers[0].geometry, layers.len() - 1);
    // A map that is not kept has room for a block.
    let kept = |index: usize| keep || index == last;
    let map = |(index, layer): (usize, &Convolution<'_, f32>)| match kept(index) {
        true => Tensor::empty_in(pool, layer.geometry.output_shape()),
        false => Tensor::empty_in(pool, [layer.geometry.c_out, BLOCK]),
    };
    let mut maps: Vec<Tensor<f32>> = layers.iter().enumerate().map(map).collect();
    let weights: Vec<_> = layers.iter().map(|layer| packed(layer, Pass::Forward)).collect();
    for images in batches(g) {
        let x = part(x.data(), [g.c_in, g.in_pixels()], &images, [0, 1]);
        let input = windows(pool, g, x, By::Position);
        let pixels = images.len() * g.out_pixels();
        for start in (0..pixels).step_by(BLOCK) {
            let block = start..pixels.min(start + BLOCK);
            // Where the block lies in a map: pixels of a plane, the images, and its first column in them.
            let place = |index: usize| match kept(index) {
                true => (g.out_pixels(), images.clone(), block.start),
                false => (BLOCK, 0..1, 0),
            };
            for (index, (layer, weights)) in layers.iter().zip(&weights).enumerate() {
                let (below, own) = maps.split_at_mut(index);
                let (plane, images, column) = place(index);
                let mut y = part_mut(own[0].data_mut(), [layer.geometry.c_out, plane], &images, [0, 1]);
                let epilogue = layer.epilogue();
                let weights = &weights.groups[0];
                let Some(below) = below.last() else {
                    gemm(pool, weights, (&*input, block.clone()), epilogue, (&mut y, column), false);
                    continue;
                };
                let (plane, images, first) = place(index - 1);
                let x = part(below.data(), [layer.geometry.c_in, plane], &images, [0, 1]);
                let columns = first..first + block.len();
                gemm(pool, weights, (&x.by(By::Position), columns), epilogue, (&mut y, column), false);
            }
        }
    }
    maps.split_off(if keep { 0 } else { last })
}

/// The first of the layers at the end that a block of the output gradient goes through: the last, which is one of direct
/// products, alone, or layers before it, too.
pub(super) fn backward_start(
    parallel: bool,
    layers: &[Convolution<'_, f32>],
    input_wanted: bool,
    sinks: &Sinks<'_, f32>,
) -> usize {
    let last = layers.len() - 1;
    let mut first = together(parallel, layers).min(last);
    // Only a pointwise layer's input gradient belongs to the same pixels.
    if (first > 0 || input_wanted) && !layers[first].geometry.is_pointwise() {
        first = last.min(first + 1);
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

/// The gradients of layers that a block of pixels goes through in one pass, or of one layer: of the weights, of the biases if
/// they are wanted, and, where the first of `weights` is there, with respect to the input, the bits of which are those of the
/// convolution that gives it. The weights are each layer's, packed for [`Pass::InputGradient`].
///
/// # Panics
/// If the gradient with respect to an input is asked for, and its layer is not pointwise.
pub(super) fn backward(
    pool: &Arc<BufferPool>,
    isa: Isa,
    chain: &Chain<'_, f32>,
    weights: &[Option<Arc<PackedWeights>>],
    dy: &[f32],
    sinks: &mut Sinks<'_, f32>,
) -> Option<Tensor<f32>> {
    let (layers, g, last) = (chain.layers, &chain.layers[0].geometry, chain.last());
    let make = |shape: Shape| match g.n {
        0 => Tensor::zeros_in(pool, shape),
        _ => Tensor::empty_in(pool, shape),
    };
    let mut dx = weights[0].as_ref().map(|_| make(g.input_shape()));
    let mut parameters: Vec<_> = (layers.iter().enumerate())
        .map(|(index, Convolution { geometry: g, .. })| {
            (make(g.weight_shape()), sinks.wanted(2 * index + 1).then(|| make(g.bias_shape())))
        })
        .collect();
    for images in batches(g) {
        for at in (0..g.groups).map(|group| [group, g.groups]) {
            let dy = part(dy, [layers[last].geometry.c_out, g.out_pixels()], &images, at);
            let inputs = |index: usize| {
                let (g, x) = (&layers[index].geometry, chain.input(index).data());
                part(x, [g.c_in, g.in_pixels()], &images, at)
            };
            let operand = |(index, layer): (usize, &Convolution<'_, f32>)| {
                windows(pool, &layer.geometry, inputs(index), By::Element)
            };
            let operands: Vec<Box<dyn Operand + '_>> = layers.iter().enumerate().map(operand).collect();
            let own = |len: usize| at[0] * (len / at[1])..(at[0] + 1) * (len / at[1]);
            let mut stages: Vec<Stage<'_>> = Vec::with_capacity(layers.len());
            for (index, (layer, (dw, db))) in layers.iter().zip(&mut parameters).enumerate().rev() {
                let (w, b) = (own(layer.geometry.weight_len()), own(layer.geometry.c_out));
                let packed = weights[index].as_ref().map(|packed| &packed.groups[at[0]]);
                stages.push(Stage {
                    input: &*operands[index],
                    dw: &mut dw.data_mut()[w.clone()],
                    db: db.as_mut().map(|db| &mut db.data_mut()[b]),
                    weights: packed.map(|packed| (packed, &layer.weight.data()[w])),
                    relu_mask: (index > 0 && layers[index - 1].relu).then(|| inputs(index)),
                });
            }
            let mut out = dx.as_mut().map(|dx| part_mut(dx.data_mut(), [g.c_in, g.in_pixels()], &images, at));
            gemm_backward(pool, isa, &dy, &mut stages, images.start > 0, out.as_mut());
        }
    }
    for (index, (dw, db)) in parameters.into_iter().enumerate() {
        sinks.add(2 * index, || dw);
        if let Some(db) = db {
            sinks.add(2 * index + 1, || db);
        }
    }
    dx
}
