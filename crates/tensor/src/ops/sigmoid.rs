//! The logistic function.

use super::map::{map, zip_map};
use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// `y = 1 / (1 + e^-x)`, element by element, for any shape.
///
/// Its gradient, y (1 - y), is read off the output: the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sigmoid;

impl<T: Element> Op<T> for Sigmoid {
    /// The output.
    type Saved = Tensor<T>;

    fn name(&self) -> &'static str {
        "sigmoid"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("sigmoid", inputs, 1)?;
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Tensor<T>) {
        let y = map(context.pool(), only(inputs), sigmoid);
        (y.clone(), y)
    }

    fn backward(
        &self,
        context: &Context,
        y: Tensor<T>,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        vec![wanted[0].then(|| zip_map(context.pool(), grad_output, &y, |dy, y| dy * y * (T::ONE - y)))]
    }
}

/// Computed from e^-|x|, which does not overflow.
fn sigmoid<T: Element>(x: T) -> T {
    let small = (-x.abs()).exp();
    let one_side = T::ONE / (T::ONE + small);
    if x < T::ZERO { small * one_side } else { one_side }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn values_and_extremes() {
        let x = Tensor::from_slice([5], &[0.0f32, 3f32.ln(), -(3f32.ln()), -1000.0, 1000.0]).unwrap();
        let (y, _) = Sigmoid.forward(&poisoned(), vec![x.clone()]);
        for (y, expected) in y.data().iter().zip([0.5, 0.75, 0.25, 0.0, 1.0]) {
            assert!((y - expected).abs() < 1e-6, "{y} is not {expected}");
        }
        assert_eq!(x.data()[0], 0.0, "a shared input is not changed");
        let nan = Tensor::from_slice([1], &[f32::NAN]).unwrap();
        assert!(Sigmoid.forward(&poisoned(), vec![nan]).0.item().is_nan());
    }

    #[test]
    fn gradients() {
        check_gradients(&Sigmoid, &[random([2, 3, 2, 2], 1)]);
        check_gradients(&Sigmoid, &[random([], 1)]);
    }

    #[test]
    fn errors_name_numbers() {
        let error = Op::<f32>::output_shape(&Sigmoid, &[]).unwrap_err();
        assert_eq!(error.to_string(), "sigmoid: expects 1 inputs, found 0");
    }
}
