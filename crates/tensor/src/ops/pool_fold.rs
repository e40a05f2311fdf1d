//! The one loop over windows of pooling, forward: a function of each window's elements, whole windows of the usual sizes without
//! a branch.

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
        // Loops, not `for_each`: a closure might be compiled on its own, without the instruction set.
        for (plane, y) in y.chunks_exact_mut(g.out_pixels()).enumerate() {
            let bytes = if F::BYTES { &mut bytes[plane * y.len()..][..y.len()] } else { &mut [] };
            let start = plane * g.in_pixels();
            // Narrow rows are read on into what lies behind their plane.
            let end = if F::BYTES { x.len() } else { start + g.in_pixels() };
            pool_plane(g, fold, &x[start..end], y, bytes);
        }
    }
}

/// One plane, which `x` begins with.
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
///
/// Where windows overlap, a vector of elements two apart reads one more than it needs, so the compiler always leaves at least
/// one column to be taken alone: runs are [`RUN`] long or one longer than more whole vectors. Where a column takes long, that is
/// where bytes are noted, what is left behind a run goes into another, which overlaps it, and narrow rows into one that goes on
/// over whatever lies behind them: both are cheaper than columns taken one by one.
#[inline(always)]
fn whole_windows<T: Element, F: Fold<T>, const K: usize, const S: usize>(
    fold: F,
    rows: &[T],
    width: usize,
    y: &mut [T],
    bytes: &mut [u8],
) {
    let (outputs, room) = (y.len(), (K - 1) * width + RUN * S + K - S <= rows.len());
    if !F::BYTES || K == S || outputs < 3 || (outputs < RUN && !room) {
        run_of_windows::<T, F, K, S>(fold, rows, width, y, bytes);
    } else if outputs < RUN {
        let (mut values, mut places) = ([T::ZERO; RUN], [0; RUN]);
        run_of_windows::<T, F, K, S>(fold, rows, width, &mut values, &mut places);
        y.copy_from_slice(&values[..outputs]);
        bytes.copy_from_slice(&places[..outputs]);
    } else {
        let (first, last) = ((outputs - 1) / (RUN - 1) * (RUN - 1) + 1, outputs - RUN);
        run_of_windows::<T, F, K, S>(fold, rows, width, &mut y[..first], &mut bytes[..first]);
        if first < outputs {
            run_of_windows::<T, F, K, S>(fold, &rows[last * S..], width, &mut y[last..], &mut bytes[last..]);
        }
    }
}

/// The columns of a run of overlapping windows at least: one more than the lanes of a vector.
const RUN: usize = 17;

/// The windows of consecutive columns, in a loop that the compiler makes vectors of.
#[inline(always)]
fn run_of_windows<T: Element, F: Fold<T>, const K: usize, const S: usize>(
    fold: F,
    rows: &[T],
    width: usize,
    y: &mut [T],
    bytes: &mut [u8],
) {
    let (x, count) = (windows::<T, K, S>(rows, width, y.len()), T::from_usize(K * K));
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

/// The place of column `v` of the window among the S elements of a stride in [`windows`].
#[inline(always)]
const fn phase<const K: usize, const S: usize>(v: usize) -> usize {
    v.saturating_sub(K - S)
}
