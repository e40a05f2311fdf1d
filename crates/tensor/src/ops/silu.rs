//! SiLU: the sigmoid linear unit, or swish.

use super::elementwise::{Function, apply, gradient};
use super::special::logistic;
use crate::{Context, Element, Tensor, UnaryOp};

/// `y = x / (1 + e^-x)`, element by element, for any shape (Elfwing, Uchibe and Doya 2018, "Sigmoid-weighted linear units for neural
/// network function approximation in reinforcement learning", equation 3). NaN stays NaN, and so, as in PyTorch, does what -infinity
/// becomes.
///
/// With s the logistic function, its gradient is `s(x) (1 + x s(-x))`. The input is kept for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Silu;

impl<T: Element> Function<T> for Silu {
    #[inline(always)]
    fn value(self, x: T) -> T {
        x * logistic(x)[0]
    }

    #[inline(always)]
    fn derivative(self, x: T) -> T {
        let [below, above] = logistic(x);
        below * (T::ONE + x * above)
    }
}

impl UnaryOp for Silu {
    /// The input.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "silu";

    fn describe(&self) -> String {
        "SiLU".to_owned()
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        apply(context, *self, x)
    }

    fn gradient<T: Element>(&self, _: &Context, x: Tensor<T>, dy: Tensor<T>) -> Tensor<T> {
        gradient(*self, &x, dy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::ops::elementwise::check_every_isa;
    use crate::testing::{check_gradients, poisoned, random};

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
    }

    #[test]
    fn every_instruction_set_agrees() {
        check_every_isa(Silu, 4e-7);
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
