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

    fn title(&self) -> String {
        "Tanh".to_owned()
    }

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
    use crate::testing::{check_gradients, poisoned, random};
    use crate::{Op, Tensor};

    #[test]
    fn values_and_extremes() {
        // tanh(ln 2) = (2 - 1/2) / (2 + 1/2).
        let x = Tensor::from_slice([4], &[0.0f64, 2f64.ln(), -1000.0, 1000.0]).unwrap();
        let (y, _) = Tanh.forward(&poisoned(), vec![x]);
        for (y, expected) in y.data().iter().zip([0.0, 0.6, -1.0, 1.0]) {
            assert!((y - expected).abs() < 1e-12, "{y} is not {expected}");
        }
        check_pointwise(Tanh, 4e-7);
    }

    #[test]
    fn gradients() {
        check_gradients(&Tanh, &[random([2, 3, 2, 2], 1)]);
        check_gradients(&Tanh, &[random([], 1)]);
    }
}
