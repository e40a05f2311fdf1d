//! The windows of two-dimensional pooling: the output's size and the part of each window inside the input.

use std::ops::Range;

use crate::conv::{addressable, padded, windows_along};
use crate::{Shape, ShapeError, ensure};

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
    /// Counts the padding in means.
    pub(super) count_padding: bool,
    /// Windows divide the input, whatever kernel, stride and padding are.
    pub(super) adaptive: bool,
}

/// A window along one axis.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// The positions inside the input; never empty.
    pub(super) inside: Range<usize>,
    /// The number of the window's first positions in the padding before the input.
    pub(super) before: usize,
    /// The number of positions that count in a mean.
    pub(super) counted: usize,
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
        let some = !kernel.contains(&0) && !stride.contains(&0);
        ensure!(op, some, "kernel and stride must be at least 1, found {kernel:?} and {stride:?}");
        let mut output = [0; 2];
        for (axis, (name, extent)) in [("H", h), ("W", w)].into_iter().enumerate() {
            let (kernel, stride, padding) = (kernel[axis], stride[axis], padding[axis]);
            ensure!(
                op,
                padding <= kernel / 2,
                "padding must be at most half the kernel, found padding {padding} and kernel {kernel}"
            );
            output[axis] = windows_along(op, (name, extent), kernel, stride, padding, ceil_mode)?;
            if (output[axis] - 1) * stride >= extent.saturating_add(padding) {
                output[axis] -= 1;
            }
        }
        // Smaller, no index into the padded input or the output overflows, nor the end of a window that begins there.
        let fits = addressable([n, c, padded(h, padding[0]), padded(w, padding[1])]);
        ensure!(op, fits, "input {shape} and padding {padding:?} are too large for memory");
        let (count_padding, adaptive) = (false, false);
        Ok(Self { n, c, input: [h, w], output, kernel, stride, padding, count_padding, adaptive })
    }

    /// Windows of which so many divide an input: window i of OH covers the rows floor(i H / OH) to ceil((i + 1) H / OH).
    pub(super) fn adaptive(op: &'static str, shape: Shape, output: [usize; 2]) -> Result<Self, ShapeError> {
        let ([n, c, h, w], [oh, ow], none) = (shape.nchw(op)?, output, [0; 2]);
        let empty = [h, w, oh, ow].contains(&0);
        ensure!(op, !empty, "expects at least one pixel, found {h} x {w} to {oh} x {ow}");
        Shape::checked(&[n, c, oh, ow])?;
        let (input, count_padding, adaptive) = ([h, w], false, true);
        Ok(Self { n, c, input, output, kernel: none, stride: none, padding: none, count_padding, adaptive })
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
        let (input, output, padding) = (self.input[axis], self.output[axis], self.padding[axis]);
        if self.adaptive {
            let inside = out * input / output..((out + 1) * input).div_ceil(output);
            return Span { before: 0, counted: inside.len(), inside };
        }
        let start = out * self.stride[axis];
        let (end, before) = (start + self.kernel[axis], padding.saturating_sub(start));
        let inside = start + before - padding..(end - padding).min(input);
        let counted = if self.count_padding { end.min(input + 2 * padding) - start } else { inside.len() };
        Span { inside, before, counted }
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

/// `3`, or `3x2` where the extents differ.
pub(super) fn pair([vertical, horizontal]: [usize; 2]) -> String {
    if vertical == horizontal { vertical.to_string() } else { format!("{vertical}x{horizontal}") }
}

/// Windows as a description has them: window/stride, and what is unusual.
pub(super) fn describe_windows(
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil: bool,
) -> String {
    let padding = if padding == [0; 2] { String::new() } else { format!(", padding {}", pair(padding)) };
    format!("{}/{}{padding}{}", pair(kernel), pair(stride), if ceil { ", ceil" } else { "" })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Poolings that fit, in ceil mode or not, two thirds of them of the windows and strides that have loops of their own.
    pub(in crate::ops) fn geometries() -> impl Strategy<Value = (PoolGeometry, bool)> {
        // As many narrow rows as wide ones, which take runs of windows after runs.
        let width = prop_oneof![1usize..40, 40usize..=100];
        let shape = (1usize..3, 1usize..3, 1usize..24, width).prop_map(<[usize; 4]>::from);
        let window = ([1usize..5, 1usize..5], [1usize..4, 1usize..4], [0usize..3, 0usize..3]);
        (0u8..3, shape, window, any::<bool>()).prop_filter_map(
            "the window fits",
            |(kind, x, window, ceil_mode)| {
                let (kernel, stride, padding) = window;
                let (kernel, stride) =
                    [([3, 3], [2, 2]), ([2, 2], [2, 2]), (kernel, stride)][usize::from(kind)];
                let padding = [0, 1].map(|axis| padding[axis].min(kernel[axis] / 2));
                let g = PoolGeometry::new("pool", x.into(), kernel, stride, padding, ceil_mode).ok()?;
                Some((g, ceil_mode))
            },
        )
    }

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
    fn errors_name_sizes() {
        for (h, stride, padding, expected) in [
            (2, 2, 0, "a window of 3 does not fit H = 2 with padding 0"),
            (8, 2, 2, "padding must be at most half the kernel, found padding 2 and kernel 3"),
            (8, 0, 0, "kernel and stride must be at least 1, found [3, 3] and [0, 1]"),
        ] {
            let error = output(h, 3, stride, padding, false).unwrap_err().to_string();
            assert_eq!(error, format!("max_pool2d: {expected}"));
        }
    }

    #[test]
    fn sizes_that_no_memory_holds_are_refused_and_never_wrap() {
        const MOST: usize = usize::MAX;
        for stride in [MOST, MOST / 2 + 1, MOST / 2] {
            for (ceil_mode, padding) in [(false, 0), (true, 0), (true, 1)] {
                assert_eq!(output(8, 3, stride, padding, ceil_mode), Ok(1));
            }
        }
        let error =
            |h, kernel, stride, padding| output(h, kernel, stride, padding, true).unwrap_err().message;
        assert!(error(8, MOST, 3, 0).starts_with("a window of"));
        for (h, kernel, padding) in [(8, MOST, MOST / 2), (MOST / 9, 3, 1), (8, MOST / 4, MOST / 8)] {
            assert!(error(h, kernel, 2, padding).ends_with("are too large for memory"));
        }
        assert_eq!(output(8, MOST / 20, MOST, 0, true), Ok(1));
    }
}
