//! The convolutions of `f32`, on the SIMD kernels: weights packed or transformed once and kept with them, scratch from the pool.

use std::sync::Arc;

use super::direct::{self, PackedWeights};
use super::winograd::{self, DomainWeights, Tile, WeightGradientAccumulator};
use super::{
    Chain, ConvAlgorithm, ConvGeometry, Convolution, Convolve, Pass, bias_gradient, chain, choose_gradient,
    depthwise, generic,
};
use crate::buffer_pool::BufferPool;
use crate::context::Context;
use crate::gemm::Epilogue;
use crate::simd::Isa;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// Images that the choice between tiles and direct summation counts with, whatever a micro-batch holds, so that a short last one
/// is computed as the others are, and an image by itself as in a batch. Few, since the weights of small images with many channels
/// would take several times the memory.
const NOMINAL_IMAGES: usize = 4;
/// Those that the choice between tiles counts with, where one pays: what evaluation has at a time.
const NOMINAL_IMAGES_TILED: usize = 8;
/// Those that it counts with for sums of a weight's gradient, which only training has: what the smallest micro-batches hold,
/// since more images make the same sums cheaper whatever the tile.
const NOMINAL_IMAGES_SUMMED: usize = 2;

/// Tells apart the forms of one weight: its pass, how its gradient is computed, its groups.
fn key(g: &ConvGeometry, pass: Pass, tile: Option<Tile>) -> u64 {
    let tile =
        tile.map_or(0, |tile| 1 + Tile::ALL.iter().position(|&other| other == tile).unwrap_or(0) as u64);
    u64::from(pass == Pass::InputGradient) | u64::from(g.flips()) << 1 | tile << 2 | (g.groups as u64) << 8
}

/// The layer's weights packed for a pass, kept with them.
pub(super) fn packed(layer: &Convolution<'_, f32>, pass: Pass) -> Arc<PackedWeights> {
    let g = &layer.geometry;
    let fill = |packed: &mut PackedWeights, w: &[f32]| {
        packed.fill(BufferPool::global(), Isa::current(), g, pass, w);
    };
    layer.weight.cached(key(g, pass, None), PackedWeights::default, fill)
}

/// The layer's weights in the Winograd domain, for a pass, kept with them.
fn transformed(layer: &Convolution<'_, f32>, tile: Tile, pass: Pass) -> Arc<DomainWeights> {
    let g = &layer.geometry;
    let make = || DomainWeights::new(BufferPool::global(), tile, &g.of(pass), Isa::current());
    layer.weight.cached(key(g, pass, Some(tile)), make, |domain, w| domain.transform(pass, w))
}

impl Convolution<'_, f32> {
    pub(super) fn epilogue(&self) -> Epilogue<'_> {
        Epilogue { bias: self.bias.map(Tensor::data), relu: self.relu }
    }

    pub(super) fn is_direct(&self) -> bool {
        self.algorithm == ConvAlgorithm::Direct
    }

    fn by_reference(&self) -> bool {
        matches!(self.algorithm, ConvAlgorithm::Naive | ConvAlgorithm::Im2col)
    }
}

/// A pass of a layer that is a convolution: the output `y`, overwritten, from `x`, with a bias and ReLU if asked for.
fn convolve(
    context: &Context,
    layer: &Convolution<'_, f32>,
    pass: Pass,
    x: &[f32],
    epilogue: Epilogue<'_>,
    y: &mut [f32],
) {
    let (pool, parallel) = (context.pool(), context.parallel);
    let g = &layer.geometry;
    match layer.algorithm {
        ConvAlgorithm::Winograd(Some(tile)) => {
            winograd::convolve(pool, &transformed(layer, tile, pass), &g.of(pass), x, epilogue, parallel, y);
        }
        ConvAlgorithm::Depthwise => {
            let inputs = [x, layer.weight.data()];
            depthwise::convolve(pool, Isa::current(), (g, pass), inputs, epilogue, parallel, y);
        }
        _ => direct::convolve(pool, &packed(layer, pass), &g.of(pass), x, epilogue, parallel, y),
    }
}

impl Convolve for f32 {
    fn choose(g: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
        let tile = match asked {
            ConvAlgorithm::Naive | ConvAlgorithm::Im2col => return asked,
            ConvAlgorithm::Auto => winograd::tile_for(g, [NOMINAL_IMAGES, NOMINAL_IMAGES_TILED], false),
            ConvAlgorithm::Winograd(None) => Tile::ALL.into_iter().find(|tile| tile.supports(g)),
            ConvAlgorithm::Winograd(tile) => tile.filter(|tile| tile.supports(g)),
            ConvAlgorithm::Direct | ConvAlgorithm::Depthwise => None,
        };
        match tile {
            Some(_) => ConvAlgorithm::Winograd(tile),
            None if g.is_depthwise() => ConvAlgorithm::Depthwise,
            None => ConvAlgorithm::Direct,
        }
    }

