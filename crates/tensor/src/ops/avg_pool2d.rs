//! Average pooling: `y = mean` over each window.

use super::pool_fold::{Fold, Pooling};
use super::pool_window::{PoolGeometry, describe_windows};
use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp};

/// The mean of each window of an N x C x H x W input; the output is N x C x OH x OW with
/// OH = floor((H + 2 padding - kernel) / stride) + 1. Pairs are (vertical, horizontal).
///
/// As in PyTorch, padding counts as zeros if `count_include_pad`, and otherwise not at all. What ceil mode adds to a window
/// beyond the padding never counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2d {
    /// The window.
    pub kernel: [usize; 2],
    /// The step of the window over the input.
    pub stride: [usize; 2],
    /// Positions added on each side, at most half the kernel.
    pub padding: [usize; 2],
    /// Rounds the output's size up, so that the last rows and columns are covered. A window must start inside the input
    /// or the padding before it.
    pub ceil_mode: bool,
    /// Counts the padding in the number of elements that a sum is divided by.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// Square windows without padding.
    #[must_use]
    pub fn new(kernel: usize, stride: usize) -> Self {
        let (kernel, stride) = ([kernel; 2], [stride; 2]);
        Self { kernel, stride, padding: [0; 2], ceil_mode: false, count_include_pad: true }
    }

    /// The same, counting windows that reach over the edge.
    #[must_use]
    pub fn ceil(kernel: usize, stride: usize) -> Self {
        Self { ceil_mode: true, ..Self::new(kernel, stride) }
    }

    fn geometry(&self, input: Shape) -> Result<PoolGeometry, ShapeError> {
        let (kernel, count_padding) = (self.kernel, self.count_include_pad);
        let g = PoolGeometry::new(Self::NAME, input, kernel, self.stride, self.padding, self.ceil_mode)?;
        Ok(PoolGeometry { count_padding, ..g })
    }
}

impl UnaryOp for AvgPool2d {
    /// The input's shape.
    type Saved<T: Element> = Shape;

    const NAME: &'static str = "avg_pool2d";

    fn describe(&self) -> String {
        format!("AvgPool2d({})", describe_windows(self.kernel, self.stride, self.padding, self.ceil_mode))
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(self.geometry(input)?.output_shape())
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Shape) {
        let g = self.geometry(x.shape()).expect("the shapes were checked");
        let mut y = Tensor::empty_in(context.pool(), g.output_shape());
        dispatch(Isa::current(), Pooling { g: &g, fold: Mean, x: x.data(), y: y.data_mut(), bytes: &mut [] });
        (y, x.shape())
    }

    fn gradient<T: Element>(&self, context: &Context, input: Shape, dy: Tensor<T>) -> Tensor<T> {
        let g = self.geometry(input).expect("the shapes were checked");
        means_gradient(context, &g, &dy)
    }
}

/// The mean of what counts in a window.
#[derive(Clone, Copy)]
struct Mean;

impl<T: Element> Fold<T> for Mean {
    const BYTES: bool = false;
    /// The sum.
    type State = T;

    #[inline(always)]
    fn start(self, _: T, _: u32) -> T {
        T::ZERO
    }

    #[inline(always)]
    fn take(self, sum: T, value: T, _: u32) -> T {
        sum + value
    }

    #[inline(always)]
    fn end(self, sum: T, count: T) -> (T, u8) {
        (sum / count, 0)
    }
}

/// The gradient of the means of windows with respect to the input.
pub(super) fn means_gradient<T: Element>(context: &Context, g: &PoolGeometry, dy: &Tensor<T>) -> Tensor<T> {
    let mut dx = Tensor::empty_in(context.pool(), g.input_shape());
    let mut row = context.pool().take::<T>(g.input[1]);
    dispatch(Isa::current(), PlanesBackward { g, dy: dy.data(), row: &mut row, dx: dx.data_mut() });
    dx
}

/// The backward pass over whole planes; `row` is scratch of W elements.
struct PlanesBackward<'a, T> {
    g: &'a PoolGeometry,
    dy: &'a [T],
    row: &'a mut [T],
    dx: &'a mut [T],
}

