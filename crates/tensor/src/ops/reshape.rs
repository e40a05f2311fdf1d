//! The same elements under another shape.

use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// The elements in the same order under another shape of as many elements. Nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reshape {
    /// The output's shape.
    pub shape: Shape,
}

/// N x C x H x W becomes N x (C H W): all axes but the first are joined. Nothing is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flatten;

fn reshaped<T: Element>(x: Tensor<T>, shape: Shape) -> Tensor<T> {
    x.reshape(shape).expect("both shapes have the same number of elements")
}

impl<T: Element> Op<T> for Reshape {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "reshape"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("reshape", inputs, 1)?;
        let (from, to) = (inputs[0], self.shape);
        if from.elements() == to.elements() {
            Ok(to)
        } else {
            let message = format!("{from} has {} elements, {to} has {}", from.elements(), to.elements());
            Err(ShapeError::new("reshape", message))
        }
    }

    fn forward(&self, _: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let x = only(inputs);
        let input = x.shape();
        (reshaped(x, self.shape), input)
    }

    fn backward(
        &self,
        _: &Context,
        input: Shape,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        vec![wanted[0].then(|| reshaped(grad_output, input))]
    }
}

impl Flatten {
    fn shape(input: Shape) -> Shape {
        Shape::from([input[0], input[1..].iter().product()])
    }
}

impl<T: Element> Op<T> for Flatten {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "flatten"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("flatten", inputs, 1)?;
        if inputs[0].is_empty() {
            return Err(ShapeError::new("flatten", "expects at least one axis, input is a scalar"));
        }
        Ok(Self::shape(inputs[0]))
    }

    fn forward(&self, _: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let x = only(inputs);
        let input = x.shape();
        (reshaped(x, Self::shape(input)), input)
    }

    fn backward(
        &self,
        _: &Context,
        input: Shape,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        vec![wanted[0].then(|| reshaped(grad_output, input))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn nothing_is_copied() {
        let x = random([2, 3, 2, 2], 1);
        let address = x.data().as_ptr();
        let (y, _) = Flatten.forward(&poisoned(), vec![x]);
        assert_eq!((y.shape(), y.data().as_ptr()), (Shape::from([2, 12]), address));
        let (y, _) = Reshape { shape: [4, 6].into() }.forward(&poisoned(), vec![y]);
        assert_eq!((y.shape(), y.data().as_ptr()), (Shape::from([4, 6]), address));
    }

    #[test]
    fn errors_name_sizes() {
        let error = Op::<f32>::output_shape(&Reshape { shape: [4, 2].into() }, &[[2, 3].into()]).unwrap_err();
        assert_eq!(error.to_string(), "reshape: 2 x 3 has 6 elements, 4 x 2 has 8");
        let error = Op::<f32>::output_shape(&Flatten, &[Shape::scalar()]).unwrap_err();
        assert_eq!(error.to_string(), "flatten: expects at least one axis, input is a scalar");
    }

    #[test]
    fn gradients() {
        check_gradients(&Flatten, &[random([2, 3, 2, 2], 1)]);
        check_gradients(&Flatten, &[random([5], 1)]);
        check_gradients(&Reshape { shape: [4, 6].into() }, &[random([2, 3, 2, 2], 1)]);
    }
}