    fn choose_gradient(g: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
        let chosen = Self::choose(g, asked);
        if asked != ConvAlgorithm::Auto || !matches!(chosen, ConvAlgorithm::Winograd(_)) {
            return chosen;
        }
        let tile = winograd::tile_for(g, [NOMINAL_IMAGES_SUMMED; 2], true);
        tile.map_or(chosen, |tile| ConvAlgorithm::Winograd(Some(tile)))
    }

    fn forward(
        context: &Context,
        layers: &[Convolution<'_, f32>],
        x: &Tensor<f32>,
        keep: bool,
    ) -> (Vec<Tensor<f32>>, usize) {
        if layers.len() > 1 && chain::together(context.parallel, layers) == 0 {
            return (chain::forward(context.pool(), layers, x, keep), layers.len());
        }
        let layer = &layers[0];
        if layer.by_reference() {
            return (vec![generic::forward(context, layer, x)], 1);
        }
        let mut y = Tensor::empty_in(context.pool(), layer.geometry.output_shape());
        convolve(context, layer, Pass::Forward, x.data(), layer.epilogue(), y.data_mut());
        (vec![y], 1)
    }

    fn backward(
        context: &Context,
        chain: &Chain<'_, f32>,
        dy: Tensor<f32>,
        input_wanted: bool,
        sinks: &mut Sinks<'_, f32>,
    ) -> (Option<Tensor<f32>>, usize) {
        let mut first = chain.last();
        if chain.layers[first].is_direct() {
            first = chain::backward_start(context.parallel, chain.layers, input_wanted, sinks);
        }
        let (chain, input_wanted) = (chain.tail(first), input_wanted || first > 0);
        let (layer, sinks) = (&chain.layers[0], &mut sinks.tail(2 * first));
        if layer.by_reference() {
            return (generic::backward(context, &chain, &dy, input_wanted, sinks), first);
        }
        let (g, pool, isa, x) = (&layer.geometry, context.pool(), Isa::current(), chain.x.data());
        let direct = layer.is_direct();
        // One pass over the pixels makes all gradients of pointwise layers.
        let at_once = direct && g.is_pointwise() && !context.parallel && sinks.wanted(0);
        // Before the sums are asked for, which other threads may wait for.
        let mut dx = (input_wanted && !at_once).then(|| {
            let mut dx = Tensor::empty_in(pool, g.input_shape());
            if direct && !g.flips() && !g.is_pointwise() {
                let weights = packed(layer, Pass::InputGradient);
                direct::scatter(pool, &weights, g, dy.data(), context.parallel, dx.data_mut());
            } else {
                convolve(context, layer, Pass::InputGradient, dy.data(), Epilogue::default(), dx.data_mut());
            }
            dx
        });
        if !sinks.wanted(0) {
            sinks.add(1, || bias_gradient(context, dy));
        } else if direct {
            let layers = chain.layers.iter().enumerate();
            let passed_on = |index: usize| index > 0 || (input_wanted && at_once);
            let weights: Vec<_> = layers
                .map(|(index, layer)| passed_on(index).then(|| packed(layer, Pass::InputGradient)))
                .collect();
            dx = chain::backward(pool, isa, &chain, &weights, dy.data(), sinks).or(dx);
        } else if let ConvAlgorithm::Winograd(Some(tile)) = choose_gradient::<f32>(g, context.conv) {
            let mut db = sinks.wanted(1).then(|| Tensor::empty_in(pool, g.bias_shape()));
            let to_db = db.as_mut().map(Tensor::data_mut);
            sinks.get(0).expect("it is wanted").add_deferred(
                pool,
                |pool| WeightGradientAccumulator::new(pool, tile, g, isa),
                |own| own.fits(tile, g),
                |own: &mut WeightGradientAccumulator| own.accumulate(pool, g, x, dy.data(), to_db),
            );
            if let Some(db) = db {
                sinks.add(1, || db);
            }
        } else {
            sinks.add(0, || {
                let mut dw = Tensor::empty_in(pool, g.weight_shape());
                depthwise::weight_gradient(pool, isa, g, [x, dy.data()], dw.data_mut());
                dw
            });
            sinks.add(1, || bias_gradient(context, dy));
        }
        (dx, first)
    }
}
