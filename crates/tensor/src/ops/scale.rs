//! A tensor times a constant.

use crate::simd::{Isa, compiled};
use crate::{Context, Element, Tensor, UnaryOp};

/// `y = factor x`, element by element, for any shape. Works in place where no one else holds the input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// The constant.
    pub factor: f64,
}

impl UnaryOp for Scale {
    type Saved<T: Element> = ();

    const NAME: &'static str = "scale";

    fn compute<T: Element>(&self, _: &Context, mut x: Tensor<T>) -> (Tensor<T>, ()) {
        let (factor, elements) = (T::from_f64(self.factor), x.data_mut());
        compiled!(Isa::current(), {
            for x in elements.iter_mut() {
                *x *= factor;
            }
        });
        (x, ())
    }

    fn gradient<T: Element>(&self, context: &Context, (): (), dy: Tensor<T>) -> Tensor<T> {
        self.compute(context, dy).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn values_and_gradients() {
        let x = Tensor::from_slice([2], &[1.0f32, -3.0]).unwrap();
        assert_eq!(Scale { factor: -2.0 }.compute(&poisoned(), x).0.data(), [-2.0, 6.0]);
        check_gradients(&Scale { factor: -2.5 }, &[random([2, 3], 1)]);
    }
}
