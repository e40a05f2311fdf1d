//! The windows of two-dimensional pooling: the output's size and the part of each window inside the input.

use std::ops::Range;

use crate::simd::{Kernel, Simd};
use crate::{Element, Shape, ShapeError};

/// The sizes of a pooling of N x C planes of H x W. Pairs are (vertical, horizontal).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolGeometry {
    pub(super) n: usize,
    pub(super) c: usize,
    pub(super) input: [usize; 2],
    pub(super) output: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) stride: [usize; 2],
    pub(super) padding: [usize; 2],
}

/// A window along one axis.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// The positions inside the input; never empty.
    pub(super) inside: Range<usize>,
    /// How many of the window's first positions lie in the padding before the input.
    pub(super) before: usize,
    /// How many of the window's positions lie in the input or in the padding on either side.
    pub(super) padded: usize,
}

impl PoolGeometry {
    /// Checks the sizes and derives the output's: floor or, with `ceil_mode`, ceil of (H + 2 padding - kernel) / stride,
    /// plus 1. A last window that would start behind the input and the padding before it is left out, as in PyTorch.
    pub(super) fn new(
        op: &'static str,
        shape: Shape,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        ceil_mode: bool,
    ) -> Result<Self, ShapeError> {
        let [n, c, h, w] = shape.nchw(op)?;
        if kernel.contains(&0) || stride.contains(&0) {
            let message = format!("kernel and stride must be at least 1, found {kernel:?} and {stride:?}");
            return Err(ShapeError::new(op, message));
        }
        let mut output = [0; 2];
        for (axis, (name, extent)) in [("H", h), ("W", w)].into_iter().enumerate() {
            let (kernel, stride, padding) = (kernel[axis], stride[axis], padding[axis]);
            if padding > kernel / 2 {
                let message = format!(
                    "padding must be at most half the kernel, found padding {padding} and kernel {kernel}"
                );
                return Err(ShapeError::new(op, message));
            }
            let room = extent + 2 * padding + if ceil_mode { stride - 1 } else { 0 };
            if extent == 0 || room < kernel {
                let message =
                    format!("a window of {kernel} does not fit {name} = {extent} with padding {padding}");
                return Err(ShapeError::new(op, message));
            }
            output[axis] = (room - kernel) / stride + 1;
            if (output[axis] - 1) * stride >= extent + padding {
                output[axis] -= 1;
            }
        }
        Ok(Self { n, c, input: [h, w], output, kernel, stride, padding })
    }

    pub(super) fn input_shape(&self) -> Shape {
        Shape::from([self.n, self.c, self.input[0], self.input[1]])
    }

    pub(super) fn output_shape(&self) -> Shape {
        Shape::from([self.n, self.c, self.output[0], self.output[1]])
    }

    pub(super) fn in_pixels(&self) -> usize {
        self.input[0] * self.input[1]
    }

    pub(super) fn out_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The window of output position `out` along `axis`.
    #[inline(always)]
    pub(super) fn span(&self, axis: usize, out: usize) -> Span {
        let start = out * self.stride[axis];
        let before = self.padding[axis].saturating_sub(start);
        let from = start + before - self.padding[axis];
        let to = (start + self.kernel[axis] - self.padding[axis]).min(self.input[axis]);
        let padded = self.kernel[axis].min(self.input[axis] + 2 * self.padding[axis] - start);
        Span { inside: from..to, before, padded }
    }

    /// The output positions along `axis` whose whole window lies inside the input.
    #[inline(always)]
    pub(super) fn interior(&self, axis: usize) -> Range<usize> {
        let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
        let from = padding.div_ceil(stride);
        let to = (self.input[axis] + padding).checked_sub(kernel).map_or(0, |last| last / stride + 1);
        let to = to.min(self.output[axis]);
        from.min(to)..to
    }
}

/// A pooling's outputs, those of all planes in order, and how they are computed.
pub(super) trait Pooling<T> {
    /// Computes consecutive outputs of a row, from K x K windows at stride S that lie wholly inside of the input; `x` is as
    /// [`columns`] has it.
    fn whole<const K: usize, const S: usize>(&mut self, x: [[&[[T; S]]; K]; K], outputs: Range<usize>);

    /// Computes one output, from what its window has of the plane `x`.
    fn any(&mut self, g: &PoolGeometry, x: &[T], rows: &Span, columns: &Span, output: usize);
}

/// The forward pass over whole planes: whole windows of the usual sizes in vector loops, the others one by one.
pub(super) struct Windows<'a, T, P> {
    pub(super) g: &'a PoolGeometry,
    pub(super) x: &'a [T],
    pub(super) pooling: P,
}

