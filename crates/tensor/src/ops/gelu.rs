//! GELU: the Gaussian error linear unit.

use super::elementwise::Pointwise;
use super::special::logistic;
use crate::Element;

/// `y = x P(X <= x)` for a standard normal X, element by element, for any shape (Hendrycks and Gimpel 2016, section 2). NaN stays
/// NaN, and so, as in PyTorch, does what -infinity becomes.
///
/// The gradient is `P(X <= x) + x p(x)` with the density p. The input is kept for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Gelu {
    /// `y = x (1 + erf(x / sqrt 2)) / 2`: PyTorch's `approximate="none"`. Negative numbers are computed by erfc, so that nothing
    /// cancels: small results have as many digits as large ones.
    #[default]
    Erf,
    /// `y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`: PyTorch's `approximate="tanh"`.
    Tanh,
}

/// `P(X <= x)` and `p(x)`.
#[inline(always)]
fn gaussian<T: Element>(x: T) -> [T; 2] {
    let density = (-x * x * T::from_f64(0.5)).exp_nonpositive();
    let distance = x.abs() * T::from_f64(std::f64::consts::FRAC_1_SQRT_2);
    let tail = T::from_f64(0.5) * density * distance.erfcx();
    let below = if x < T::ZERO { tail } else { T::ONE - tail };
    [below, density * T::from_f64(0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2)]
}

/// The cubic coefficient of the approximation.
const CUBIC: f64 = 0.044_715;

/// sqrt(8 / pi): (1 + tanh u) / 2 is the logistic function of 2 u.
const TWICE: f64 = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;

/// Twice the argument of tanh.
#[inline(always)]
fn twice<T: Element>(x: T) -> T {
    T::from_f64(TWICE) * x * (T::ONE + T::from_f64(CUBIC) * x * x)
}

impl Pointwise for Gelu {
    const NAME: &'static str = "gelu";
    const KEEPS_OUTPUT: bool = false;

    fn title(&self) -> String {
        match self {
            Self::Erf => "GELU".to_owned(),
            Self::Tanh => "GELU(tanh)".to_owned(),
        }
    }

    #[inline(always)]
    fn value<T: Element>(self, x: T) -> T {
        match self {
            Self::Erf => x * gaussian(x)[0],
            Self::Tanh => x * logistic(twice(x))[0],
        }
    }

    #[inline(always)]
    fn pull_back<T: Element>(self, x: T, dy: T) -> T {
        match self {
            Self::Erf => {
                let [below, density] = gaussian(x);
                dy * (below + x * density)
            }
            Self::Tanh => {
                let [below, above] = logistic(twice(x));
                let slope = T::from_f64(TWICE) * (T::ONE + T::from_f64(3.0 * CUBIC) * x * x);
                dy * (below + x * slope * below * above)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::check_pointwise;

    /// x times the normal distribution, computed with 40 digits.
    const VALUES: [(f64, f64); 7] = [
        (0.0, 0.0),
        (1.0, 0.841_344_746_068_543),
        (-1.0, -0.158_655_253_931_457),
        (2.0, 1.954_499_736_103_642),
        (-5.0, -1.433_257_859_395_97e-6),
        (100.0, 100.0),
        (-100.0, 0.0),
    ];

    #[test]
    fn values_and_gradients() {
        check_pointwise(Gelu::Erf, &VALUES, 5.0, 4e-7);
        check_pointwise(Gelu::Tanh, &[(100.0, 100.0), (-100.0, 0.0)], 5.0, 1e-6);
        for (x, expected) in VALUES {
            let found = Gelu::Tanh.value(x);
            assert!((found - expected).abs() < 1e-3, "{found} is not near {expected}");
        }
    }

    #[test]
    fn small_results_have_all_digits() {
        for step in 0u8..100 {
            let x = -f32::from(step) / 20.0;
            let (found, expected) = (Gelu::Erf.value(x), Gelu::Erf.value(f64::from(x)));
            let error = (f64::from(found) - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
            assert!(error < 4e-6, "gelu({x}) is {expected}, found {found}");
        }
    }
}
