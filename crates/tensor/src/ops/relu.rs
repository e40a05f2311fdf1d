//! ReLU: `y = max(x, 0)`.

use super::elementwise::Pointwise;
use crate::Element;

/// `y = max(x, 0)`, element by element, for any shape. NaN stays NaN, so that a diverged network shows it.
///
/// Its gradient is 1 where `x > 0` and 0 elsewhere, at 0 too, as in PyTorch. That can be read off the output, so the
/// input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Relu;

impl Pointwise for Relu {
    const NAME: &'static str = "relu";
    const KEEPS_OUTPUT: bool = true;

    fn title(&self) -> String {
        "ReLU".to_owned()
    }

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        if x < T::ZERO { T::ZERO } else { x }
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, y: T, dy: T) -> T {
        if y > T::ZERO { dy } else { T::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;

    #[test]
    fn values_and_gradients() {
        check_pointwise(Relu, &[(-1.0, 0.0), (0.0, 0.0), (2.0, 2.0)], 6.0, 1e-12);
    }
}
