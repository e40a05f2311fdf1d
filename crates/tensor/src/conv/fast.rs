//! The convolutions of `f32`, on the SIMD kernels: weights packed or transformed once and kept with them, scratch from the pool.

use std::sync::Arc;

use super::depthwise;
use super::direct::{self, PackedWeights};
use super::winograd::{self, PreparedWeights, Tile, WeightGradientAccumulator};
use super::{
    ConvAlgorithm, ConvGeometry, Convolution, Convolve, Pass, bias_gradient, chain, reference_backward,
    reference_forward,
};
use crate::buffer_pool::BufferPool;
use crate::context::Context;
use crate::simd::Isa;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// Images that the choice counts with, whatever a micro-batch holds, so that a short last one is computed as the others are.
const NOMINAL_IMAGES: usize = 8;

/// Tells apart the forms of one weight: its pass, how its gradient is computed, its groups.
fn key(g: &ConvGeometry, pass: Pass, tile: Option<Tile>) -> u64 {
    let tile =
        tile.map_or(0, |tile| 1 + Tile::ALL.iter().position(|&other| other == tile).unwrap_or(0) as u64);
    u64::from(pass == Pass::InputGradient) | u64::from(g.flips()) << 1 | tile << 2 | (g.groups as u64) << 8
}

/// The layer's weights packed for a pass, kept with them.
pub(super) fn packed(layer: &Convolution<'_, f32>, pass: Pass) -> Arc<PackedWeights> {
    let g = &layer.geometry;
    let pack = |w: &[f32]| PackedWeights::new(BufferPool::global(), Isa::current(), g, pass, w);
    layer.weight.cached(key(g, pass, None), pack, |packed, w| packed.refill(g, pass, w))
}

/// The layer's weights in the Winograd domain, for a pass, kept with them.
fn transformed(layer: &Convolution<'_, f32>, tile: Tile, pass: Pass) -> Arc<PreparedWeights> {
    let g = &layer.geometry;
    let transform = |w: &[f32]| PreparedWeights::new(BufferPool::global(), tile, pass, g, w, Isa::current());
    layer.weight.cached(key(g, pass, Some(tile)), transform, PreparedWeights::refill)
}

impl Convolve for f32 {
    fn choose(g: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
        let tile = match asked {
            ConvAlgorithm::Auto => winograd::tile_for(&g.with_images(NOMINAL_IMAGES)),
            ConvAlgorithm::Winograd(None) => Tile::ALL.into_iter().find(|tile| tile.supports(g)),
            ConvAlgorithm::Winograd(tile) => tile.filter(|tile| tile.supports(g)),
            other => return other,
        };
        tile.map_or(ConvAlgorithm::Direct, |tile| ConvAlgorithm::Winograd(Some(tile)))
    }

    fn forward(context: &Context, layer: &Convolution<'_, f32>, x: &Tensor<f32>) -> Tensor<f32> {
        let algorithm = layer.algorithm(context);
        if matches!(algorithm, ConvAlgorithm::Naive | ConvAlgorithm::Im2col) {
            return reference_forward(context, layer, x);
        }
        let (g, pool, parallel) = (&layer.geometry, context.pool(), context.parallel);
        let mut y = Tensor::empty_in(pool, g.output_shape());
        let (bias, relu) = (layer.bias.map(Tensor::data), layer.relu);
        match algorithm {
            ConvAlgorithm::Winograd(Some(tile)) => {
                let weights = transformed(layer, tile, Pass::Forward);
                winograd::convolve(pool, &weights, g, (x.data(), None), (bias, relu), parallel, y.data_mut());
            }
            _ if g.is_depthwise() => {
                let inputs = (x.data(), layer.weight.data());
                depthwise::forward(pool, Isa::current(), g, inputs, (bias, relu), parallel, y.data_mut());
            }
            _ => {
                let weights = packed(layer, Pass::Forward);
                direct::forward(pool, g, x.data(), &weights, (bias, relu), parallel, y.data_mut());
            }
        }
        y
    }

