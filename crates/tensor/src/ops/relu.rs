//! ReLU: `y = max(x, 0)`.

use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// `y = max(x, 0)`, element by element, for any shape. NaN stays NaN.
///
/// Its gradient is 1 where `x > 0` and 0 elsewhere, at 0 too, as in PyTorch. That can be read off the output, so the
/// input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Relu;

impl<T: Element> Op<T> for Relu {
    /// The output.
    type Saved = Tensor<T>;

    fn name(&self) -> &'static str {
        "relu"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("relu", inputs, 1)?;
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Tensor<T>) {
        let mut x = only(inputs);
        let output = if x.is_unique() {
            for value in x.data_mut() {
                *value = rectified(*value);
            }
            x
        } else {
            let mut output = Tensor::uninit_in(context.pool(), x.shape());
            for (y, &x) in output.data_mut().iter_mut().zip(x.data()) {
                *y = rectified(x);
            }
            output
        };
        (output.clone(), output)
    }

    fn backward(
        &self,
        _: &Context,
        output: Tensor<T>,
        mut grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        if !wanted[0] {
            return vec![None];
        }
        for (gradient, &y) in grad_output.data_mut().iter_mut().zip(output.data()) {
            *gradient = if y > T::ZERO { *gradient } else { T::ZERO };
        }
        vec![Some(grad_output)]
    }
}

/// `max(x, 0)` that keeps NaN, so that a diverged network shows it.
#[inline]
fn rectified<T: Element>(x: T) -> T {
    if x < T::ZERO { T::ZERO } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, distinct};

    #[test]
    fn forward_and_backward() {
        let x = Tensor::from_slice([5], &[-1.0f32, 0.0, 2.0, -0.5, 3.0]).unwrap();
        let context = Context::default();
        let (y, saved) = Relu.forward(&context, vec![x.clone()]);
        assert_eq!(y.data(), [0.0, 0.0, 2.0, 0.0, 3.0]);
        assert_eq!(x.data()[0], -1.0, "a shared input is not changed");
        let gradients = Relu.backward(&context, saved, Tensor::full([5], 7.0), &[true]);
        assert_eq!(gradients[0].as_ref().unwrap().data(), [0.0, 0.0, 7.0, 0.0, 7.0]);
    }

    #[test]
    fn works_in_place_and_keeps_nan() {
        let x = Tensor::from_slice([2], &[f32::NAN, -1.0]).unwrap();
        let address = x.data().as_ptr();
        let (y, _) = Relu.forward(&Context::default(), vec![x]);
        assert_eq!(y.data().as_ptr(), address);
        assert!(y.data()[0].is_nan());
    }

    #[test]
    fn gradients() {
        check_gradients(&Relu, &[distinct([2, 3, 4, 5], 1)]);
        check_gradients(&Relu, &[distinct([7], 2)]);
    }
}
