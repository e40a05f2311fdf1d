//! Average pooling (d2l book, section 7.5): the mean under each window.

use super::window::{PoolSizes, Windows};
use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// N x C x H x W to N x C x OH x OW with the extents of [`MaxPool2d`](super::MaxPool2d).
///
/// Semantics of PyTorch: with `count_include_pad` the divisor counts the padding, but never what lies beyond it, as a last
/// window in ceil mode may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2d {
    /// The window.
    pub kernel: [usize; 2],
    /// The step of the window.
    pub stride: [usize; 2],
    /// Zeros added on each side, at most half of the window.
    pub padding: [usize; 2],
    /// Whether a window that reaches over the edge counts.
    pub ceil_mode: bool,
    /// Whether padding counts in the divisor.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// A square window and stride without padding.
    #[must_use]
    pub fn square(kernel: usize, stride: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [0; 2],
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    fn windows(&self) -> Windows {
        Windows { kernel: self.kernel, stride: self.stride, padding: self.padding, ceil_mode: self.ceil_mode }
    }

    /// Calls `visit(output index, rows, columns, 1 / divisor)` for each window of a plane.
    fn for_each_window<T: Element>(
        &self,
        sizes: &PoolSizes,
        mut visit: impl FnMut(usize, (usize, usize), (usize, usize), T),
    ) {
        let windows = self.windows();
        let padded = |axis: usize, out: usize, extent: usize| {
            let start = out * self.stride[axis];
            (start + self.kernel[axis]).min(extent + 2 * self.padding[axis]) - start
        };
        for i in 0..sizes.oh {
            let rows = windows.span(0, i, sizes.h);
            for j in 0..sizes.ow {
                let columns = windows.span(1, j, sizes.w);
                let divisor = if self.count_include_pad {
                    padded(0, i, sizes.h) * padded(1, j, sizes.w)
                } else {
                    (rows.1 - rows.0) * (columns.1 - columns.0)
                };
                visit(i * sizes.ow + j, rows, columns, T::ONE / T::from_usize(divisor));
            }
        }
    }
}

impl<T: Element> Op<T> for AvgPool2d {
    /// The shape of the input.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("avg_pool2d", inputs, 1)?;
        let sizes = self.windows().sizes("avg_pool2d", inputs[0])?;
        Ok(Shape::from([sizes.n, sizes.c, sizes.oh, sizes.ow]))
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let x = only(inputs);
        let sizes = self.windows().sizes("avg_pool2d", x.shape()).expect("the shapes were checked");
        let mut y = Tensor::uninit_in(context.pool(), [sizes.n, sizes.c, sizes.oh, sizes.ow]);
        let planes = x.data().chunks_exact(sizes.h * sizes.w);
        for (x, y) in planes.zip(y.data_mut().chunks_exact_mut(sizes.oh * sizes.ow)) {
            self.for_each_window(&sizes, |out, (top, bottom), (left, right), share: T| {
                let mut sum = T::ZERO;
                for row in top..bottom {
                    for &value in &x[row * sizes.w + left..row * sizes.w + right] {
                        sum += value;
                    }
                }
                y[out] = sum * share;
            });
        }
        (y, x.shape())
    }

    fn backward(
        &self,
        context: &Context,
        input: Shape,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        if !wanted[0] {
            return vec![None];
        }
        let sizes = self.windows().sizes("avg_pool2d", input).expect("the shapes were checked");
        let mut grad_input = Tensor::zeros_in(context.pool(), input);
        let planes = grad_input.data_mut().chunks_exact_mut(sizes.h * sizes.w);
        for (dx, dy) in planes.zip(grad_output.data().chunks_exact(sizes.oh * sizes.ow)) {
            self.for_each_window(&sizes, |out, (top, bottom), (left, right), share: T| {
                let gradient = dy[out] * share;
                for row in top..bottom {
                    for value in &mut dx[row * sizes.w + left..row * sizes.w + right] {
                        *value += gradient;
                    }
                }
            });
        }
        vec![Some(grad_input)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(op: AvgPool2d, x: &Tensor<f64>) -> Vec<f64> {
        op.forward(&Context::default(), vec![x.clone()]).0.data().to_vec()
    }

    #[test]
    fn divisors_follow_pytorch() {
        let x = Tensor::from_slice([1, 1, 2, 2], &[4.0, 8.0, 12.0, 16.0]).unwrap();
        let padded = AvgPool2d { padding: [1; 2], ..AvgPool2d::square(2, 2) };
        assert_eq!(pool(padded, &x), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(pool(AvgPool2d { count_include_pad: false, ..padded }, &x), [4.0, 8.0, 12.0, 16.0]);
        let x = Tensor::from_fn([1, 1, 4, 4], |i| i as f64);
        let ceil = AvgPool2d { ceil_mode: true, ..AvgPool2d::square(3, 2) };
        assert_eq!(
            pool(ceil, &x),
            [5.0, 6.5, 11.0, 12.5],
            "a window cut off by the edge divides by what is left"
        );
    }

    #[test]
    fn the_gradient_is_spread_evenly() {
        let op = AvgPool2d::square(2, 2);
        let x = Tensor::<f64>::zeros([1, 1, 2, 2]);
        let context = Context::default();
        let (_, saved) = op.forward(&context, vec![x]);
        let gradients = op.backward(&context, saved, Tensor::full([1, 1, 1, 1], 8.0), &[true]);
        assert_eq!(gradients[0].as_ref().unwrap().data(), [2.0; 4]);
    }
}
