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
    use crate::testing::{check_gradients, distinct};
    use crate::{Context, Op, Tensor};

    #[test]
    fn forward_and_backward() {
        let x = Tensor::from_slice([5], &[-1.0f32, 0.0, 2.0, -0.5, 3.0]).unwrap();
        let context = Context::default();
        let (y, saved) = Relu.forward(&context, vec![x]);
        assert_eq!(y.data(), [0.0, 0.0, 2.0, 0.0, 3.0]);
        let gradients = Relu.gradients(&context, saved, Tensor::full([5], 7.0), &[true]);
        assert_eq!(gradients[0].as_ref().unwrap().data(), [0.0, 0.0, 7.0, 0.0, 7.0]);
        check_pointwise(Relu, 1e-12);
    }

    #[test]
    fn gradients() {
        check_gradients(&Relu, &[distinct([2, 3, 4, 5], 1)]);
        check_gradients(&Relu, &[distinct([7], 2)]);
    }
}
