//! Reshape and flatten: the same elements under another shape, without a copy.

use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// The same elements under `shape`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reshape {
    /// The shape of the output; as many elements as the input's.
    pub shape: Shape,
}

/// N x C x H x W (or any shape with a first axis N) to N x (all else).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flatten;

fn reshaped<T: Element>(tensor: Tensor<T>, shape: Shape) -> Tensor<T> {
    tensor.reshape(shape).expect("the shapes were checked")
}

impl<T: Element> Op<T> for Reshape {
    /// The shape of the input.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "reshape"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("reshape", inputs, 1)?;
        let (from, to) = (inputs[0].elements(), self.shape.elements());
        if from != to {
            let message = format!("{} has {from} elements, {} has {to}", inputs[0], self.shape);
            return Err(ShapeError::new("reshape", message));
        }
        Ok(self.shape)
    }

    fn forward(&self, _: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let x = only(inputs);
        let shape = x.shape();
        (reshaped(x, self.shape), shape)
    }

    fn backward(
        &self,
        _: &Context,
        shape: Shape,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        vec![wanted[0].then(|| reshaped(grad_output, shape))]
    }
}

impl<T: Element> Op<T> for Flatten {
    /// The shape of the input.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "flatten"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("flatten", inputs, 1)?;
        match inputs[0].split_first() {
            Some((&n, rest)) => Ok(Shape::from([n, rest.iter().product()])),
            None => Err(ShapeError::new("flatten", "expects an axis N, found a scalar")),
        }
    }

    fn forward(&self, _: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let shape = Op::<T>::output_shape(self, &[inputs[0].shape()]).expect("the shapes were checked");
        let x = only(inputs);
        let before = x.shape();
        (reshaped(x, shape), before)
    }

    fn backward(
        &self,
        _: &Context,
        shape: Shape,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        vec![wanted[0].then(|| reshaped(grad_output, shape))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_change_and_elements_do_not() {
        let x = Tensor::<f32>::from_fn([2, 3, 1, 2], |i| i as f32);
        let address = x.data().as_ptr();
        let (y, saved) = Flatten.forward(&Context::default(), vec![x]);
        assert_eq!((y.shape(), y.data().as_ptr()), (Shape::from([2, 6]), address));
        let dx = Op::<f32>::backward(&Flatten, &Context::default(), saved, y, &[true]);
        assert_eq!(dx[0].as_ref().unwrap().shape(), Shape::from([2, 3, 1, 2]));
        let error = Op::<f32>::output_shape(&Reshape { shape: [5].into() }, &[[2, 3].into()]).unwrap_err();
        assert_eq!(error.to_string(), "reshape: 2 x 3 has 6 elements, 5 has 5");
    }
}
