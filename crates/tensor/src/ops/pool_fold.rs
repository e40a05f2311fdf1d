//! The one loop over windows of pooling, forward: a function of each window's elements, whole windows of the usual sizes without
//! a branch.

use std::ops::Range;

use super::pool_window::PoolGeometry;
use crate::Element;
use crate::simd::{Kernel, Simd};

/// A function of a window's elements inside the input, which are taken one after the other in row-major order.
pub(super) trait Fold<T>: Copy {
    /// Notes a byte for each output.
    const BYTES: bool;
    /// The elements so far.
    type State: Copy;

    /// No elements yet, the first of which will be this one, with its row-major index in the window.
    fn start(self, first: T, index: u32) -> Self::State;

    /// One element more.
    fn take(self, state: Self::State, value: T, index: u32) -> Self::State;

    /// The output, and the byte that is noted, of a window of which so many positions count.
    fn end(self, state: Self::State, count: T) -> (T, u8);
}

/// The forward pass over whole planes. `bytes` is as long as `y`, or empty if none are noted.
pub(super) struct Pooling<'a, T, F> {
    pub(super) g: &'a PoolGeometry,
    pub(super) fold: F,
    pub(super) x: &'a [T],
    pub(super) y: &'a mut [T],
    pub(super) bytes: &'a mut [u8],
}

impl<T: Element, F: Fold<T>> Kernel for Pooling<'_, T, F> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { g, fold, x, y, bytes } = self;
        let planes = x.chunks_exact(g.in_pixels()).zip(y.chunks_exact_mut(g.out_pixels()));
        // Loops, not `for_each`: a closure might be compiled on its own, without the instruction set.
        for (plane, (x, y)) in planes.enumerate() {
            let bytes = if F::BYTES { &mut bytes[plane * y.len()..][..y.len()] } else { &mut [] };
            pool_plane(g, fold, x, y, bytes);
        }
    }
}

#[inline(always)]
fn pool_plane<T: Element, F: Fold<T>>(g: &PoolGeometry, fold: F, x: &[T], y: &mut [T], bytes: &mut [u8]) {
    let ([ow, w], kernel) = ([g.output[1], g.input[1]], g.kernel);
    let usual = [[3, 3], [2, 2]].contains(&kernel) && g.stride[1] == 2;
    let full_columns = if usual { g.interior(1) } else { 0..0 };
    for (i, y) in y.chunks_exact_mut(ow).enumerate() {
        let bytes = if F::BYTES { &mut bytes[i * ow..][..ow] } else { &mut [] };
        let rows = g.span(0, i);
        // The columns whose windows are whole, which the specialized loops take; the general loop has the others.
        let whole = if rows.inside.len() == kernel[0] { full_columns.clone() } else { 0..0 };
        if !whole.is_empty() {
            let x = &x[rows.inside.start * w + whole.start * 2 - g.padding[1]..];
            let y = &mut y[whole.clone()];
            let bytes = if F::BYTES { &mut bytes[whole.clone()] } else { &mut [] };
            match kernel[0] {
                3 => whole_windows::<T, F, 3, 2>(fold, x, w, y, bytes),
                _ => whole_windows::<T, F, 2, 2>(fold, x, w, y, bytes),
            }
        }
        for j in (0..whole.start).chain(whole.end..ow) {
            let columns = g.span(1, j);
            let index = rows.before * kernel[1] + columns.before;
            let mut state = fold.start(x[rows.inside.start * w + columns.inside.start], index as u32);
            for (u, row) in rows.inside.clone().enumerate() {
                for (v, &value) in x[row * w..][columns.inside.clone()].iter().enumerate() {
                    state = fold.take(state, value, (index + u * kernel[1] + v) as u32);
                }
            }
            let (value, byte) = fold.end(state, T::from_usize(rows.counted * columns.counted));
            y[j] = value;
            if F::BYTES {
                bytes[j] = byte;
            }
        }
    }
}

/// Consecutive windows that lie wholly inside the input, without a branch in the loop.
#[inline(always)]
fn whole_windows<T: Element, F: Fold<T>, const K: usize, const S: usize>(
    fold: F,
    rows: &[T],
    width: usize,
    y: &mut [T],
    bytes: &mut [u8],
) {
    let count = T::from_usize(K * K);
    for run in runs(y.len(), F::BYTES && K > S) {
        if run.is_empty() {
            continue;
        }
        let x = windows::<T, K, S>(&rows[run.start * S..], width, run.len());
        let y = &mut y[run.clone()];
        let bytes = if F::BYTES { &mut bytes[run] } else { &mut [] };
        for j in 0..y.len() {
            let mut state = fold.start(x[0][0][j][0], 0);
            for u in 0..K {
                for v in 0..K {
                    state = fold.take(state, x[u][v][j][phase::<K, S>(v)], (u * K + v) as u32);
                }
            }
            let (value, byte) = fold.end(state, count);
            y[j] = value;
            if F::BYTES {
                bytes[j] = byte;
            }
        }
    }
}

/// For K x K windows at stride S over consecutive output columns: `windows[u][v][j][phase(v)]` is the input in row u and
/// column v of the j-th window. Reading whole strides of S elements lets the compiler load them as vectors.
///
/// `rows` begins at the first window's first element, in a plane of `width` columns.
#[inline(always)]
fn windows<T, const K: usize, const S: usize>(
    rows: &[T],
    width: usize,
    outputs: usize,
) -> [[&[[T; S]]; K]; K] {
    let mut windows: [[&[[T; S]]; K]; K] = [[&[]; K]; K];
    for u in 0..K {
        let row = &rows[u * width..][..outputs * S + K - S];
        for v in 0..K {
            windows[u][v] = &row[v.min(K - S)..].as_chunks::<S>().0[..outputs];
        }
    }
    windows
}

/// The columns in one run for the vector loops, or `split` in two. What those share is computed twice, which is cheaper than a
/// remainder taken one by one, if each takes long.
///
/// Where windows overlap, a vector of elements two apart reads one more than it needs, so the compiler always leaves at least
/// one column to be taken alone: the runs are one longer than whole vectors, of 16 lanes or, in narrow planes, of 4.
#[inline(always)]
fn runs(outputs: usize, split: bool) -> [Range<usize>; 2] {
    let lanes = match outputs {
        17.. if split => 16,
        5.. if split => 4,
        _ => return [0..outputs, 0..0],
    };
    let first = (outputs - 1) / lanes * lanes + 1;
    [0..first, if first == outputs { 0..0 } else { outputs - lanes - 1..outputs }]
}

/// The place of column `v` of the window among the S elements of a stride in [`windows`].
#[inline(always)]
const fn phase<const K: usize, const S: usize>(v: usize) -> usize {
    v.saturating_sub(K - S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_all_columns() {
        for outputs in 0..100 {
            let [first, second] = runs(outputs, true);
            let covered = if second.is_empty() { first.end } else { second.end };
            assert_eq!((first.start, covered), (0, outputs));
            assert!(second.start <= first.end);
        }
    }
}
