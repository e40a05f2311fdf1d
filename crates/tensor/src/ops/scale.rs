//! A tensor times a constant.

use super::map::map;
use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// `y = factor x`, element by element, for any shape. Works in place where no one else holds the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The constant.
    pub factor: f64,
}

impl Scale {
    fn scaled<T: Element>(&self, context: &Context, x: Tensor<T>) -> Tensor<T> {
        let factor = T::from_f64(self.factor);
        map(context.pool(), x, |x| x * factor)
    }
}

impl<T: Element> Op<T> for Scale {
    type Saved = ();

    fn name(&self) -> &'static str {
        "scale"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("scale", inputs, 1)?;
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, ()) {
        (self.scaled(context, only(inputs)), ())
    }

    fn backward(
        &self,
        context: &Context,
        (): (),
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        vec![wanted[0].then(|| self.scaled(context, grad_output))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn values_and_gradients() {
        let x = Tensor::from_slice([2], &[1.0f32, -3.0]).unwrap();
        assert_eq!(Scale { factor: -2.0 }.forward(&poisoned(), vec![x]).0.data(), [-2.0, 6.0]);
        check_gradients(&Scale { factor: -2.5 }, &[random([2, 3], 1)]);
        let error = Op::<f32>::output_shape(&Scale { factor: 1.0 }, &[]).unwrap_err();
        assert_eq!(error.to_string(), "scale: expects 1 inputs, found 0");
    }
}