impl<T: Element> Kernel for PlanesBackward<'_, T> {
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { g, dy, row, dx } = self;
        let [ow, w] = [g.output[1], g.input[1]];
        for (dx, dy) in dx.chunks_exact_mut(g.in_pixels()).zip(dy.chunks_exact(g.out_pixels())) {
            dx.fill(T::ZERO);
            for (i, dy) in dy.chunks_exact(ow).enumerate() {
                // All rows under this row of windows get the same: what the windows give to each column.
                let rows = g.span(0, i);
                row.fill(T::ZERO);
                for (j, &dy) in dy.iter().enumerate() {
                    let columns = g.span(1, j);
                    let share = dy / T::from_usize(rows.counted * columns.counted);
                    for value in &mut row[columns.inside] {
                        *value += share;
                    }
                }
                for dx in dx[rows.inside.start * w..rows.inside.end * w].chunks_exact_mut(w) {
                    for (dx, &value) in dx.iter_mut().zip(&*row) {
                        *dx += value;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::pool_window::tests::geometries;
    use crate::testing::{check_gradients, poisoned, random, refusal};

    #[test]
    fn errors_name_sizes() {
        let error = "avg_pool2d: a window of 8 does not fit H = 7 with padding 0";
        assert_eq!(refusal(&AvgPool2d::new(8, 1), &[&[1, 1, 7, 9]]), error);
        let half = 1 << (usize::BITS / 2 - 1);
        let wide = AvgPool2d { padding: [half; 2], ..AvgPool2d::new(2 * half, 1) };
        assert!(refusal(&wide, &[&[1, 1, 8, 8]]).ends_with("are too large for memory"));
    }

    #[test]
    fn gradients() {
        for (kernel, stride, padding, ceil_mode, input) in [
            ([3, 3], [2, 2], [0, 0], false, [2, 2, 7, 9]),
            ([3, 3], [2, 2], [1, 1], true, [1, 2, 6, 8]),
            ([2, 2], [2, 2], [0, 0], false, [1, 3, 6, 4]),
            ([2, 3], [1, 2], [1, 0], true, [1, 1, 5, 6]),
            ([2, 2], [3, 3], [0, 0], false, [1, 1, 7, 7]),
            ([3, 3], [usize::MAX; 2], [1, 1], true, [1, 1, 4, 5]),
        ] {
            for count_include_pad in [true, false] {
                let op = AvgPool2d { kernel, stride, padding, ceil_mode, count_include_pad };
                check_gradients(&op, &[random(input, 3)]);
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition((g, ceil_mode) in geometries(), count_include_pad: bool, seed: u64) {
            let PoolGeometry { input, kernel, stride, padding, .. } = g;
            let op = AvgPool2d { kernel, stride, padding, ceil_mode, count_include_pad };
            let x = random(g.input_shape(), seed);
            let (y, _) = op.compute(&poisoned(), x.clone());
            for (index, &y) in y.data().iter().enumerate() {
                let (plane, i, j) =
                    (index / g.out_pixels(), index / g.output[1] % g.output[0], index % g.output[1]);
                let (mut sum, mut count) = (0.0, 0.0);
                for k in 0..kernel[0] * kernel[1] {
                    let (row, column) = (i * stride[0] + k / kernel[1], j * stride[1] + k % kernel[1]);
                    let inside = (padding[0]..padding[0] + input[0]).contains(&row)
                        && (padding[1]..padding[1] + input[1]).contains(&column);
                    if inside {
                        let (row, column) = (row - padding[0], column - padding[1]);
                        sum += x.data()[(plane * input[0] + row) * input[1] + column];
                    }
                    let padded = row < input[0] + 2 * padding[0] && column < input[1] + 2 * padding[1];
                    if inside || (count_include_pad && padded) {
                        count += 1.0;
                    }
                }
                prop_assert!((y - sum / count).abs() < 1e-12, "output {index} is {y}, not {}", sum / count);
            }
        }
    }
}
