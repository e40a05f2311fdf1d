//! Special functions that activations are made of: without branches in `f32`, so that loops over them become vectors, and to full
//! precision in `f64`, where gradients are checked.

use crate::Element;

/// The exponential function and the complementary error function, where activations need them.
pub trait Special: Sized {
    /// `e^x` for `x <= 0`; NaN stays NaN. In `f32` what is below `e^-87`, some 10^-38, counts as 0.
    fn exp_nonpositive(self) -> Self;

    /// The scaled complementary error function `e^(x^2) erfc(x)` for `x >= 0`, 0 at infinity.
    fn erfcx(self) -> Self;
}

impl Special for f32 {
    /// `2^n e^r` with `|r| <= ln 2 / 2`, and the Taylor polynomial of `e^r` (Cody and Waite, "Software Manual for the Elementary
    /// Functions", chapter 6). Off by less than 2 units in the last place.
    #[inline(always)]
    fn exp_nonpositive(self) -> Self {
        /// Added to a number, leaves the nearest integer in the low bits of the significand.
        const ROUND: f32 = 12_582_912.0;
        // The first part has so few digits that its product with n is exact.
        const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
        // Written so that NaN stays.
        let vanishes = self < -87.0;
        let x = if vanishes { 0.0 } else { self };
        let shifted = x * std::f32::consts::LOG2_E + ROUND;
        let n = shifted - ROUND;
        let r = (x - n * LN_2[0]) - n * LN_2[1];
        let mut sum = 1.0 / 5040.0;
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            sum = sum * r + coefficient;
        }
        let power = Self::from_bits(shifted.to_bits().wrapping_add(127) << 23);
        if vanishes { 0.0 } else { sum * power }
    }

    /// `t P(t)` with `t = 1 / (1 + 0.4 x)` and P the polynomial through the Chebyshev nodes of (0, 1]. Its own relative error is
    /// 8.2e-9 at most.
    #[inline(always)]
    fn erfcx(self) -> Self {
        const COEFFICIENTS: [f32; 10] = [
            0.143_841_07,
            -0.243_041_73,
            0.146_803_24,
            -0.053_793_166,
            0.087_120_64,
            0.118_095_12,
            0.171_890_57,
            0.207_600_72,
            0.225_676_32,
            0.225_675_83,
        ];
        let t = 1.0 / (1.0 + 0.4 * self);
        let mut sum = -0.029_868_629;
        for coefficient in COEFFICIENTS {
            sum = sum * t + coefficient;
        }
        sum * t
    }
}

impl Special for f64 {
    fn exp_nonpositive(self) -> Self {
        self.exp()
    }

    /// From the series of erf, whose terms are all positive, below 2, and from the continued fraction of erfc above it
    /// (Abramowitz and Stegun, 7.1.6 and 7.1.14).
    fn erfcx(self) -> Self {
        /// So many terms that more change nothing at 2, where both converge most slowly.
        const TERMS: u32 = 200;
        let square = self * self;
        if self < 2.0 {
            let (mut term, mut sum) = (self, self);
            for n in 1..TERMS {
                term *= 2.0 * square / f64::from(2 * n + 1);
                sum += term;
            }
            return square.exp() - std::f64::consts::FRAC_2_SQRT_PI * sum;
        }
        let tail = (1..TERMS).rev().fold(self, |below, n| self + f64::from(n) / 2.0 / below);
        std::f64::consts::FRAC_2_SQRT_PI / 2.0 / tail
    }
}

/// The logistic functions `1 / (1 + e^-z)` of `z` and of `-z`, each with all its digits.
#[inline(always)]
pub(super) fn logistic<T: Element>(z: T) -> [T; 2] {
    let small = (-z.abs()).exp_nonpositive();
    let large = T::ONE / (T::ONE + small);
    let small = small * large;
    if z < T::ZERO { [small, large] } else { [large, small] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complementary_error_function_has_the_digits_of_tables() {
        // Computed with 40 digits; the first ones are in Abramowitz and Stegun, table 7.1, too.
        for (x, erfc) in [
            (0.0f64, 1.0),
            (0.5, 0.479_500_122_186_953_5),
            (1.0, 0.157_299_207_050_285_13),
            (1.999, 0.004_698_443_348_629_488),
            (2.0, 0.004_677_734_981_047_266),
            (3.0, 2.209_049_699_858_544e-5),
            (5.0, 1.537_459_794_428_035e-12),
        ] {
            let found = (-x * x).exp_nonpositive() * x.erfcx();
            assert!((found / erfc - 1.0).abs() < 1e-12, "erfc({x}) is {erfc}, found {found}");
        }
        assert_eq!(f64::INFINITY.erfcx(), 0.0);
    }

    #[test]
    fn single_precision_is_off_by_a_few_units_in_the_last_place() {
        for step in 0u16..40_000 {
            let x = f32::from(step) / 1000.0;
            let found = f64::from(x.erfcx()) / f64::from(x).erfcx() - 1.0;
            assert!(found.abs() < 4.0 * f64::from(f32::EPSILON), "erfcx({x}): relative error {found:e}");
            let found = f64::from((-2.0 * x).exp_nonpositive()) / f64::from(-2.0 * x).exp() - 1.0;
            assert!(
                found.abs() < 2.0 * f64::from(f32::EPSILON),
                "exp({}): relative error {found:e}",
                -2.0 * x
            );
        }
        assert_eq!((f32::INFINITY.erfcx(), 0f32.exp_nonpositive()), (0.0, 1.0));
        assert_eq!([f32::NEG_INFINITY, -88.0].map(Special::exp_nonpositive), [0.0; 2]);
        assert!(f32::NAN.exp_nonpositive().is_nan() && f32::NAN.erfcx().is_nan());
    }
}
