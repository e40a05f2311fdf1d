//! The forward pass's loops: whole windows of the usual sizes without a branch, the others in general.

use super::NOTHING;
use crate::Element;
use crate::ops::pool_window::{PoolGeometry, phase, runs, windows};
use crate::simd::{Kernel, Simd};

/// The forward pass over whole planes. `argmax` is as long as `y`, or empty if it is not wanted.
pub(super) struct Maxima<'a, T> {
    pub(super) g: &'a PoolGeometry,
    pub(super) relu: bool,
    pub(super) x: &'a [T],
    pub(super) y: &'a mut [T],
    pub(super) argmax: &'a mut [u8],
}

impl<T: Element> Kernel for Maxima<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { g, relu, x, y, argmax } = self;
        let planes = x.chunks_exact(g.in_pixels()).zip(y.chunks_exact_mut(g.out_pixels()));
        // Loops, not `for_each`: a closure might be compiled on its own, without the instruction set.
        if argmax.is_empty() {
            for (x, y) in planes {
                pool_plane::<T, false>(g, relu, x, y, &mut []);
            }
        } else {
            for ((x, y), argmax) in planes.zip(argmax.chunks_exact_mut(g.out_pixels())) {
                pool_plane::<T, true>(g, relu, x, y, argmax);
            }
        }
    }
}

#[inline(always)]
fn pool_plane<T: Element, const ARGMAX: bool>(
    g: &PoolGeometry,
    relu: bool,
    x: &[T],
    y: &mut [T],
    argmax: &mut [u8],
) {
    let [ow, w] = [g.output[1], g.input[1]];
    let full_columns = g.interior(1);
    for (i, y) in y.chunks_exact_mut(ow).enumerate() {
        let argmax = if ARGMAX { &mut argmax[i * ow..][..ow] } else { &mut [] };
        let rows = g.span(0, i);
        // The columns whose windows are whole, which the specialized loops take; the general loop has the others.
        let mut whole = if rows.inside.len() == g.kernel[0] { full_columns.clone() } else { 0..0 };
        if !whole.is_empty() {
            let first = rows.inside.start * w + whole.start * g.stride[1] - g.padding[1];
            let y = &mut y[whole.clone()];
            let argmax = if ARGMAX { &mut argmax[whole.clone()] } else { &mut [] };
            match (g.kernel, g.stride[1]) {
                ([3, 3], 2) => whole_windows::<T, 3, 2, ARGMAX>(&x[first..], w, relu, y, argmax),
                ([2, 2], 2) => whole_windows::<T, 2, 2, ARGMAX>(&x[first..], w, relu, y, argmax),
                _ => whole = 0..0,
            }
        }
        for j in (0..whole.start).chain(whole.end..ow) {
            let columns = g.span(1, j);
            let mut best = x[rows.inside.start * w + columns.inside.start];
            let mut index = rows.before * g.kernel[1] + columns.before;
            for (u, row) in rows.inside.clone().enumerate() {
                let line = (rows.before + u) * g.kernel[1] + columns.before;
                for (v, &value) in x[row * w..][columns.inside.clone()].iter().enumerate() {
                    if exceeds(value, best) {
                        (best, index) = (value, line + v);
                    }
                }
            }
            y[j] = relu_output(relu, best);
            if ARGMAX {
                argmax[j] = place(relu, best, index as u32);
            }
        }
    }
}

/// The output for a window's maximum.
#[inline(always)]
fn relu_output<T: Element>(relu: bool, best: T) -> T {
    // Written so that NaN stays.
    if relu & (best <= T::ZERO) { T::ZERO } else { best }
}

/// The byte for a window's maximum and its index.
#[inline(always)]
fn place<T: Element>(relu: bool, best: T, index: u32) -> u8 {
    // Of a NaN, ReLU's gradient is 0.
    if !relu | (best > T::ZERO) { index as u8 } else { NOTHING }
}

/// Consecutive windows that lie wholly inside the input, without a branch in the loop.
#[inline(always)]
fn whole_windows<T: Element, const K: usize, const S: usize, const ARGMAX: bool>(
    rows: &[T],
    width: usize,
    relu: bool,
    y: &mut [T],
    argmax: &mut [u8],
) {
    for run in runs(y.len()) {
        if run.is_empty() {
            continue;
        }
        let x = windows::<T, K, S>(&rows[run.start * S..], width, run.len());
        let y = &mut y[run.clone()];
        let argmax = if ARGMAX { &mut argmax[run] } else { &mut [] };
        for j in 0..y.len() {
            let mut best = x[0][0][j][0];
            let mut index = 0u32; // as wide as an f32, so that both are chosen by the same mask
            for u in 0..K {
                for v in 0..K {
                    let value = x[u][v][j][phase::<K, S>(v)];
                    let larger = exceeds(value, best);
                    best = if larger { value } else { best };
                    index = if larger { (u * K + v) as u32 } else { index };
                }
            }
            y[j] = relu_output(relu, best);
            if ARGMAX {
                argmax[j] = place(relu, best, index);
            }
        }
    }
}

/// Tells whether `value` replaces `best`: larger, or NaN. Nothing replaces a NaN but another.
#[inline(always)]
fn exceeds<T: Element>(value: T, best: T) -> bool {
    #[allow(clippy::eq_op, reason = "only NaN differs from itself")]
    let nan = value != value;
    (value > best) | nan
}
