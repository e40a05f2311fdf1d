//! The hyperbolic tangent.

use crate::{Context, Element, Tensor, UnaryOp};

/// `y = tanh x`, element by element, for any shape.
///
/// Its gradient, 1 - y^2, is read off the output: the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tanh;

impl UnaryOp for Tanh {
    /// The output.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "tanh";

    fn describe(&self) -> String {
        "Tanh".to_owned()
    }

    fn compute<T: Element>(&self, _: &Context, mut x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        x.data_mut().iter_mut().for_each(|x| *x = x.tanh());
        (x.clone(), x)
    }

    fn gradient<T: Element>(&self, _: &Context, y: Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
        for (dy, &y) in dy.data_mut().iter_mut().zip(y.data()) {
            *dy *= T::ONE - y * y;
        }
        dy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
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
