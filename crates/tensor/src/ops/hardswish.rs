//! Hardswish: a swish whose sigmoid is made of three straight lines.

use super::elementwise::{Function, apply, gradient};
use crate::{Context, Element, Tensor, UnaryOp};

/// `y = x min(max(x + 3, 0), 6) / 6`, element by element, for any shape (Howard et al. 2019, "Searching for MobileNetV3", section
/// 5.2). NaN stays NaN.
///
/// Its gradient is 0 up to -3, 1 from 3 on, and `x / 3 + 1 / 2` between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hardswish;

impl<T: Element> Function<T> for Hardswish {
    #[inline(always)]
    fn value(self, x: T) -> T {
        let (three, six) = (T::from_f64(3.0), T::from_f64(6.0));
        let gate = x + three;
        let gate = if gate < T::ZERO { T::ZERO } else { gate };
        let gate = if gate > six { six } else { gate };
        x * gate * T::from_f64(1.0 / 6.0)
    }

    #[inline(always)]
    fn derivative(self, x: T) -> T {
        let three = T::from_f64(3.0);
        let inner = x * T::from_f64(1.0 / 3.0) + T::from_f64(0.5);
        let above = if x >= three { T::ONE } else { inner };
        // NaN is on neither side, and stays NaN on the line between them.
        if x <= -three { T::ZERO } else { above }
    }
}

impl UnaryOp for Hardswish {
    /// The input.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "hardswish";

    fn describe(&self) -> String {
        "Hardswish".to_owned()
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        apply(context, *self, x)
    }

    fn gradient<T: Element>(&self, _: &Context, x: Tensor<T>, dy: Tensor<T>) -> Tensor<T> {
        gradient(*self, &x, dy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BufferPool;
    use crate::op::Op;
    use crate::ops::elementwise::check_every_isa;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn values() {
        let x = Tensor::from_slice([6], &[-4.0f64, -3.0, -1.5, 0.0, 1.5, 4.0]).unwrap();
        let (y, _) = Hardswish.forward(&poisoned(), vec![x]);
        for (y, expected) in y.data().iter().zip([0.0, 0.0, -0.375, 0.0, 1.125, 4.0]) {
            assert!((y - expected).abs() < 1e-15, "{y} is not {expected}");
        }
        let x = Tensor::from_slice([1], &[f32::NAN]).unwrap();
        assert!(Hardswish.forward(&poisoned(), vec![x]).0.item().is_nan());
    }

    #[test]
    fn evaluation_works_in_place() {
        let x = Tensor::full([9], 1.5f32);
        let address = x.data().as_ptr();
        let (y, saved) = Hardswish.forward(&Context::evaluation(BufferPool::poisoning()), vec![x]);
        assert_eq!((y.data().as_ptr(), y.data()), (address, &[1.125; 9][..]));
        drop(saved);
    }

    #[test]
    fn every_instruction_set_agrees() {
        check_every_isa(Hardswish, 4e-7);
    }

    #[test]
    fn gradients() {
        let scaled = |factor: f64, shape: &[usize]| {
            let mut x = random(shape, 1);
            x.data_mut().iter_mut().for_each(|x| *x *= factor);
            x
        };
        check_gradients(&Hardswish, &[scaled(2.9, &[2, 3, 2, 2])]);
        check_gradients(&Hardswish, &[scaled(6.0, &[41])]);
        check_gradients(&Hardswish, &[scaled(1.0, &[])]);
    }

    #[test]
    fn errors_name_numbers() {
        let error = Op::<f32>::output_shape(&Hardswish, &[]).unwrap_err();
        assert_eq!(error.to_string(), "hardswish: expects 1 inputs, found 0");
    }
}
