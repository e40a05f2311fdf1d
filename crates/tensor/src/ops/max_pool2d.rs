//! Max pooling: `y = max` over each window, of the input or of its ReLU.

mod gradients;

use self::gradients::MaxPoolBackward;
use super::pool_fold::{Fold, Pooling};
use super::pool_window::{PoolGeometry, describe_windows};
use crate::simd::{Isa, dispatch};
use crate::{Buffer, Context, Element, Shape, ShapeError, Tensor, UnaryOp, ensure, threads};

/// The maximum of each window of an N x C x H x W input; the output is N x C x OH x OW with
/// OH = floor((H + 2 padding - kernel) / stride) + 1. Pairs are (vertical, horizontal).
///
/// As in PyTorch: padding counts as minus infinity; of equal values the first in row-major order gets the gradient; a
/// window that holds a NaN gives NaN.
///
/// The backward pass needs neither input nor output, only one byte per output: where in the window the maximum was.
///
/// A ReLU before the pooling can be left to it, since the maximum of max(x, 0) is max(maximum of x, 0). The byte then says,
/// too, that nothing in the window was above 0, and neither ReLU nor the op before it needs to keep anything for ReLU's
/// backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// The window, at most 255 elements.
    pub kernel: [usize; 2],
    /// The step of the window over the input.
    pub stride: [usize; 2],
    /// Positions added on each side, at most half the kernel.
    pub padding: [usize; 2],
    /// Rounds the output's size up, so that the last rows and columns are covered. A window must start inside the input
    /// or the padding before it.
    pub ceil_mode: bool,
    /// Applies ReLU to the input first.
    pub relu: bool,
}

/// The byte of a window in which nothing was above 0, where [`MaxPool2d::relu`] is set. A window has at most 255 elements, so
/// that no element has this index.
const NOTHING: u8 = 255;

impl MaxPool2d {
    /// Square windows without padding.
    #[must_use]
    pub fn new(kernel: usize, stride: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 2], ceil_mode: false, relu: false }
    }

    /// The same, counting windows that reach over the edge.
    #[must_use]
    pub fn ceil(kernel: usize, stride: usize) -> Self {
        Self { ceil_mode: true, ..Self::new(kernel, stride) }
    }

    fn geometry(&self, input: Shape) -> Result<PoolGeometry, ShapeError> {
        let [kh, kw] = self.kernel;
        let elements = kh.saturating_mul(kw);
        ensure!(Self::NAME, elements <= 255, "the window must have at most 255 elements, found {kh} x {kw}");
        PoolGeometry::new(Self::NAME, input, self.kernel, self.stride, self.padding, self.ceil_mode)
    }
}

/// Sizes and places of the maxima, for the backward pass.
#[derive(Debug)]
pub struct Saved {
    geometry: PoolGeometry,
    /// For each output, the maximum's row-major index in its window, or [`NOTHING`]. Empty if nothing is recorded.
    argmax: Buffer<u8>,
}

/// The maximum of a window or of its ReLU and, if `ARGMAX`, the byte of where it was.
#[derive(Clone, Copy)]
struct Maximum<const ARGMAX: bool> {
    relu: bool,
}

impl<T: Element, const ARGMAX: bool> Fold<T> for Maximum<ARGMAX> {
    const BYTES: bool = ARGMAX;
    /// The maximum and its index: as wide as an f32, so that both are chosen by the same mask.
    type State = (T, u32);

    #[inline(always)]
    fn start(self, first: T, index: u32) -> (T, u32) {
        (first, index)
    }

    /// Takes what is larger, or NaN. Nothing replaces a NaN but another.
    #[inline(always)]
    fn take(self, (best, place): (T, u32), value: T, index: u32) -> (T, u32) {
        #[allow(clippy::eq_op, reason = "only NaN differs from itself")]
        let exceeds = (value > best) | (value != value);
        (if exceeds { value } else { best }, if exceeds { index } else { place })
    }

    #[inline(always)]
    fn end(self, (best, place): (T, u32), _: T) -> (T, u8) {
        // Written so that NaN stays; its gradient through ReLU is 0.
        let y = if self.relu & (best <= T::ZERO) { T::ZERO } else { best };
        (y, if !self.relu | (best > T::ZERO) { place as u8 } else { NOTHING })
    }
}

impl UnaryOp for MaxPool2d {
    type Saved<T: Element> = Saved;

    const NAME: &'static str = "max_pool2d";

