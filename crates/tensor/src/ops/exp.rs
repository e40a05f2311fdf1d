//! The exponential function.

use super::elementwise::Pointwise;
use crate::Element;

/// `y = e^x`, element by element, for any shape. Above 88.7 it is infinity in `f32`.
///
/// Its gradient is the output: the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exp;

impl Pointwise for Exp {
    const NAME: &'static str = "exp";
    const KEEPS_OUTPUT: bool = true;

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        x.exp()
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, y: T, dy: T) -> T {
        dy * y
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;

    #[test]
    fn values_and_gradients() {
        let values = [(0.0, 1.0), (2f64.ln(), 2.0), (-1000.0, 0.0), (1000.0, f64::INFINITY)];
        check_pointwise(Exp, &values, 6.0, 4e-7);
        assert_eq!([88.7f32, 88.8].map(|x| Exp.value(x).is_finite()), [true, false]);
    }
}
