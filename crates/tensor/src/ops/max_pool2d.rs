//! Max pooling (d2l book, section 7.5): the largest value under each window.

use super::window::{PoolSizes, Windows};
use crate::buffer_pool::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// N x C x H x W to N x C x OH x OW, OH = floor((H + 2 padding - kernel) / stride) + 1 (ceil in ceil mode, where the last
/// window must still begin inside of the input or its left padding). Pairs are (vertical, horizontal).
///
/// Semantics of PyTorch: padding is minus infinity, of equal values the first wins, NaN wins over all. The backward pass needs
/// only which window element won: one byte per output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// The window.
    pub kernel: [usize; 2],
    /// The step of the window.
    pub stride: [usize; 2],
    /// Rows and columns added on each side, at most half of the window.
    pub padding: [usize; 2],
    /// Whether a window that reaches over the edge counts.
    pub ceil_mode: bool,
}

/// What the backward pass needs: the sizes, and for each output the winner's number in its window.
#[derive(Debug)]
pub struct Saved {
    sizes: PoolSizes,
    winners: Buffer<u8>,
}

impl MaxPool2d {
    /// A square window and stride without padding.
    #[must_use]
    pub fn square(kernel: usize, stride: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 2], ceil_mode: false }
    }

    fn windows(&self) -> Windows {
        Windows { kernel: self.kernel, stride: self.stride, padding: self.padding, ceil_mode: self.ceil_mode }
    }

    fn sizes(&self, input: Shape) -> Result<PoolSizes, ShapeError> {
        let sizes = self.windows().sizes("max_pool2d", input)?;
        let area = self.kernel[0] * self.kernel[1];
        if area > 255 {
            let message =
                format!("a window has at most 255 elements, found {} x {}", self.kernel[0], self.kernel[1]);
            return Err(ShapeError::new("max_pool2d", message));
        }
        Ok(sizes)
    }

    /// Whether no window touches padding or the far edge, so that every window is whole.
    fn all_windows_whole(&self, sizes: &PoolSizes) -> bool {
        self.padding == [0, 0]
            && (sizes.oh - 1) * self.stride[0] + self.kernel[0] <= sizes.h
            && (sizes.ow - 1) * self.stride[1] + self.kernel[1] <= sizes.w
    }
}

/// One plane, any window: the reference that the fast path is tested against.
fn pool_plane<T: Element>(windows: Windows, sizes: &PoolSizes, x: &[T], y: &mut [T], winners: &mut [u8]) {
    for i in 0..sizes.oh {
        let (top, bottom) = windows.span(0, i, sizes.h);
        for j in 0..sizes.ow {
            let (left, right) = windows.span(1, j, sizes.w);
            let (mut best, mut winner) = (T::NEG_INFINITY, None);
            for row in top..bottom {
                for column in left..right {
                    let value = x[row * sizes.w + column];
                    if winner.is_none() || value > best || (is_nan(value) && !is_nan(best)) {
                        let (u, v) = (
                            row + windows.padding[0] - i * windows.stride[0],
                            column + windows.padding[1] - j * windows.stride[1],
                        );
                        (best, winner) = (value, Some((u * windows.kernel[1] + v) as u8));
                    }
                }
            }
            y[i * sizes.ow + j] = best;
            winners[i * sizes.ow + j] = winner.unwrap_or(0);
        }
    }
}

#[inline]
fn is_nan<T: Element>(value: T) -> bool {
    value.partial_cmp(&value).is_none()
}

/// One plane of whole `K x K` windows with stride `S`: the window's elements are taken one after the other for a whole row of
/// outputs, so that the compiler can work on many outputs at once.
fn pool_plane_whole<T: Element, const K: usize, const S: usize>(
    sizes: &PoolSizes,
    x: &[T],
    y: &mut [T],
    winners: &mut [u8],
) {
    let rows = y.chunks_exact_mut(sizes.ow).zip(winners.chunks_exact_mut(sizes.ow));
    for (i, (y, winners)) in rows.enumerate() {
        for u in 0..K {
            let row = &x[(i * S + u) * sizes.w..][..sizes.w];
            for v in 0..K {
                let code = (u * K + v) as u8;
                let values = row[v..].iter().step_by(S);
                if code == 0 {
                    for ((y, winner), &value) in y.iter_mut().zip(winners.iter_mut()).zip(values) {
                        *y = value;
                        *winner = 0;
                    }
                    continue;
                }
                for ((y, winner), &value) in y.iter_mut().zip(winners.iter_mut()).zip(values) {
                    // A NaN that is there stays, one that comes wins.
                    let wins = (value > *y) | (is_nan(value) & !is_nan(*y));
                    *y = if wins { value } else { *y };
                    *winner = if wins { code } else { *winner };
                }
            }
        }
    }
}