    fn describe(&self) -> String {
        let relu = if self.relu { "ReLU + " } else { "" };
        format!(
            "{relu}MaxPool2d({})",
            describe_windows(self.kernel, self.stride, self.padding, self.ceil_mode)
        )
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(self.geometry(input)?.output_shape())
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Saved) {
        let geometry = self.geometry(x.shape()).expect("the shapes were checked");
        let mut y = Tensor::empty_in(context.pool(), geometry.output_shape());
        let mut argmax = context.pool().take::<u8>(if context.grad_enabled { y.len() } else { 0 });
        let (g, relu, isa) = (&geometry, self.relu, Isa::current());
        let share = threads::units_each(context.parallel, g.n * g.c);
        let [inputs, outputs] = [g.in_pixels(), g.out_pixels()].map(|pixels| share * pixels);
        let (pairs, mut bytes) =
            (x.data().chunks(inputs).zip(y.data_mut().chunks_mut(outputs)), &mut *argmax);
        let pieces = pairs.map(|(x, y)| (x, bytes.split_off_mut(..y.len().min(bytes.len())), y));
        threads::spread(pieces, |(x, bytes, y)| {
            let bytes = bytes.unwrap_or_default();
            if context.grad_enabled {
                dispatch(isa, Pooling { g, fold: Maximum::<true> { relu }, x, y, bytes });
            } else {
                dispatch(isa, Pooling { g, fold: Maximum::<false> { relu }, x, y, bytes });
            }
        });
        (y, Saved { geometry, argmax })
    }

