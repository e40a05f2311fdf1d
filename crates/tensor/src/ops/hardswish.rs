//! Hardswish: a swish whose sigmoid is made of three straight lines.

use super::elementwise::Pointwise;
use crate::Element;

/// `y = x min(max(x + 3, 0), 6) / 6`, element by element, for any shape (Howard et al. 2019, "Searching for MobileNetV3", section
/// 5.2). NaN stays NaN.
///
/// Its gradient is 0 up to -3, 1 from 3 on, and `x / 3 + 1 / 2` between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hardswish;

impl Pointwise for Hardswish {
    const NAME: &'static str = "hardswish";
    const KEEPS_OUTPUT: bool = false;

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        let (three, six) = (T::from_f64(3.0), T::from_f64(6.0));
        let gate = x + three;
        let gate = if gate < T::ZERO { T::ZERO } else { gate };
        let gate = if gate > six { six } else { gate };
        x * gate * T::from_f64(1.0 / 6.0)
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, x: T, dy: T) -> T {
        let three = T::from_f64(3.0);
        let inner = x * T::from_f64(1.0 / 3.0) + T::from_f64(0.5);
        let above = if x >= three { T::ONE } else { inner };
        // NaN is on neither side, and stays NaN on the line between them.
        dy * if x <= -three { T::ZERO } else { above }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;

    #[test]
    fn values_and_gradients() {
        let values = [(-4.0, 0.0), (-3.0, 0.0), (-1.5, -0.375), (0.0, 0.0), (1.5, 1.125), (4.0, 4.0)];
        check_pointwise(Hardswish, &values, 6.0, 4e-7);
    }
}
