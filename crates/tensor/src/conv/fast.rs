//! The `f32` passes on the SIMD kernels: weights packed or transformed once and kept with them, scratch from the pool.

use std::sync::Arc;

use super::implicit_gemm::{self, PackedWeights, Pass};
use super::winograd::{self, Direction, PreparedWeights, Tile, WeightGradientAccumulator};
use super::{ConvGeometry, turns};
use crate::buffer_pool::BufferPool;
use crate::context::Context;
use crate::element::Element;
use crate::gemm::PackedA;
use crate::simd::Isa;
use crate::tensor::Tensor;

/// A fast algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fast {
    /// A blocked matrix product whose packing reads the windows off the image.
    Direct,
    /// Winograd's with this tile.
    Winograd(Tile),
}

/// Weights packed for the matrix product, once they are.
#[derive(Debug, Default)]
pub(super) struct Packed(Option<PackedWeights>);

impl Packed {
    /// The one group of a convolution that is not grouped.
    pub(super) fn only_group(&self) -> &PackedA {
        self.0.as_ref().expect("they are packed when they are first asked for").only_group()
    }
}

/// Weights in the Winograd domain, once they are.
#[derive(Debug, Default)]
struct Transformed(Option<PreparedWeights>);

/// Tells apart the forms of one weight: its pass, how its gradient is computed, its groups.
fn key(g: &ConvGeometry, pass: u64, tile: Option<Tile>) -> u64 {
    let tile =
        tile.map_or(0, |tile| 1 + Tile::ALL.iter().position(|&other| other == tile).unwrap_or(0) as u64);
    pass | u64::from(turns(g)) << 1 | tile << 2 | (g.groups as u64) << 8
}

/// `w` packed for `pass` of `g`, kept with it.
pub(super) fn packed<T: Element>(g: &ConvGeometry, pass: Pass, w: &Tensor<T>) -> Arc<Packed> {
    let number = u64::from(pass == Pass::InputGradient);
    w.derived(key(g, number, None), |slot: &mut Packed, w: &[T]| {
        let w = T::as_f32(w).expect("the fast passes are for f32");
        match &mut slot.0 {
            Some(packed) => packed.refill(g, pass, w),
            empty => *empty = Some(PackedWeights::new(BufferPool::global(), Isa::current(), g, pass, w)),
        }
    })
}

fn transformed<T: Element>(
    g: &ConvGeometry,
    tile: Tile,
    direction: Direction,
    w: &Tensor<T>,
) -> Arc<Transformed> {
    let number = u64::from(direction == Direction::InputGradient);
    w.derived(key(g, number, Some(tile)), |slot: &mut Transformed, w: &[T]| {
        let w = T::as_f32(w).expect("the fast passes are for f32");
        match &mut slot.0 {
            Some(prepared) => prepared.refill(w),
            empty => {
                *empty =
                    Some(PreparedWeights::new(BufferPool::global(), tile, direction, g, w, Isa::current()));
            }
        }
    })
}

/// The output, overwritten.
pub(super) fn forward<T: Element>(
    context: &Context,
    g: &ConvGeometry,
    fast: Fast,
    x: &[f32],
    w: &Tensor<T>,
    bias: Option<&[f32]>,
    relu: bool,
    y: &mut [f32],
) {
    let (pool, parallel) = (context.pool(), context.parallel);
    match fast {
        Fast::Direct => {
            let weights = packed(g, Pass::Forward, w);
            let weights = weights.0.as_ref().expect("they were just packed");
            implicit_gemm::forward(pool, g, x, weights, bias, relu, parallel, y);
        }
        Fast::Winograd(tile) => {
            let weights = transformed(g, tile, Direction::Forward, w);
            let weights = weights.0.as_ref().expect("they were just transformed");
            winograd::forward(pool, weights, g, x, bias, relu, parallel, y);
        }
    }
}

/// The gradient with respect to the input, overwritten. `mask` is the output if ReLU was applied to it.
pub(super) fn input_gradient<T: Element>(
    context: &Context,
    g: &ConvGeometry,
    fast: Fast,
    dy: &[f32],
    mask: Option<&[f32]>,
    w: &Tensor<T>,
    dx: &mut [f32],
) {
    let (pool, parallel) = (context.pool(), context.parallel);
    match fast {
        Fast::Direct => {
            let weights = packed(g, Pass::InputGradient, w);
            let weights = weights.0.as_ref().expect("they were just packed");
            implicit_gemm::input_gradient(pool, g, dy, mask, weights, parallel, dx);
        }
        Fast::Winograd(tile) => {
            let weights = transformed(g, tile, Direction::InputGradient, w);
            let weights = weights.0.as_ref().expect("they were just transformed");
            winograd::input_gradient(pool, weights, g, dy, mask, parallel, dx);
        }
    }
}

/// The gradients with respect to the weight and the bias, overwritten; that of the weight `w` is added to the context's
/// [`WeightSums`](super::WeightSums) instead, where `dw` is `None`: see [`summed`]. `mask` is the output if ReLU was applied
/// to it.
pub(super) fn weight_gradient<T: Element>(
    context: &Context,
    g: &ConvGeometry,
    fast: Fast,
    x: &[f32],
    w: &Tensor<T>,
    dy: &[f32],
    mask: Option<&[f32]>,
    dw: Option<&mut [f32]>,
    db: Option<&mut [f32]>,
) {
    let (pool, isa) = (context.pool(), Isa::current());
    match (fast, &context.weight_sums, dw) {
        (Fast::Winograd(tile), Some(sums), None) => {
            sums.add(context, g, (w.address(), tile), x, dy, mask, db);
        }
        (Fast::Winograd(tile), _, Some(dw)) => {
            let mut sum = WeightGradientAccumulator::new(pool, tile, g, isa);
            sum.accumulate(pool, g, x, dy, mask);
            sum.finish(dw, db, false);
        }
        (Fast::Direct, _, Some(dw)) => {
            implicit_gemm::weight_gradient(pool, isa, g, x, dy, mask, false, dw, db);
        }
        (_, _, None) => unreachable!("only sums in the Winograd domain need no gradient to write to"),
    }
}

/// All gradients at once, overwritten, where one walk over the pixels can make them: see [`at_once`].
pub(super) fn gradients<T: Element>(
    context: &Context,
    g: &ConvGeometry,
    fast: Fast,
    x: &[f32],
    w: &Tensor<T>,
    (dy, mask): (&[f32], Option<&[f32]>),
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    dx: &mut [f32],
) {
    debug_assert!(at_once(context, g, fast));
    let weights = packed(g, Pass::InputGradient, w);
    let weights = weights.0.as_ref().expect("they were just packed");
    implicit_gemm::pointwise_gradients(context.pool(), Isa::current(), g, x, dy, mask, weights, dw, db, dx);
}

/// Whether [`gradients`] can do this convolution.
pub(super) fn at_once(context: &Context, g: &ConvGeometry, fast: Fast) -> bool {
    fast == Fast::Direct && g.is_pointwise() && !context.parallel
}

/// Whether the weight's gradient goes to the context's [`WeightSums`](super::WeightSums).
pub(super) fn summed(context: &Context, fast: Fast) -> bool {
    context.weight_sums.is_some() && matches!(fast, Fast::Winograd(_))
}
