//! The one-dimensional transforms, factored over the pairs `+p, -p` of points, as straight-line vector code.
//!
//! Every loop below runs over compile-time bounds and compile-time coefficients, so that the compiler unrolls it and folds
//! the coefficients: multiplications by one disappear, and the two rows of a pair share their even and odd parts.
//!
//! | function | matrix | from -> to | used for |
//! |---|---|---|---|
//! | [`InputSide`] | `B^T` | n -> n | inputs, in all three passes |
//! | [`OutputSide`] | `A^T` | n -> m | outputs of forward and of the input gradient |
//! | [`GradientSide`] | `A` | m -> n | output gradients, in the weight gradient |
//! | [`KernelSide`] | `G` | r -> n | weights |
//! | [`KernelGradientSide`] | `G^T` | n -> r | the weight gradient, out of the Winograd domain |

use super::matrices::{MAX_PAIRS, evaluation_table, has_zero, points, products};
use crate::simd::Simd;

/// A linear map along one axis, on vectors of channels.
pub(super) trait Transform<const FROM: usize, const TO: usize> {
    /// Applies the map.
    fn apply<S: Simd>(s: S, from: [S::Vector; FROM]) -> [S::Vector; TO];
}

/// `B^T`.
pub(super) struct InputSide;
/// Values at the points of the polynomial with some coefficients, over Lagrange's denominators if `DIVIDED`.
pub(super) struct Evaluate<const DIVIDED: bool>;
/// The transpose of [`Evaluate`].
pub(super) struct Collect<const DIVIDED: bool>;
/// `A^T`.
pub(super) type OutputSide = Collect<false>;
/// `A`.
pub(super) type GradientSide = Evaluate<false>;
/// `G`.
pub(super) type KernelSide = Evaluate<true>;
/// `G^T`.
pub(super) type KernelGradientSide = Collect<true>;

impl<const N: usize> Transform<N, N> for InputSide {
    #[inline(always)]
    fn apply<S: Simd>(s: S, d: [S::Vector; N]) -> [S::Vector; N] {
        let (products, points, pairs) = const { (products(N), points(N), (N - 1) / 2) };
        let mut out = [d[0]; N];
        // Q on the inputs that start at the first is the row of 0, or of infinity if 0 is no point; on those that start at the
        // second, the row of infinity. Leading coefficients are 1. Where 0 is a point, the rows of a pair have a factor x, and
        // begin at the next input.
        let zero = const { if has_zero(N) { 1 } else { 0 } };
        out[0] = every_other(s, &d, 0, &products[MAX_PAIRS][..=pairs]);
        out[N - 1] = every_other(s, &d, zero, &products[MAX_PAIRS][..=pairs]);
        for k in 0..pairs {
            // Q_k on every other input: the powers that the two rows have in common, and those that differ in sign.
            let coefficients = &products[k][..pairs];
            let common = every_other(s, &d, 2 * zero, coefficients);
            let other = every_other(s, &d, 1, coefficients);
            let point = s.splat(points[k] as f32);
            let (plus, minus) = if zero == 1 {
                (s.mul_add(other, point, common), s.neg_mul_add(other, point, common))
            } else {
                (s.mul_add(common, point, other), s.mul_sub(common, point, other))
            };
            out[zero + 2 * k] = plus;
            out[zero + 2 * k + 1] = minus;
        }
        out
    }
}

/// The sum of every other input from `first` on, times `coefficients`, the last of which is one.
#[inline(always)]
fn every_other<S: Simd>(s: S, d: &[S::Vector], first: usize, coefficients: &[f64]) -> S::Vector {
    let last = coefficients.len() - 1;
    let mut sum = d[first + 2 * last];
    for i in (0..last).rev() {
        sum = s.mul_add(d[first + 2 * i], s.splat(coefficients[i] as f32), sum);
    }
    sum
}

impl<const TAPS: usize, const N: usize, const DIVIDED: bool> Transform<TAPS, N> for Evaluate<DIVIDED> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, x: [S::Vector; TAPS]) -> [S::Vector; N] {
        let table = const { &evaluation_table(N, DIVIDED) };
        let mut out = [x[TAPS - 1]; N];
        let zero = const { if has_zero(N) { 1 } else { 0 } };
        if zero == 1 {
            out[0] = s.mul(x[0], s.splat(table.at_zero));
        }
        for k in 0..const { (N - 1) / 2 } {
            let powers = &table.power[k];
            let mut even = s.mul(x[0], s.splat(powers[0]));
            for i in (2..TAPS).step_by(2) {
                even = s.mul_add(x[i], s.splat(powers[i]), even);
            }
            let mut odd = s.mul(x[1], s.splat(powers[1]));
            for i in (3..TAPS).step_by(2) {
                odd = s.mul_add(x[i], s.splat(powers[i]), odd);
            }
            out[zero + 2 * k] = s.add(even, odd);
            out[zero + 2 * k + 1] = s.sub(even, odd);
        }
        out
    }
}

impl<const N: usize, const TAPS: usize, const DIVIDED: bool> Transform<N, TAPS> for Collect<DIVIDED> {
    #[inline(always)]
    fn apply<S: Simd>(s: S, v: [S::Vector; N]) -> [S::Vector; TAPS] {
        let table = const { &evaluation_table(N, DIVIDED) };
        let mut out = [v[0]; TAPS];
        let zero = const { if has_zero(N) { 1 } else { 0 } };
        let (first, second) = (v[zero], v[zero + 1]);
        let (sum, difference) = (s.add(first, second), s.sub(first, second));
        for i in 0..TAPS {
            let part = if i % 2 == 0 { sum } else { difference };
            out[i] = s.mul(part, s.splat(table.power[0][i]));
        }
        for k in 1..const { (N - 1) / 2 } {
            let (first, second) = (v[zero + 2 * k], v[zero + 2 * k + 1]);
            let (sum, difference) = (s.add(first, second), s.sub(first, second));
            for i in 0..TAPS {
                let part = if i % 2 == 0 { sum } else { difference };
                out[i] = s.mul_add(part, s.splat(table.power[k][i]), out[i]);
            }
        }
        if zero == 1 {
            out[0] = s.mul_add(v[0], s.splat(table.at_zero), out[0]);
        }
        out[TAPS - 1] = s.add(out[TAPS - 1], v[N - 1]);
        out
    }
}

/// Applies `T` along both axes of a square of vectors, `T X T^T`, down the columns first. Both squares have their strides
/// between rows and between columns.
#[inline(always)]
pub(super) fn transform_square<S: Simd, T: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    s: S,
    (from, [row, column]): (&[f32], [usize; 2]),
    (to, [to_row, to_column]): (&mut [f32], [usize; 2]),
) {
    let mut half = [[s.splat(0.0); FROM]; TO];
    for j in 0..FROM {
        let values = T::apply(s, s.load_strided(&from[j * column..], row));
        for i in 0..TO {
            half[i][j] = values[i];
        }
    }
    for i in 0..TO {
        s.store_strided(T::apply(s, half[i]), &mut to[i * to_row..], to_column);
    }
}
