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
    use crate::testing::refusal;

    #[test]
    fn values_and_gradients() {
        let values = [(0.0, 0.5), (3f64.ln(), 0.75), (-(3f64.ln()), 0.25), (-1000.0, 0.0), (1000.0, 1.0)];
        check_pointwise(Sigmoid, &values, 6.0, 4e-7);
        assert_eq!(refusal(&Sigmoid, &[]), "sigmoid: expects 1 inputs, found 0");
    }
}
