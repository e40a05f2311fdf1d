//! The backward pass of max pooling: each output's gradient goes to the input that was its maximum.

use super::NOTHING;
use crate::Element;
use crate::ops::pool_window::PoolGeometry;
use crate::simd::{Kernel, Simd};

/// The backward pass over whole planes: the gradient of each output goes to the input that was its maximum. `dx` is
/// overwritten.
pub(super) struct MaxPoolBackward<'a, T> {
    pub(super) g: &'a PoolGeometry,
    pub(super) dy: &'a [T],
    pub(super) argmax: &'a [u8],
    pub(super) dx: &'a mut [T],
}

impl<T: Element> Kernel for MaxPoolBackward<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { g, dy, argmax, dx } = self;
        let outputs = dy.chunks_exact(g.out_pixels()).zip(argmax.chunks_exact(g.out_pixels()));
        // Short rows would be left to the remainders of the vector loop.
        let gathers = (g.kernel, g.stride, g.padding) == ([3, 3], [2, 2], [0, 0]) && g.output[1] > 16;
        for (dx, (dy, argmax)) in dx.chunks_exact_mut(g.in_pixels()).zip(outputs) {
            if gathers {
                gather(g, dy, argmax, dx);
            } else {
                scatter(g, dy, argmax, dx);
            }
        }
    }
}

/// Adds each output's gradient to the input element that was its maximum.
#[inline(always)]
fn scatter<T: Element>(g: &PoolGeometry, dy: &[T], argmax: &[u8], dx: &mut [T]) {
    let ([oh, ow], w) = (g.output, g.input[1]);
    // From a window's first element, padding included, to each of its elements.
    let mut offsets = [0usize; 256];
    for (k, offset) in offsets.iter_mut().enumerate().take(g.kernel[0] * g.kernel[1]) {
        *offset = k / g.kernel[1] * w + k % g.kernel[1];
    }
    let padding = g.padding[0] * w + g.padding[1];
    offsets[usize::from(NOTHING)] = padding; // the window's first element, or the plane's last for a window behind it
    let last = dx.len() - 1;
    dx.fill(T::ZERO);
    for i in 0..oh {
        let mut start = i * g.stride[0] * w;
        for (&dy, &k) in dy[i * ow..][..ow].iter().zip(&argmax[i * ow..][..ow]) {
            // No branch: where nothing was above 0 is not to be foreseen.
            let dy = if k == NOTHING { T::ZERO } else { dy };
            dx[(start + offsets[usize::from(k)] - padding).min(last)] += dy;
            start += g.stride[1];
        }
    }
}

/// One row of outputs: gradients and places.
type Line<'a, T> = (&'a [T], &'a [u8]);

/// [`scatter`] for 3 x 3 windows at stride 2, with the same bits: each input element asks the windows that hold it, at most
/// four, so that it is written once and whole vectors are.
#[inline(always)]
fn gather<T: Element>(g: &PoolGeometry, dy: &[T], argmax: &[u8], dx: &mut [T]) {
    let ([oh, ow], w) = (g.output, g.input[1]);
    let line = |i: usize| (&dy[i * ow..][..ow], &argmax[i * ow..][..ow]);
    for (row, dx) in dx.chunks_exact_mut(w).enumerate() {
        // The rows of windows that hold this row of inputs, at most two.
        let (first, end) = (row.saturating_sub(1) / 2, (row / 2 + 1).min(oh));
        match end.saturating_sub(first) {
            0 => dx.fill(T::ZERO),
            1 => gather_row::<T, 1>([line(first)], [3 * (row - 2 * first) as u8], dx),
            _ => gather_row::<T, 2>([line(first), line(first + 1)], [6, 0], dx),
        }
    }
}

/// One row of inputs under one or two rows of windows, in each of which `first` is the index of the row's first element.
#[inline(always)]
fn gather_row<T: Element, const N: usize>(lines: [Line<'_, T>; N], first: [u8; N], dx: &mut [T]) {
    let outputs = lines[0].0.len();
    // What window j gives to the element with this index.
    let given = |(dy, places): Line<'_, T>, j: usize, index: u8| {
        if places[j] == index { dy[j] } else { T::ZERO }
    };
    // Columns 2 j and 2 j + 1 under windows that have a neighbor before them and both columns. Sums are in the order of the
    // windows.
    let whole = outputs.min(dx.len() / 2).max(1);
    let before = lines.map(|(dy, places)| (&dy[..whole - 1], &places[..whole - 1]));
    let here = lines.map(|(dy, places)| (&dy[1..whole], &places[1..whole]));
    let pairs = &mut dx.as_chunks_mut::<2>().0[1..whole];
    for j in 0..pairs.len() {
        let mut sums = [T::ZERO; 2];
        for n in 0..N {
            sums[0] += given(before[n], j, first[n] + 2);
            sums[0] += given(here[n], j, first[n]);
            sums[1] += given(here[n], j, first[n] + 1);
        }
        pairs[j] = sums;
    }
    // The others, of which windows on one side or on both may be missing.
    for column in (0..2.min(dx.len())).chain(2 * whole..dx.len()) {
        dx[column] = T::ZERO;
        for n in 0..N {
            for j in column.saturating_sub(1) / 2..(column / 2 + 1).min(outputs) {
                dx[column] += given(lines[n], j, first[n] + (column - 2 * j) as u8);
            }
        }
    }
}