    fn backward(
        context: &Context,
        layer: &Convolution<'_, f32>,
        x: &Tensor<f32>,
        output: Option<&Tensor<f32>>,
        grad_output: Tensor<f32>,
        input_wanted: bool,
        sinks: &mut Sinks<'_, f32>,
    ) -> Option<Tensor<f32>> {
        let algorithm = layer.algorithm(context);
        if matches!(algorithm, ConvAlgorithm::Naive | ConvAlgorithm::Im2col) {
            return reference_backward(context, layer, x, output, grad_output, input_wanted, sinks);
        }
        let (g, pool, parallel) = (&layer.geometry, context.pool(), context.parallel);
        let (x, dy, mask) = (x.data(), grad_output.data(), output.map(Tensor::data));
        let [mut dx, mut db] = [(input_wanted, g.input_shape()), (sinks.wanted(1), g.bias_shape())]
            .map(|(wanted, shape)| wanted.then(|| Tensor::empty_in(pool, shape)));
        let [mut to_dx, mut to_db] = [&mut dx, &mut db].map(|to| to.as_mut().map(Tensor::data_mut));
        if !sinks.wanted(0)
            && let Some(db) = to_db.take()
        {
            bias_gradient(g, dy, mask, db);
        }
        match algorithm {
            ConvAlgorithm::Winograd(Some(tile)) => {
                if let Some(sum) = sinks.get(0) {
                    let make = |pool: &_| WeightGradientAccumulator::new(pool, tile, g, Isa::current());
                    let add = |own: &mut WeightGradientAccumulator| {
                        own.accumulate(pool, g, x, (dy, mask), to_db);
                    };
                    sum.add_deferred(pool, make, |own| own.fits(tile, g), add);
                }
                if let Some(dx) = to_dx {
                    let weights = transformed(layer, tile, Pass::InputGradient);
                    let (g, epilogue) = (g.input_gradient(), (None, false));
                    winograd::convolve(pool, &weights, &g, (dy, mask), epilogue, parallel, dx);
                }
            }
            _ if g.is_depthwise() => {
                sinks.add(0, || {
                    let mut dw = Tensor::empty_in(pool, g.weight_shape());
                    let to = (dw.data_mut(), to_db);
                    depthwise::weight_gradient(pool, Isa::current(), g, x, (dy, mask), to);
                    dw
                });
                if let Some(dx) = to_dx {
                    let inputs = ((dy, mask), layer.weight.data());
                    depthwise::input_gradient(pool, Isa::current(), g, inputs, parallel, dx);
                }
            }
            _ => {
                let weights = input_wanted.then(|| packed(layer, Pass::InputGradient));
                sinks.add(0, || {
                    let mut dw = Tensor::empty_in(pool, g.weight_shape());
                    // One pass over the pixels makes all gradients of a pointwise convolution.
                    let at_once = g.is_pointwise() && !parallel;
                    let input = to_dx.take_if(|_| at_once).zip(weights.as_deref());
                    let input = input.map(|(dx, weights)| (weights, layer.weight.data(), dx));
                    let to = (dw.data_mut(), to_db);
                    direct::weight_gradient(pool, Isa::current(), g, x, (dy, mask), to, input);
                    dw
                });
                if let (Some(weights), Some(dx)) = (&weights, to_dx) {
                    direct::input_gradient(pool, g, (dy, mask), weights, parallel, dx);
                }
            }
        }
        if let Some(db) = db {
            sinks.add(1, || db);
        }
        dx
    }

    fn forward_chain(
        context: &Context,
        layers: &[Convolution<'_, f32>],
        x: &Tensor<f32>,
        keep: bool,
    ) -> Vec<Tensor<f32>> {
        chain::forward_in_blocks(context, layers, x, keep)
    }

    fn backward_chain_end(
        context: &Context,
        layers: &[Convolution<'_, f32>],
        x: &Tensor<f32>,
        outputs: &[Tensor<f32>],
        gradient: Tensor<f32>,
        input_wanted: bool,
        sinks: &mut Sinks<'_, f32>,
    ) -> (usize, Option<Tensor<f32>>) {
        chain::backward_end(context, layers, x, outputs, gradient, input_wanted, sinks)
    }
}
