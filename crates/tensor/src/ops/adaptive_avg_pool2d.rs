//! Average pooling to a given output size; to 1 x 1, the global average that ends a network in network.

use std::ops::Range;

use super::sum_slice::sum_slice;
use crate::simd::{Isa, compiled};
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp, ensure};

/// Means over windows that divide an N x C x H x W input into N x C x OH x OW; H and W may be any.
///
/// As in PyTorch, output row i covers the input rows floor(i H / OH) to ceil((i + 1) H / OH), so that windows overlap
/// where OH does not divide H. With OH = OW = 1 this is the global average pooling of Lin, Chen and Yan 2013 ("Network in
/// network", section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool2d {
    /// OH and OW.
    pub output: [usize; 2],
}

/// The input positions under output position `out`.
fn window(out: usize, input: usize, output: usize) -> Range<usize> {
    out * input / output..((out + 1) * input).div_ceil(output)
}

impl AdaptiveAvgPool2d {
    /// One mean for each plane.
    pub const GLOBAL: Self = Self { output: [1, 1] };

    /// The rows and columns of the input under each output of a plane, and the number of its elements.
    fn windows<T: Element>(
        self,
        [h, w]: [usize; 2],
    ) -> impl Iterator<Item = (Range<usize>, Range<usize>, T)> {
        let [oh, ow] = self.output;
        (0..oh * ow).map(move |index| {
            let (rows, columns) = (window(index / ow, h, oh), window(index % ow, w, ow));
            let count = T::from_usize(rows.len() * columns.len());
            (rows, columns, count)
        })
    }
}

impl UnaryOp for AdaptiveAvgPool2d {
    /// The input's shape.
    type Saved<T: Element> = Shape;

    const NAME: &'static str = "adaptive_avg_pool2d";

    fn describe(&self) -> String {
        match self.output {
            [1, 1] => "GlobalAvgPool2d".to_owned(),
            [height, width] => format!("AdaptiveAvgPool2d({height}x{width})"),
        }
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        let ([n, c, h, w], [oh, ow]) = (input.nchw(Self::NAME)?, self.output);
        let empty = [h, w, oh, ow].contains(&0);
        ensure!(Self::NAME, !empty, "expects at least one pixel, found {h} x {w} to {oh} x {ow}");
        Shape::checked(&[n, c, oh, ow])
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Shape) {
        let ([n, c, h, w], [oh, ow]) =
            (x.shape().nchw(Self::NAME).expect("the shapes were checked"), self.output);
        let mut y = Tensor::empty_in(context.pool(), [n, c, oh, ow]);
        let (planes, outputs) = (x.data(), y.data_mut());
        compiled!(Isa::current(), {
            for (x, y) in planes.chunks_exact(h * w).zip(outputs.chunks_exact_mut(oh * ow)) {
                if let [y] = y {
                    *y = sum_slice(x) / T::from_usize(h * w);
                    continue;
                }
                for (y, (rows, columns, count)) in y.iter_mut().zip(self.windows([h, w])) {
                    *y = rows.map(|row| sum_slice(&x[row * w..][columns.clone()])).sum::<T>() / count;
                }
            }
        });
        (y, x.shape())
    }

    fn gradient<T: Element>(&self, context: &Context, input: Shape, dy: Tensor<T>) -> Tensor<T> {
        let ([_, _, h, w], [oh, ow]) =
            (input.nchw(Self::NAME).expect("the shapes were checked"), self.output);
        let mut dx = Tensor::empty_in(context.pool(), input);
        for (dx, dy) in dx.data_mut().chunks_exact_mut(h * w).zip(dy.data().chunks_exact(oh * ow)) {
            if let [dy] = dy {
                dx.fill(*dy / T::from_usize(h * w));
                continue;
            }
            dx.fill(T::ZERO);
            for (&dy, (rows, columns, count)) in dy.iter().zip(self.windows([h, w])) {
                let share = dy / count;
                for row in rows {
                    dx[row * w..][columns.clone()].iter_mut().for_each(|dx| *dx += share);
                }
            }
        }
        dx
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random, refusal};

    #[test]
    fn windows_overlap_where_the_size_does_not_divide() {
        // 5 -> 3: rows 0..2, 1..4, 3..5.
        let x = Tensor::from_fn([1, 1, 5, 1], |i| i as f32);
        let (y, _) = AdaptiveAvgPool2d { output: [3, 1] }.compute(&poisoned(), x);
        assert_eq!(y.data(), [0.5, 2.0, 3.5]);
    }

    #[test]
    fn errors_name_sizes() {
        let error = "adaptive_avg_pool2d: expects at least one pixel, found 7 x 9 to 0 x 1";
        assert_eq!(refusal(&AdaptiveAvgPool2d { output: [0, 1] }, &[&[1, 1, 7, 9]]), error);
        let most = usize::MAX;
        let error = format!("shape: [2, 1, {most}, 1] are more elements than can be counted");
        assert_eq!(refusal(&AdaptiveAvgPool2d { output: [most, 1] }, &[&[2, 1, 7, 9]]), error);
    }

    #[test]
    fn gradients() {
        for output in [[1, 1], [2, 3], [3, 1], [5, 7], [8, 9]] {
            check_gradients(&AdaptiveAvgPool2d { output }, &[random([2, 2, 5, 7], 3)]);
        }
    }
}
