//! ReLU: `y = max(x, 0)`.

use crate::{Context, Element, Tensor, UnaryOp};

/// `y = max(x, 0)`, element by element, for any shape. NaN stays NaN, so that a diverged network shows it.
///
/// Its gradient is 1 where `x > 0` and 0 elsewhere, at 0 too, as in PyTorch. That can be read off the output, so the
/// input is not kept and is overwritten if no one else holds it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Relu;

impl UnaryOp for Relu {
    /// The output.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "relu";

    fn describe(&self) -> String {
        "ReLU".to_owned()
    }

    fn compute<T: Element>(&self, _: &Context, mut x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        x.data_mut().iter_mut().for_each(|x| *x = if *x < T::ZERO { T::ZERO } else { *x });
        (x.clone(), x)
    }

    fn gradient<T: Element>(&self, _: &Context, y: Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
        for (dy, &y) in dy.data_mut().iter_mut().zip(y.data()) {
            *dy = if y > T::ZERO { *dy } else { T::ZERO };
        }
        dy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::testing::{check_gradients, distinct};

    #[test]
    fn forward_and_backward() {
        let x = Tensor::from_slice([5], &[-1.0f32, 0.0, 2.0, -0.5, 3.0]).unwrap();
        let context = Context::default();
        let (y, saved) = Relu.forward(&context, vec![x.clone()]);
        assert_eq!(y.data(), [0.0, 0.0, 2.0, 0.0, 3.0]);
        assert_eq!(x.data()[0], -1.0, "a shared input is not changed");
        let gradients = Relu.gradients(&context, saved, Tensor::full([5], 7.0), &[true]);
        assert_eq!(gradients[0].as_ref().unwrap().data(), [0.0, 0.0, 7.0, 0.0, 7.0]);
    }

    #[test]
    fn works_in_place_and_keeps_nan() {
        let x = Tensor::from_slice([2], &[f32::NAN, -1.0]).unwrap();
        let address = x.data().as_ptr();
        let (y, _) = Relu.forward(&Context::default(), vec![x]);
        assert_eq!(y.data().as_ptr(), address);
        assert!(y.data()[0].is_nan());
    }

    #[test]
    fn gradients() {
        check_gradients(&Relu, &[distinct([2, 3, 4, 5], 1)]);
        check_gradients(&Relu, &[distinct([7], 2)]);
    }
}