impl<T: Element> Op<T> for MaxPool2d {
    type Saved = Option<Saved>;

    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("max_pool2d", inputs, 1)?;
        let sizes = self.sizes(inputs[0])?;
        Ok(Shape::from([sizes.n, sizes.c, sizes.oh, sizes.ow]))
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Option<Saved>) {
        let x = only(inputs);
        let sizes = self.sizes(x.shape()).expect("the shapes were checked");
        let (plane, out) = (sizes.h * sizes.w, sizes.oh * sizes.ow);
        let mut y = Tensor::uninit_in(context.pool(), [sizes.n, sizes.c, sizes.oh, sizes.ow]);
        let mut winners = context.pool().take::<u8>(sizes.n * sizes.c * out);
        let planes = x.data().chunks_exact(plane).zip(y.data_mut().chunks_exact_mut(out));
        let whole = self.all_windows_whole(&sizes);
        for ((x, y), winners) in planes.zip(winners.chunks_exact_mut(out)) {
            match (self.kernel, self.stride) {
                ([3, 3], [2, 2]) if whole => pool_plane_whole::<T, 3, 2>(&sizes, x, y, winners),
                ([2, 2], [2, 2]) if whole => pool_plane_whole::<T, 2, 2>(&sizes, x, y, winners),
                _ => pool_plane(self.windows(), &sizes, x, y, winners),
            }
        }
        (y, context.recording.then_some(Saved { sizes, winners }))
    }

    fn backward(
        &self,
        context: &Context,
        saved: Option<Saved>,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        let (Some(Saved { sizes, winners }), true) = (saved, wanted[0]) else { return vec![None] };
        let mut grad_input = Tensor::zeros_in(context.pool(), [sizes.n, sizes.c, sizes.h, sizes.w]);
        let (plane, out) = (sizes.h * sizes.w, sizes.oh * sizes.ow);
        // Where the winner lies from the window's first element, by its number.
        let mut offsets = [0; 256];
        for (code, offset) in offsets.iter_mut().enumerate().take(self.kernel[0] * self.kernel[1]) {
            *offset = code / self.kernel[1] * sizes.w + code % self.kernel[1];
        }
        let padding = self.padding[0] * sizes.w + self.padding[1];
        let planes = grad_input.data_mut().chunks_exact_mut(plane).zip(grad_output.data().chunks_exact(out));
        for ((dx, dy), winners) in planes.zip(winners.chunks_exact(out)) {
            let rows = dy.chunks_exact(sizes.ow).zip(winners.chunks_exact(sizes.ow));
            for (i, (dy, winners)) in rows.enumerate() {
                let mut window = i * self.stride[0] * sizes.w;
                for (&gradient, &winner) in dy.iter().zip(winners) {
                    dx[window + offsets[usize::from(winner)] - padding] += gradient;
                    window += self.stride[1];
                }
            }
        }
        vec![Some(grad_input)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, RandomStream};

    fn run(op: MaxPool2d, x: &Tensor<f32>) -> (Tensor<f32>, Tensor<f32>) {
        let context = Context::training(crate::BufferPool::poisoning());
        let (y, saved) = op.forward(&context, vec![x.clone()]);
        let ones = Tensor::full(y.shape(), 1.0);
        let dx = op.backward(&context, saved, ones, &[true]).remove(0).unwrap();
        (y, dx)
    }

    #[test]
    fn overlapping_windows_and_ties() {
        let x = Tensor::from_slice(
            [1, 1, 3, 5],
            &[1.0, 5.0, 2.0, 5.0, 0.0, 1.0, 1.0, 5.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 7.0],
        )
        .unwrap();
        let (y, dx) = run(MaxPool2d::square(3, 2), &x);
        assert_eq!(y.data(), [5.0, 7.0]);
        assert_eq!(dx.data().iter().position(|&g| g == 1.0), Some(1), "the first of equals wins");
        assert_eq!(dx.data().iter().sum::<f32>(), 2.0);
    }

    #[test]
    fn ceil_mode_and_padding_follow_pytorch() {
        let shape =
            |op: MaxPool2d, h: usize| Op::<f32>::output_shape(&op, &[[1, 1, h, h].into()]).unwrap()[2];
        let ceil = MaxPool2d { ceil_mode: true, ..MaxPool2d::square(3, 2) };
        assert_eq!((shape(ceil, 32), shape(MaxPool2d::square(3, 2), 32)), (16, 15));
        // The last window would begin in the right padding.
        let padded = MaxPool2d { kernel: [2; 2], stride: [2; 2], padding: [1; 2], ceil_mode: true };
        assert_eq!(shape(padded, 3), 2);
        let error = Op::<f32>::output_shape(&MaxPool2d::square(3, 2), &[[1, 1, 2, 9].into()]).unwrap_err();
        assert_eq!(error.to_string(), "max_pool2d: a window of 3 does not fit H = 2 with padding 0");
    }

    #[test]
    fn the_fast_path_agrees_with_the_reference_bit_for_bit() {
        let mut stream = RandomStream::new(1, 0, Purpose::Other(0), 0);
        for (h, w, kernel) in [(7, 9, 3), (8, 8, 2), (35, 35, 3), (3, 3, 3)] {
            let mut x = Tensor::<f32>::from_fn([2, 3, h, w], |_| stream.below(5) as f32);
            x.data_mut()[4] = f32::NAN;
            let op = MaxPool2d::square(kernel, 2);
            let sizes = op.sizes(x.shape()).unwrap();
            let (plane, out) = (h * w, sizes.oh * sizes.ow);
            let (y, saved) = op.forward(&Context::default(), vec![x.clone()]);
            let saved = saved.unwrap();
            for index in 0..6 {
                let (mut expected, mut winners) = (vec![0.0; out], vec![0; out]);
                pool_plane(
                    op.windows(),
                    &sizes,
                    &x.data()[index * plane..][..plane],
                    &mut expected,
                    &mut winners,
                );
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&y.data()[index * out..][..out]), bits(&expected));
                assert_eq!(saved.winners[index * out..][..out], winners[..]);
            }
        }
    }
}
