//! The absolute value.

use super::elementwise::Pointwise;
use crate::Element;

/// `y = |x|`, element by element, for any shape. NaN stays NaN.
///
/// Its gradient is the sign of x, 0 at 0, as in PyTorch. The input is kept for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abs;

impl Pointwise for Abs {
    const NAME: &'static str = "abs";
    const KEEPS_OUTPUT: bool = false;

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        x.abs()
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, x: T, dy: T) -> T {
        let above = if x > T::ZERO { dy } else { T::ZERO };
        if x < T::ZERO { -dy } else { above }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;

    #[test]
    fn values_and_gradients() {
        check_pointwise(Abs, &[(-1.5, 1.5), (0.0, 0.0), (f64::NEG_INFINITY, f64::INFINITY)], 6.0, 1e-12);
        assert_eq!([-2.0, 0.0, -0.0, 2.0].map(|x| Abs.pull_back(x, 3.0)), [-3.0, 0.0, 0.0, 3.0]);
    }
}
