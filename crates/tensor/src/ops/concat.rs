//! Tensors one after the other along an axis.

use super::checks::has_axis;
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure};

/// Joins one or more tensors along an axis: images N x C1 x H x W, N x C2 x H x W, ... along axis 1 make N x (C1 + C2 + ...) x H
/// x W, as in Inception and DenseNet (Huang et al. 2017, equation 2). All other axes must be the same. The gradient of an input
/// is its part of the output's. ONNX and PyTorch: `Concat`, `cat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Concat {
    /// The axis along which the inputs lie one after the other.
    pub axis: usize,
}

impl Default for Concat {
    /// Channels: axis 1.
    fn default() -> Self {
        Self { axis: 1 }
    }
}

impl Concat {
    /// Elements of one input from one entry of the axes before to the next.
    fn run(&self, shape: Shape) -> usize {
        shape[self.axis..].iter().product()
    }
}

/// Copies parts of one tensor into those of another, or out of them: `each` of every `stride` elements, from `start` on.
fn copy_parts<T: Element>(from: &[T], from_stride: usize, to: &mut [T], to_stride: usize, each: usize) {
    if each > 0 {
        for (from, to) in from.chunks(from_stride).zip(to.chunks_mut(to_stride)) {
            to[..each].copy_from_slice(&from[..each]);
        }
    }
}

impl<T: Element> Op<T> for Concat {
    /// The shapes of the inputs.
    type Saved = Vec<Shape>;

    const NAME: &'static str = "concat";

    fn looks_across(&self, _: &[Shape], _: &[bool]) -> bool {
        self.axis == 0
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        ensure!("concat", !inputs.is_empty(), "expects at least one input, found 0");
        let (first, axis) = (inputs[0], self.axis);
        has_axis("concat", first, axis)?;
        let mut extents = first.to_vec();
        extents[axis] = 0;
        for (number, input) in inputs.iter().enumerate() {
            let same = |other: usize| other == axis || input[other] == first[other];
            ensure!(
                "concat",
                input.len() == first.len() && (0..first.len()).all(same),
                "input {number} is {input}, the first is {first}: only axis {axis} may differ"
            );
            extents[axis] = extents[axis].saturating_add(input[axis]);
        }
        Shape::checked(&extents)
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Vec<Shape>) {
        let shapes: Vec<Shape> = inputs.iter().map(Tensor::shape).collect();
        let shape = Op::<T>::output_shape(self, &shapes).expect("the shapes were checked");
        let (mut y, stride, mut start) = (Tensor::empty_in(context.pool(), shape), self.run(shape), 0);
        for input in &inputs {
            let each = self.run(input.shape());
            copy_parts(input.data(), each, &mut y.data_mut()[start.min(shape.elements())..], stride, each);
            start += each;
        }
        (y, shapes)
    }

    fn backward(&self, context: &Context, shapes: Vec<Shape>, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let stride = self.run(dy.shape());
        let mut start = 0;
        for (input, shape) in shapes.into_iter().enumerate() {
            let each = self.run(shape);
            sinks.add(input, || {
                let mut dx = Tensor::empty_in(context.pool(), shape);
                let own = &dy.data()[start.min(dy.len())..];
                copy_parts(own, stride, dx.data_mut(), each, each);
                dx
            });
            start += each;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random, refusal};

    #[test]
    fn channels_follow_each_other_in_each_image() {
        let a = Tensor::from_slice([2, 1, 2], &[1.0f32, 2.0, 11.0, 12.0]).unwrap();
        let b = Tensor::from_slice([2, 1, 2], &[3.0f32, 4.0, 13.0, 14.0]).unwrap();
        let (y, saved) = Concat::default().forward(&poisoned(), vec![a.clone(), b.clone()]);
        assert_eq!(y.data(), [1.0, 2.0, 3.0, 4.0, 11.0, 12.0, 13.0, 14.0]);
        assert_eq!(Concat::default().gradients(&poisoned(), saved, y, &[true, true]), [Some(a), Some(b)]);
    }

    #[test]
    fn gradients() {
        for axis in 0..4 {
            let shape = |extent: usize| {
                let mut shape = [2, 3, 2, 3];
                shape[axis] = extent;
                random(shape, extent as u64)
            };
            let inputs = [shape(1), shape(4), shape(0), shape(2)];
            check_gradients(&Concat { axis }, &inputs);
            check_some_gradients(&Concat { axis }, &inputs, &[false, true, false, true]);
        }
        check_gradients(&Concat { axis: 0 }, &[random([3], 1)]);
    }

    #[test]
    fn errors_name_axes_and_sizes() {
        for (inputs, expected) in [
            (&[][..], "concat: expects at least one input, found 0"),
            (&[&[3][..]], "concat: axis 1 is not one of the 1 axes of 3"),
            (
                &[&[2, 3, 4, 4], &[2, 5, 4, 3]],
                "concat: input 1 is 2 x 5 x 4 x 3, the first is 2 x 3 x 4 x 4: only axis 1 may differ",
            ),
            (&[&[2, 3], &[2, 3, 1]], "concat: input 1"),
            (&[&[1, usize::MAX], &[1, 2], &[usize::MAX, 1]], "concat"),
        ] {
            let error = refusal(&Concat::default(), inputs);
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
