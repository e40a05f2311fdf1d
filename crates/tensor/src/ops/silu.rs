//! SiLU: the sigmoid linear unit, or swish.

use super::elementwise::Pointwise;
use super::special::logistic;
use crate::Element;

/// `y = x / (1 + e^-x)`, element by element, for any shape (Elfwing, Uchibe and Doya 2018, "Sigmoid-weighted linear units for
/// neural network function approximation in reinforcement learning", equation 3). NaN stays NaN, and so, as in PyTorch, does what
/// -infinity becomes.
///
/// With s the logistic function, its gradient is `s(x) (1 + x s(-x))`. The input is kept for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silu;

impl Pointwise for Silu {
    const NAME: &'static str = "silu";
    const KEEPS_OUTPUT: bool = false;

    fn title(&self) -> String {
        "SiLU".to_owned()
    }

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        x * logistic(x)[0]
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, x: T, dy: T) -> T {
        let [below, above] = logistic(x);
        dy * below * (T::ONE + x * above)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;
    use crate::testing::{check_gradients, poisoned, random};
    use crate::{Op, Tensor};

    #[test]
    fn values() {
        let x = Tensor::from_slice([6], &[0.0f64, 3f64.ln(), -(3f64.ln()), -800.0, 800.0, -1.0]).unwrap();
        let (y, _) = Silu.forward(&poisoned(), vec![x]);
        let expected = [0.0, 0.75 * 3f64.ln(), -0.25 * 3f64.ln(), 0.0, 800.0, -0.268_941_421_369_995_1];
        for (y, expected) in y.data().iter().zip(expected) {
            assert!((y - expected).abs() < 1e-15, "{y} is not {expected}");
        }
        for nothing in [f32::NAN, f32::NEG_INFINITY] {
            let x = Tensor::from_slice([1], &[nothing]).unwrap();
            assert!(Silu.forward(&poisoned(), vec![x]).0.item().is_nan());
        }
        check_pointwise(Silu, 4e-7);
    }

    #[test]
    fn gradients() {
        let mut x = random([2, 3, 2, 5], 1);
        check_gradients(&Silu, std::slice::from_ref(&x));
        x.data_mut().iter_mut().for_each(|x| *x *= 6.0);
        check_gradients(&Silu, &[x]);
        check_gradients(&Silu, &[random([], 2)]);
    }

    #[test]
    fn errors_name_numbers() {
        let error = Op::<f32>::output_shape(&Silu, &[]).unwrap_err();
        assert_eq!(error.to_string(), "silu: expects 1 inputs, found 0");
    }
}
