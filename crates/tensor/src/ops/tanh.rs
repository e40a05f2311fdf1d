//! The hyperbolic tangent.

use super::elementwise::Pointwise;
use crate::Element;

/// `y = tanh x`, element by element, for any shape.
///
/// Its gradient, 1 - y^2, is read off the output: the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tanh;

impl Pointwise for Tanh {
    const NAME: &'static str = "tanh";
    const KEEPS_OUTPUT: bool = true;

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        x.tanh()
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, y: T, dy: T) -> T {
        dy * (T::ONE - y * y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;

    #[test]
    fn values_and_gradients() {
        // tanh(ln 2) = (2 - 1/2) / (2 + 1/2).
        check_pointwise(Tanh, &[(0.0, 0.0), (2f64.ln(), 0.6), (-1000.0, -1.0), (1000.0, 1.0)], 6.0, 4e-7);
    }
}
