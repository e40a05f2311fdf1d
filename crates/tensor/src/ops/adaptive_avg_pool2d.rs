//! Average pooling to a given output size; to 1 x 1, the global average that ends a network in network.

use super::avg_pool2d::means_gradient;
use super::pool_window::PoolGeometry;
use crate::simd::{Isa, compiled};
use crate::sum_slice::sum_slice;
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp};

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

impl AdaptiveAvgPool2d {
    /// One mean for each plane.
    pub const GLOBAL: Self = Self { output: [1, 1] };

    fn geometry(self, input: Shape) -> Result<PoolGeometry, ShapeError> {
        PoolGeometry::adaptive(Self::NAME, input, self.output)
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
        Ok(self.geometry(input)?.output_shape())
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Shape) {
        let g = self.geometry(x.shape()).expect("the shapes were checked");
        let mut y = Tensor::empty_in(context.pool(), g.output_shape());
        let (planes, means, [ow, w]) = (x.data(), y.data_mut(), [g.output[1], g.input[1]]);
        compiled!(Isa::current(), {
            for (x, y) in planes.chunks_exact(g.in_pixels()).zip(means.chunks_exact_mut(g.out_pixels())) {
                if let [y] = y {
                    *y = sum_slice(x) / T::from_usize(x.len());
                    continue;
                }
                for (place, y) in y.iter_mut().enumerate() {
                    let [rows, columns] = [g.span(0, place / ow), g.span(1, place % ow)];
                    let mut sum = T::ZERO;
                    for row in rows.inside {
                        sum += sum_slice(&x[row * w..][columns.inside.clone()]);
                    }
                    *y = sum / T::from_usize(rows.counted * columns.counted);
                }
            }
        });
        (y, x.shape())
    }

    fn gradient<T: Element>(&self, context: &Context, input: Shape, dy: Tensor<T>) -> Tensor<T> {
        let g = self.geometry(input).expect("the shapes were checked");
        if *self != Self::GLOBAL {
            return means_gradient(context, &g, &dy);
        }
        let mut dx = Tensor::empty_in(context.pool(), input);
        for (dx, &dy) in dx.data_mut().chunks_exact_mut(g.in_pixels()).zip(dy.data()) {
            dx.fill(dy / T::from_usize(g.in_pixels()));
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