    fn gradient<T: Element>(&self, context: &Context, saved: Saved, dy: Tensor<T>) -> Tensor<T> {
        let Saved { geometry, argmax } = saved;
        let mut dx = Tensor::empty_in(context.pool(), geometry.input_shape());
        dispatch(
            Isa::current(),
            MaxPoolBackward { g: &geometry, dy: dy.data(), argmax: &argmax, dx: dx.data_mut() },
        );
        dx
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::buffer_pool::BufferPool;
    use crate::op::Op;
    use crate::ops::Relu;
    use crate::ops::pool_window::tests::geometries;
    use crate::testing::{check_gradients, distinct, poisoned, random, refusal};

    fn pool(op: MaxPool2d, x: &Tensor<f32>) -> (Tensor<f32>, Vec<u8>) {
        let (y, saved) = op.forward(&poisoned(), vec![x.clone()]);
        (y, saved.argmax.to_vec())
    }

    #[test]
    fn the_first_of_equals_wins_and_nan_spreads() {
        let ties = Tensor::full([1, 1, 3, 9], 1.0f32);
        assert_eq!(pool(MaxPool2d::new(3, 2), &ties).1, [0; 4]);
        let below = Tensor::full([1, 1, 3, 3], f32::NEG_INFINITY);
        assert_eq!(
            pool(MaxPool2d::new(3, 2), &below),
            (Tensor::full([1, 1, 1, 1], f32::NEG_INFINITY), vec![0])
        );
        let mut x = Tensor::full([1, 1, 3, 5], 1.0f32);
        x.data_mut()[6] = f32::NAN; // row 1, column 1: in the first window only
        for (kernel, stride) in [(3, 2), (3, 1)] {
            let op = MaxPool2d { kernel: [3, kernel], stride: [2, stride], ..MaxPool2d::new(3, 2) };
            let (y, argmax) = pool(op, &x);
            assert!(y.data()[0].is_nan(), "{op:?}");
            assert_eq!(*y.data().last().unwrap(), 1.0);
            assert_eq!(argmax[0], 4);
        }
    }

    #[test]
    fn a_relu_before_the_pooling_stops_what_is_not_above_zero() {
        let op = MaxPool2d { relu: true, ..MaxPool2d::new(2, 2) };
        let x = [-1.0, -2.0, 3.0, -4.0, 0.0, 0.0, -1.0, -0.0, 0.0, 0.5, f32::NAN, 9.0];
        let context = poisoned();
        let (y, saved) = op.forward(&context, vec![Tensor::from_slice([1, 1, 2, 6], &x).unwrap()]);
        assert_eq!(y.data()[..2], [0.0, 3.0]);
        assert!(y.data()[2].is_nan(), "a diverged network shows it");
        assert_eq!(saved.argmax[..], [NOTHING, 0, NOTHING]);
        let dy = Tensor::full([1, 1, 1, 3], 1.0);
        let dx = op.gradients(&context, saved, dy, &[true]).remove(0).unwrap();
        assert_eq!(dx.data(), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn argmax_is_computed_only_for_a_recorded_pass() {
        let x = random([1, 2, 9, 9], 1).cast::<f32>();
        let (recorded, _) = pool(MaxPool2d::new(3, 2), &x);
        for parallel in [false, true] {
            let context = Context { parallel, ..Context::evaluation(BufferPool::poisoning()) };
            let (y, saved) = MaxPool2d::new(3, 2).forward(&context, vec![x.clone()]);
            assert!(saved.argmax.is_empty());
            assert_eq!(y, recorded);
            let context = Context { parallel, ..poisoned() };
            let (y, saved) = MaxPool2d::new(3, 2).forward(&context, vec![x.clone()]);
            assert_eq!(saved.argmax.len(), y.len());
            assert_eq!(y, recorded);
        }
    }

    #[test]
    fn errors_name_sizes() {
        let output = Op::<f32>::output_shape(&MaxPool2d::new(3, 2), &[[8, 96, 72, 72].into()]);
        assert_eq!(output, Ok(Shape::from([8, 96, 35, 35])));
        let error = "max_pool2d: the window must have at most 255 elements, found 16 x 16";
        assert_eq!(refusal(&MaxPool2d::new(16, 2), &[&[1, 1, 32, 32]]), error);
        let error = "max_pool2d: expects an N x C x H x W tensor, input is 4 x 4";
        assert_eq!(refusal(&MaxPool2d::new(3, 2), &[&[4, 4]]), error);
    }

    #[test]
    fn gradients() {
        for (kernel, stride, padding, ceil_mode, input) in [
            ([3, 3], [2, 2], [0, 0], false, [2, 2, 7, 9]),
            ([3, 3], [2, 2], [1, 1], true, [1, 2, 6, 8]),
            ([2, 2], [2, 2], [0, 0], false, [1, 3, 6, 4]),
            ([2, 3], [1, 2], [1, 0], true, [1, 1, 5, 6]),
            ([1, 1], [1, 1], [0, 0], false, [1, 1, 2, 2]),
            ([2, 2], [3, 3], [0, 0], false, [1, 1, 7, 7]),
        ] {
            for relu in [false, true] {
                let op = MaxPool2d { kernel, stride, padding, ceil_mode, relu };
                check_gradients(&op, &[distinct(input, 3)]);
            }
        }
    }

    /// The definition: of each output the largest element of its window, the number of the first such in the window, and its
    /// place.
    fn maxima(g: &PoolGeometry, x: &[f64]) -> Vec<(f64, u8, usize)> {
        let maximum = |output: usize| {
            let [i, j] = [output / g.output[1] % g.output[0], output % g.output[1]];
            let elements = (0..g.kernel[0] * g.kernel[1]).filter_map(|k| {
                let row = (i * g.stride[0] + k / g.kernel[1]).checked_sub(g.padding[0])?;
                let column = (j * g.stride[1] + k % g.kernel[1]).checked_sub(g.padding[1])?;
                let place = (output / g.out_pixels() * g.input[0] + row) * g.input[1] + column;
                (row < g.input[0] && column < g.input[1]).then(|| (x[place], k as u8, place))
            });
            let first = elements.reduce(|best, next| if next.0 > best.0 { next } else { best });
            first.expect("no window lies wholly in the padding")
        };
        (0..g.output_shape().elements()).map(maximum).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition((g, ceil_mode) in geometries(), values in 2u64..50, seed: u64) {
            let PoolGeometry { kernel, stride, padding, .. } = g;
            let op = MaxPool2d { kernel, stride, padding, ceil_mode, relu: false };
            // Few distinct values, so that there are many ties.
            let mut x = random(g.input_shape(), seed);
            x.data_mut().iter_mut().for_each(|x| *x = (*x * values as f64).floor());
            let maxima = maxima(&g, x.data());
            let y: Vec<f64> = maxima.iter().map(|maximum| maximum.0).collect();
            let argmax: Vec<u8> = maxima.iter().map(|maximum| maximum.1).collect();
            let (found, saved) = op.forward(&poisoned(), vec![x.clone()]);
            prop_assert_eq!(found.data(), &y[..]);
            prop_assert_eq!(&saved.argmax[..], &argmax[..]);
            let (single, saved) = op.forward(&poisoned(), vec![x.cast::<f32>()]);
            prop_assert_eq!(single, found.cast::<f32>());
            prop_assert_eq!(&saved.argmax[..], &argmax[..]);

            // The gradient: each output's, to its maximum.
            let dy = random(g.output_shape(), seed ^ 1).cast::<f32>();
            let mut expected = vec![0.0f32; x.len()];
            maxima.iter().zip(dy.data()).for_each(|(maximum, dy)| expected[maximum.2] += dy);
            let dx = op.gradients(&poisoned(), saved, dy.clone(), &[true]).remove(0).unwrap();
            prop_assert_eq!(dx.data(), &expected[..]);

            // ReLU left to the pooling.
            let fused = MaxPool2d { relu: true, ..op };
            let single = x.cast::<f32>();
            let (relu_output, of_relu) = Relu.forward(&poisoned(), vec![single.clone()]);
            let (expected, of_pooling) = op.forward(&poisoned(), vec![relu_output]);
            let (found, saved) = fused.forward(&poisoned(), vec![single]);
            prop_assert_eq!(found, expected);
            let masked = op.gradients(&poisoned(), of_pooling, dy.clone(), &[true]).remove(0).unwrap();
            let expected = Relu.gradients(&poisoned(), of_relu, masked, &[true]);
            prop_assert_eq!(fused.gradients(&poisoned(), saved, dy, &[true]), expected);
        }
    }
}
