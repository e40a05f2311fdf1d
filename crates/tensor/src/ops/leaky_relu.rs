//! Leaky ReLU: negative numbers are made smaller, not zero.

use super::elementwise::{Function, apply_in_place, gradient};
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp};

/// `y = x` where `x > 0` and `slope x` elsewhere, element by element, for any shape (Maas, Hannun and Ng 2013, equation 2). NaN
/// stays NaN.
///
/// Its gradient is 1 where `x > 0` and the slope elsewhere, at 0 too, as in PyTorch. With a slope of 0 or more that can be read off
/// the output, so the input is not kept and is overwritten if no one else holds it.
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

/// The function, with the slope in the elements' type.
#[derive(Clone, Copy)]
struct Leaky<T>(T);

impl<T: Element> Function<T> for Leaky<T> {
    #[inline(always)]
    fn value(self, x: T) -> T {
        if x > T::ZERO { x } else { self.0 * x }
    }

    #[inline(always)]
    fn derivative(self, y: T) -> T {
        if y > T::ZERO { T::ONE } else { self.0 }
    }
}

impl UnaryOp for LeakyRelu {
    /// The output.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "leaky_relu";

    fn describe(&self) -> String {
        format!("LeakyReLU({})", self.slope)
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        if !(self.slope.is_finite() && self.slope >= 0.0) {
            let message = format!("slope must be finite and 0 or more, found {}", self.slope);
            return Err(ShapeError::new(Self::NAME, message));
        }
        Ok(input)
    }

    fn compute<T: Element>(&self, _: &Context, x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        apply_in_place(Leaky(T::from_f64(self.slope)), x)
    }

    fn gradient<T: Element>(&self, _: &Context, y: Tensor<T>, dy: Tensor<T>) -> Tensor<T> {
        gradient(Leaky(T::from_f64(self.slope)), &y, dy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Op;
    use crate::ops::elementwise::check_every_isa;
    use crate::testing::{check_gradients, distinct, poisoned};

    #[test]
    fn values_in_place() {
        let x = Tensor::from_slice([4], &[-2.0f32, 0.0, 3.0, f32::NAN]).unwrap();
        let (y, _) = LeakyRelu { slope: 0.5 }.forward(&poisoned(), vec![x.clone()]);
        assert_eq!(y.data()[..3], [-1.0, 0.0, 3.0]);
        assert!(y.data()[3].is_nan());
        assert_eq!(x.data()[0], -2.0, "a shared input is not changed");
        let address = x.data().as_ptr();
        let (y, _) = LeakyRelu::default().forward(&poisoned(), vec![x]);
        assert_eq!(y.data().as_ptr(), address, "in place where no one else holds the input");
    }

    #[test]
    fn gradients() {
        for slope in [0.0, 0.01, 0.3, 2.0] {
            check_gradients(&LeakyRelu { slope }, &[distinct([2, 3, 4, 5], 1)]);
        }
        check_gradients(&LeakyRelu::default(), &[distinct([], 2)]);
    }

    #[derive(Clone, Copy)]
    struct Quarter;

    impl<T: Element> Function<T> for Quarter {
        #[inline(always)]
        fn value(self, x: T) -> T {
            Leaky(T::from_f64(0.25)).value(x)
        }

        #[inline(always)]
        fn derivative(self, y: T) -> T {
            Leaky(T::from_f64(0.25)).derivative(y)
        }
    }

    #[test]
    fn every_instruction_set_agrees() {
        check_every_isa(Quarter, 1e-12);
    }

    #[test]
    fn errors_name_numbers() {
        let error = |slope| Op::<f32>::output_shape(&LeakyRelu { slope }, &[[3].into()]).unwrap_err();
        assert_eq!(error(-0.1).to_string(), "leaky_relu: slope must be finite and 0 or more, found -0.1");
        assert!(error(f64::NAN).to_string().ends_with("found NaN"));
    }
}
