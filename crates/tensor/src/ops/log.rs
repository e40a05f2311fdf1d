//! The natural logarithm.

use super::elementwise::Pointwise;
use crate::Element;

/// `y = ln x`, element by element, for any shape: PyTorch's `log`. -infinity at 0, NaN below.
///
/// Its gradient is `1 / x`. The input is kept for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Log;

impl Pointwise for Log {
    const NAME: &'static str = "log";
    const KEEPS_OUTPUT: bool = false;

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        x.ln()
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, x: T, dy: T) -> T {
        dy / x
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;

    /// ln (x + 13), which is a number for all that is checked.
    #[derive(Debug, Clone, Copy)]
    struct Shifted;

    impl Pointwise for Shifted {
        const NAME: &'static str = "shifted log";
        const KEEPS_OUTPUT: bool = false;

        #[inline(always)]
        fn value<T: Element>(self, x: T) -> T {
            Log.value(x + T::from_f64(13.0))
        }

        #[inline(always)]
        fn pull_back<T: Element>(self, x: T, dy: T) -> T {
            Log.pull_back(x + T::from_f64(13.0), dy)
        }
    }

    #[test]
    fn values_and_gradients() {
        let values = [(-12.0, 0.0), (-13.0, f64::NEG_INFINITY), (-11.0, 2f64.ln()), (1e300, 1e300f64.ln())];
        check_pointwise(Shifted, &values, 6.0, 4e-7);
        assert!(Log.value(-1.0f64).is_nan());
    }
}