impl<T: Element, P: Pooling<T>> Kernel for Windows<'_, T, P> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { g, x, mut pooling } = self;
        let (interior, ow) = (g.interior(1), g.output[1]);
        // Loops, not `for_each`: a closure might be compiled on its own, without the instruction set.
        for (plane, x) in x.chunks_exact(g.in_pixels()).enumerate() {
            for i in 0..g.output[0] {
                let (rows, output) = (g.span(0, i), plane * g.out_pixels() + i * ow);
                let mut whole = if rows.inside.len() == g.kernel[0] { interior.clone() } else { 0..0 };
                if !whole.is_empty() {
                    let first = rows.inside.start * g.input[1] + whole.start * g.stride[1] - g.padding[1];
                    let outputs = output + whole.start..output + whole.end;
                    match (g.kernel, g.stride[1]) {
                        ([3, 3], 2) => whole_windows::<T, P, 3, 2>(g, &x[first..], &mut pooling, outputs),
                        ([2, 2], 2) => whole_windows::<T, P, 2, 2>(g, &x[first..], &mut pooling, outputs),
                        _ => whole = 0..0,
                    }
                }
                for j in (0..whole.start).chain(whole.end..ow) {
                    pooling.any(g, x, &rows, &g.span(1, j), output + j);
                }
            }
        }
    }
}

/// Consecutive windows that lie wholly inside of the input; `rows` begins at the first one's first element.
#[inline(always)]
fn whole_windows<T: Element, P: Pooling<T>, const K: usize, const S: usize>(
    g: &PoolGeometry,
    rows: &[T],
    pooling: &mut P,
    outputs: Range<usize>,
) {
    for run in runs(outputs.len()) {
        if !run.is_empty() {
            let x = columns::<T, K, S>(&rows[run.start * S..], g.input[1], run.len());
            pooling.whole(x, outputs.start + run.start..outputs.start + run.end);
        }
    }
}

/// For K x K windows at stride S over consecutive output columns: `columns[u][v][j][phase(v)]` is the input in row u and
/// column v of the j-th window. Reading whole strides of S elements lets the compiler load them as vectors.
///
/// `rows` begins at the first window's first element, in a plane of `width` columns.
#[inline(always)]
fn columns<T, const K: usize, const S: usize>(
    rows: &[T],
    width: usize,
    outputs: usize,
) -> [[&[[T; S]]; K]; K] {
    std::array::from_fn(|u| {
        std::array::from_fn(|v| {
            &rows[u * width + v.min(K - S)..][..outputs * S].as_chunks::<S>().0[..outputs]
        })
    })
}

/// Splits `outputs` columns into two runs for the vector loops. What the runs share is computed twice, which is cheaper than
/// a remainder taken one by one.
///
/// A vector of elements two apart reads one more than it needs, so the compiler always leaves at least one column to be
/// taken alone: the runs are one longer than whole vectors, of 16 lanes or, in narrow planes, of 4.
#[inline(always)]
fn runs(outputs: usize) -> [Range<usize>; 2] {
    let lanes = match outputs {
        17.. => 16,
        5.. => 4,
        _ => return [0..outputs, 0..0],
    };
    let first = (outputs - 1) / lanes * lanes + 1;
    [0..first, if first == outputs { 0..0 } else { outputs - lanes - 1..outputs }]
}

/// Which of the S elements of a stride in [`columns`] is column `v` of the window.
#[inline(always)]
pub(super) const fn phase<const K: usize, const S: usize>(v: usize) -> usize {
    v.saturating_sub(K - S)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(
        h: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        ceil_mode: bool,
    ) -> Result<usize, ShapeError> {
        let shape = Shape::from([1, 1, h, 9]);
        PoolGeometry::new("max_pool2d", shape, [kernel, 3], [stride, 1], [padding, 0], ceil_mode)
            .map(|geometry| geometry.output[0])
    }

    #[test]
    fn output_sizes() {
        // The network's 72 -> 35 -> 17 -> 8, and 32 -> 16 -> 8 of the CIFAR network with ceil mode.
        for (h, expected) in [(72, 35), (35, 17), (17, 8)] {
            assert_eq!(output(h, 3, 2, 0, false), Ok(expected));
        }
        for (h, expected) in [(32, 16), (16, 8), (2, 1)] {
            assert_eq!(output(h, 3, 2, 0, true), Ok(expected));
        }
        // Ceil mode would give 4, but the fourth window starts in the padding behind the input.
        assert_eq!(output(5, 2, 2, 1, true), Ok(3));
        assert_eq!(output(6, 1, 4, 0, true), Ok(2));
    }

    #[test]
    fn runs_cover_all_columns() {
        for outputs in 0..100 {
            let [first, second] = runs(outputs);
            let covered = if second.is_empty() { first.end } else { second.end };
            assert_eq!((first.start, covered), (0, outputs));
            assert!(second.start <= first.end);
        }
    }

    #[test]
    fn errors_name_sizes() {
        assert_eq!(
            output(2, 3, 2, 0, false).unwrap_err().to_string(),
            "max_pool2d: a window of 3 does not fit H = 2 with padding 0"
        );
        assert_eq!(
            output(8, 3, 2, 2, false).unwrap_err().to_string(),
            "max_pool2d: padding must be at most half the kernel, found padding 2 and kernel 3"
        );
        assert_eq!(
            output(8, 3, 0, 0, false).unwrap_err().to_string(),
            "max_pool2d: kernel and stride must be at least 1, found [3, 3] and [0, 1]"
        );
    }
}
