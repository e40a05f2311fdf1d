//! The hyperbolic tangent.

use super::map::{map, zip_map};
use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// `y = tanh x`, element by element, for any shape.
///
/// Its gradient, 1 - y^2, is read off the output: the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tanh;

impl<T: Element> Op<T> for Tanh {
    /// The output.
    type Saved = Tensor<T>;

    fn name(&self) -> &'static str {
        "tanh"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("tanh", inputs, 1)?;
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Tensor<T>) {
        let y = map(context.pool(), only(inputs), T::tanh);
        (y.clone(), y)
    }

    fn backward(
        &self,
        context: &Context,
        y: Tensor<T>,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        vec![wanted[0].then(|| zip_map(context.pool(), grad_output, &y, |dy, y| dy * (T::ONE - y * y)))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn values_and_extremes() {
        // tanh(ln 2) = (2 - 1/2) / (2 + 1/2).
        let x = Tensor::from_slice([4], &[0.0f64, 2f64.ln(), -1000.0, 1000.0]).unwrap();
        let address = x.data().as_ptr();
        let (y, _) = Tanh.forward(&poisoned(), vec![x]);
        assert_eq!(y.data().as_ptr(), address, "in place where no one else holds the input");
        for (y, expected) in y.data().iter().zip([0.0, 0.6, -1.0, 1.0]) {
            assert!((y - expected).abs() < 1e-12, "{y} is not {expected}");
        }
    }

    #[test]
    fn gradients() {
        check_gradients(&Tanh, &[random([2, 3, 2, 2], 1)]);
        check_gradients(&Tanh, &[random([], 1)]);
    }

    #[test]
    fn errors_name_numbers() {
        let error = Op::<f32>::output_shape(&Tanh, &[]).unwrap_err();
        assert_eq!(error.to_string(), "tanh: expects 1 inputs, found 0");
    }
}
