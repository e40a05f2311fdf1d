//! The forward pass: the maximum of each window and where it is.

use std::ops::Range;

use super::NOTHING;
use crate::Element;
use crate::ops::pool_window::{PoolGeometry, Pooling, Span, phase};

/// The outputs of the forward pass. `argmax` is as long as `y` if `ARGMAX`, and otherwise not used.
pub(super) struct Maxima<'a, T, const ARGMAX: bool> {
    pub(super) relu: bool,
    pub(super) y: &'a mut [T],
    pub(super) argmax: &'a mut [u8],
}

impl<T: Element, const ARGMAX: bool> Pooling<T> for Maxima<'_, T, ARGMAX> {
    /// Without a branch in the loop.
    #[inline(always)]
    fn whole<const K: usize, const S: usize>(&mut self, x: [[&[[T; S]]; K]; K], outputs: Range<usize>) {
        let (relu, y) = (self.relu, &mut self.y[outputs.clone()]);
        let argmax = if ARGMAX { &mut self.argmax[outputs] } else { &mut [] };
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
            y[j] = rectified(relu, best);
            if ARGMAX {
                argmax[j] = place(relu, best, index);
            }
        }
    }

    #[inline(always)]
    fn any(&mut self, g: &PoolGeometry, x: &[T], rows: &Span, columns: &Span, output: usize) {
        let mut best = x[rows.inside.start * g.input[1] + columns.inside.start];
        let mut index = rows.before * g.kernel[1] + columns.before;
        for (u, row) in rows.inside.clone().enumerate() {
            let line = (rows.before + u) * g.kernel[1] + columns.before;
            for (v, &value) in x[row * g.input[1]..][columns.inside.clone()].iter().enumerate() {
                if exceeds(value, best) {
                    (best, index) = (value, line + v);
                }
            }
        }
        self.y[output] = rectified(self.relu, best);
        if ARGMAX {
            self.argmax[output] = place(self.relu, best, index as u32);
        }
    }
}

/// The output for a window's maximum.
#[inline(always)]
fn rectified<T: Element>(relu: bool, best: T) -> T {
    // Written so that NaN stays.
    if relu & (best <= T::ZERO) { T::ZERO } else { best }
}

/// The byte for a window's maximum and its index.
#[inline(always)]
fn place<T: Element>(relu: bool, best: T, index: u32) -> u8 {
    // Of a NaN, ReLU's gradient is 0.
    if !relu | (best > T::ZERO) { index as u8 } else { NOTHING }
}

/// Tells whether `value` replaces `best`: larger, or NaN. Nothing replaces a NaN but another.
#[inline(always)]
fn exceeds<T: Element>(value: T, best: T) -> bool {
    #[allow(clippy::eq_op, reason = "only NaN differs from itself")]
    let nan = value != value;
    (value > best) | nan
}
