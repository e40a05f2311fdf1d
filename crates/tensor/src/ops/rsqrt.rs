//! The reciprocal square root.

use super::checks::not_negative;
use super::elementwise::Pointwise;
use crate::{Element, ShapeError};

/// `y = 1 / sqrt(x + eps)`, element by element, for any shape: the factor of a normalization by a variance x. With an eps of 0 it
/// is PyTorch's `rsqrt`; below -eps it is NaN.
///
/// Its gradient is `-y^3 / 2`, so the input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rsqrt {
    /// Added to x: 0 or more.
    pub eps: f64,
}

impl Pointwise for Rsqrt {
    const NAME: &'static str = "rsqrt";
    const KEEPS_OUTPUT: bool = true;

    fn title(&self) -> String {
        format!("Rsqrt({})", self.eps)
    }

    fn check(&self) -> Result<(), ShapeError> {
        not_negative(Self::NAME, "eps", self.eps)
    }

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        T::ONE / (x + T::from_f64(self.eps)).sqrt()
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, y: T, dy: T) -> T {
        dy * (-T::from_f64(0.5) * y * y * y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;
    use crate::testing::refusal;

    #[test]
    fn values_and_gradients() {
        check_pointwise(Rsqrt { eps: 13.0 }, &[(-9.0, 0.5), (-13.0, f64::INFINITY), (3.0, 0.25)], 6.0, 4e-7);
        assert!(Rsqrt::default().value(-9.0f64).is_nan());
        let error = "rsqrt: eps must be finite and 0 or more, found -1";
        assert_eq!(refusal(&Rsqrt { eps: -1.0 }, &[&[3]]), error);
    }
}
