//! The same elements under another shape.

use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp, ensure};

/// The elements in the same order under another shape of as many elements. Nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reshape {
    /// The output's shape.
    pub shape: Shape,
}

/// N x C x H x W becomes N x (C H W): all axes but the first are joined. Nothing is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flatten;

/// The tensor under another shape, and the shape that it had.
fn reshaped<T: Element>(x: Tensor<T>, shape: Shape) -> (Tensor<T>, Shape) {
    let before = x.shape();
    (x.reshape(shape).expect("the shapes were checked"), before)
}

impl UnaryOp for Reshape {
    /// The input's shape.
    type Saved<T: Element> = Shape;

    const NAME: &'static str = "reshape";

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.reshaped(self.shape)
    }

    fn compute<T: Element>(&self, _: &Context, x: Tensor<T>) -> (Tensor<T>, Shape) {
        reshaped(x, self.shape)
    }

    fn gradient<T: Element>(&self, _: &Context, input: Shape, dy: Tensor<T>) -> Tensor<T> {
        reshaped(dy, input).0
    }
}

impl UnaryOp for Flatten {
    /// The input's shape.
    type Saved<T: Element> = Shape;

    const NAME: &'static str = "flatten";

    fn describe(&self) -> String {
        "Flatten".to_owned()
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        ensure!(Self::NAME, !input.is_empty(), "expects at least one axis, input is a scalar");
        Ok(Shape::from([input[0], input[1..].iter().product()]))
    }

    fn compute<T: Element>(&self, _: &Context, x: Tensor<T>) -> (Tensor<T>, Shape) {
        let shape = self.shape(x.shape()).expect("the shapes were checked");
        reshaped(x, shape)
    }

    fn gradient<T: Element>(&self, _: &Context, input: Shape, dy: Tensor<T>) -> Tensor<T> {
        reshaped(dy, input).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::testing::{check_gradients, poisoned, random, refusal};

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
        let error = refusal(&Reshape { shape: [4, 2].into() }, &[&[2, 3]]);
        assert_eq!(error, "reshape: 2 x 3 has 6 elements, 4 x 2 has 8");
        assert_eq!(refusal(&Flatten, &[&[]]), "flatten: expects at least one axis, input is a scalar");
    }

    #[test]
    fn gradients() {
        check_gradients(&Flatten, &[random([2, 3, 2, 2], 1)]);
        check_gradients(&Flatten, &[random([5], 1)]);
        check_gradients(&Reshape { shape: [4, 6].into() }, &[random([2, 3, 2, 2], 1)]);
    }
}
