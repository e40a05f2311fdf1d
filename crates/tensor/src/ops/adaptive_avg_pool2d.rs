//! Average pooling to a given size; to 1 x 1 it is the global average that ends NiN (Lin et al. 2014, section 3.2).

use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// N x C x H x W to N x C x OH x OW: output row i is the mean of the input rows floor(i H / OH) to ceil((i + 1) H / OH), as in
/// PyTorch, and the columns likewise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool2d {
    /// OH and OW.
    pub output: [usize; 2],
}

impl AdaptiveAvgPool2d {
    /// The mean of each plane: OH = OW = 1.
    pub const GLOBAL: Self = Self { output: [1, 1] };

    /// Calls `visit(output index, row, columns from..to, 1 / window area)` for each row of each window.
    fn for_each_row<T: Element>(
        &self,
        h: usize,
        w: usize,
        mut visit: impl FnMut(usize, usize, (usize, usize), T),
    ) {
        let [oh, ow] = self.output;
        let span = |out: usize, extent: usize, outs: usize| {
            (out * extent / outs, ((out + 1) * extent).div_ceil(outs))
        };
        for i in 0..oh {
            let (top, bottom) = span(i, h, oh);
            for j in 0..ow {
                let (left, right) = span(j, w, ow);
                let share = T::ONE / T::from_usize((bottom - top) * (right - left));
                for row in top..bottom {
                    visit(i * ow + j, row, (left, right), share);
                }
            }
        }
    }
}

impl<T: Element> Op<T> for AdaptiveAvgPool2d {
    /// The shape of the input.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "adaptive_avg_pool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("adaptive_avg_pool2d", inputs, 1)?;
        let [n, c, h, w] = inputs[0].nchw("adaptive_avg_pool2d")?;
        let [oh, ow] = self.output;
        if h == 0 || w == 0 || oh == 0 || ow == 0 {
            let message =
                format!("input and output need at least one pixel, found {h} x {w} and {oh} x {ow}");
            return Err(ShapeError::new("adaptive_avg_pool2d", message));
        }
        Ok(Shape::from([n, c, oh, ow]))
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let x = only(inputs);
        let [n, c, h, w] = x.shape().nchw("adaptive_avg_pool2d").expect("the shapes were checked");
        let [oh, ow] = self.output;
        let mut y = Tensor::zeros_in(context.pool(), [n, c, oh, ow]);
        for (x, y) in x.data().chunks_exact(h * w).zip(y.data_mut().chunks_exact_mut(oh * ow)) {
            self.for_each_row(h, w, |out, row, (left, right), share: T| {
                let sum: T = x[row * w + left..row * w + right].iter().copied().sum();
                y[out] += sum * share;
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
        let [_, _, h, w] = input.nchw("adaptive_avg_pool2d").expect("the shapes were checked");
        let mut grad_input = Tensor::zeros_in(context.pool(), input);
        let planes = grad_input.data_mut().chunks_exact_mut(h * w);
        for (dx, dy) in planes.zip(grad_output.data().chunks_exact(self.output[0] * self.output[1])) {
            self.for_each_row(h, w, |out, row, (left, right), share: T| {
                for value in &mut dx[row * w + left..row * w + right] {
                    *value += dy[out] * share;
                }
            });
        }
        vec![Some(grad_input)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn global_and_overlapping_windows() {
        let x = Tensor::from_fn([1, 2, 2, 3], |i| i as f64);
        let context = Context::default();
        let (y, saved) = AdaptiveAvgPool2d::GLOBAL.forward(&context, vec![x.clone()]);
        assert!(y.data().iter().zip([2.5, 8.5]).all(|(y, expected)| (y - expected).abs() < 1e-12));
        let dx =
            AdaptiveAvgPool2d::GLOBAL.backward(&context, saved, Tensor::full([1, 2, 1, 1], 6.0), &[true]);
        assert!(dx[0].as_ref().unwrap().data().iter().all(|g| (g - 1.0).abs() < 1e-12));
        // Three columns to two: columns 0..2 and 1..3.
        let (y, _) = AdaptiveAvgPool2d { output: [1, 2] }.forward(&context, vec![x]);
        assert!(
            y.data().iter().zip([2.0, 3.0, 8.0, 9.0]).all(|(y, expected)| (y - expected).abs() < 1e-12),
            "{y:?}"
        );
    }
}
