//! Leaky ReLU: negative numbers are made smaller, not zero.

use super::checks::not_negative;
use super::elementwise::Pointwise;
use crate::{Element, ShapeError};

/// `y = x` where `x > 0` and `slope x` elsewhere, element by element, for any shape (Maas, Hannun and Ng 2013, equation 2). NaN
/// stays NaN.
///
/// Its gradient is 1 where `x > 0` and the slope elsewhere, at 0 too, as in PyTorch. With a slope of 0 or more that can be read
/// off the output, so the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeakyRelu {
    /// The factor of negative numbers: finite, 0 or more. PyTorch's `negative_slope`.
    pub slope: f64,
}

impl Default for LeakyRelu {
    /// A slope of 0.01.
    fn default() -> Self {
        Self { slope: 0.01 }
    }
}

impl Pointwise for LeakyRelu {
    const NAME: &'static str = "leaky_relu";
    const KEEPS_OUTPUT: bool = true;

    fn title(&self) -> String {
        format!("LeakyReLU({})", self.slope)
    }

    fn check(&self) -> Result<(), ShapeError> {
        not_negative(Self::NAME, "slope", self.slope)
    }

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        if x > T::ZERO { x } else { T::from_f64(self.slope) * x }
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, y: T, dy: T) -> T {
        dy * if y > T::ZERO { T::ONE } else { T::from_f64(self.slope) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;
    use crate::testing::{check_gradients, distinct, refusal};

    #[test]
    fn values_and_gradients() {
        check_pointwise(LeakyRelu { slope: 0.25 }, &[(-2.0, -0.5), (0.0, 0.0), (3.0, 3.0)], 6.0, 1e-12);
        for slope in [0.0, 0.01, 2.0] {
            check_gradients(&LeakyRelu { slope }, &[distinct([2, 3, 4, 5], 1)]);
        }
    }

    #[test]
    fn errors_name_numbers() {
        for slope in [-0.1, f64::NAN] {
            let expected = format!("leaky_relu: slope must be finite and 0 or more, found {slope}");
            assert_eq!(refusal(&LeakyRelu { slope }, &[&[3]]), expected);
        }
    }
}
