//! The logistic function.

use super::elementwise::Pointwise;
use crate::Element;

/// `y = 1 / (1 + e^-x)`, element by element, for any shape.
///
/// Its gradient, y (1 - y), is read off the output: the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sigmoid;

impl Pointwise for Sigmoid {
    const NAME: &'static str = "sigmoid";
    const KEEPS_OUTPUT: bool = true;

    fn title(&self) -> String {
        "Sigmoid".to_owned()
    }

    /// Computed from e^-|x|, which does not overflow.
    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        let small = (-x.abs()).exp();
        let one_side = T::ONE / (T::ONE + small);
        if x < T::ZERO { small * one_side } else { one_side }
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, y: T, dy: T) -> T {
        dy * y * (T::ONE - y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;
    use crate::testing::{check_gradients, poisoned, random};
    use crate::{Op, Tensor};

    #[test]
    fn values_and_extremes() {
        let x = Tensor::from_slice([5], &[0.0f32, 3f32.ln(), -(3f32.ln()), -1000.0, 1000.0]).unwrap();
        let (y, _) = Sigmoid.forward(&poisoned(), vec![x]);
        for (y, expected) in y.data().iter().zip([0.5, 0.75, 0.25, 0.0, 1.0]) {
            assert!((y - expected).abs() < 1e-6, "{y} is not {expected}");
        }
        check_pointwise(Sigmoid, 4e-7);
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
