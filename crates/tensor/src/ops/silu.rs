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

    #[test]
    fn values_and_gradients() {
        let x = 3f64.ln();
        let values = [(0.0, 0.0), (x, 0.75 * x), (-x, -0.25 * x), (-800.0, 0.0), (800.0, 800.0)];
        check_pointwise(Silu, &values, 6.0, 4e-7);
    }
}
