//! The logistic function.

use crate::{Context, Element, Tensor, UnaryOp};

/// `y = 1 / (1 + e^-x)`, element by element, for any shape.
///
/// Its gradient, y (1 - y), is read off the output: the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sigmoid;

impl UnaryOp for Sigmoid {
    /// The output.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "sigmoid";

    fn describe(&self) -> String {
        "Sigmoid".to_owned()
    }

    fn compute<T: Element>(&self, _: &Context, mut x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        x.data_mut().iter_mut().for_each(|x| *x = sigmoid(*x));
        (x.clone(), x)
    }

    fn gradient<T: Element>(&self, _: &Context, y: Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
        for (dy, &y) in dy.data_mut().iter_mut().zip(y.data()) {
            *dy = *dy * y * (T::ONE - y);
        }
        dy
    }
}

/// Computed from e^-|x|, which does not overflow.
pub(super) fn sigmoid<T: Element>(x: T) -> T {
    let small = (-x.abs()).exp();
    let one_side = T::ONE / (T::ONE + small);
    if x < T::ZERO { small * one_side } else { one_side }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
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
