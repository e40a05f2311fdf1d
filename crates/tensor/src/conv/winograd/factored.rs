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

use super::lanes::{Lanes, Vector};
use super::matrices::{EvaluationTable, has_zero, input_table, kernel_table, output_table};

/// A linear map along one axis, on vectors of channels.
pub(super) trait Transform<const FROM: usize, const TO: usize> {
    /// Applies the map.
    fn apply<S: Lanes>(lanes: S, from: [S::Vector; FROM]) -> [S::Vector; TO];
}

/// `B^T`.
pub(super) struct InputSide;
/// `A^T`.
pub(super) struct OutputSide;
/// `A`.
pub(super) struct GradientSide;
/// `G`.
pub(super) struct KernelSide;
/// `G^T`.
pub(super) struct KernelGradientSide;

impl<const N: usize> Transform<N, N> for InputSide {
    #[inline(always)]
    fn apply<S: Lanes>(lanes: S, d: [S::Vector; N]) -> [S::Vector; N] {
        let (table, pairs) = const { (input_table(N), (N - 1) / 2) };
        let mut out = [d[0]; N];
        // Q on the inputs that start at the first is the row of 0, or of infinity if 0 is no point; on those that start at the second, the
        // row of infinity. Leading coefficients are 1.
        // Where 0 is a point, the rows of a pair have a factor x, and begin at the next input.
        let zero = const { if has_zero(N) { 1 } else { 0 } };
        out[0] = every_other(lanes, &d, 0, &table.all[..=pairs]);
        out[N - 1] = every_other(lanes, &d, zero, &table.all[..=pairs]);
        for k in 0..pairs {
            // Q_k on every other input: the powers that the two rows have in common, and those that differ in sign.
            let coefficients = &table.without[k][..pairs];
            let common = every_other(lanes, &d, 2 * zero, coefficients);
            let other = every_other(lanes, &d, 1, coefficients);
            let point = lanes.splat(table.point[k]);
            let (plus, minus) = if zero == 1 {
                (other.mul_add(point, common), other.neg_mul_add(point, common))
            } else {
                (common.mul_add(point, other), common.mul_sub(point, other))
            };
            out[zero + 2 * k] = plus;
            out[zero + 2 * k + 1] = minus;
        }
        out
    }
}

/// The sum of every other input from `first` on, times `coefficients`, the last of which is one.
#[inline(always)]
fn every_other<S: Lanes>(lanes: S, d: &[S::Vector], first: usize, coefficients: &[f32]) -> S::Vector {
    let last = coefficients.len() - 1;
    let mut sum = d[first + 2 * last];
    for i in (0..last).rev() {
        sum = d[first + 2 * i].mul_add(lanes.splat(coefficients[i]), sum);
    }
    sum
}

/// The values at the points of the polynomial with coefficients `x`.
#[inline(always)]
fn evaluate<S: Lanes, const TAPS: usize, const N: usize>(
    lanes: S,
    table: &EvaluationTable,
    x: [S::Vector; TAPS],
) -> [S::Vector; N] {
    let mut out = [x[TAPS - 1]; N];
    let zero = const { if has_zero(N) { 1 } else { 0 } };
    if zero == 1 {
        out[0] = x[0] * lanes.splat(table.at_zero);
    }
    for k in 0..const { (N - 1) / 2 } {
        let powers = &table.power[k];
        let mut even = x[0] * lanes.splat(powers[0]);
        for i in (2..TAPS).step_by(2) {
            even = x[i].mul_add(lanes.splat(powers[i]), even);
        }
        let mut odd = x[1] * lanes.splat(powers[1]);
        for i in (3..TAPS).step_by(2) {
            odd = x[i].mul_add(lanes.splat(powers[i]), odd);
        }
        out[zero + 2 * k] = even + odd;
        out[zero + 2 * k + 1] = even - odd;
    }
    out
}

/// The transpose of [`evaluate`].
#[inline(always)]
fn collect<S: Lanes, const N: usize, const TAPS: usize>(
    lanes: S,
    table: &EvaluationTable,
    v: [S::Vector; N],
) -> [S::Vector; TAPS] {
    let mut out = [v[0]; TAPS];
    let zero = const { if has_zero(N) { 1 } else { 0 } };
    let (first, second) = (v[zero], v[zero + 1]);
    let (sum, difference) = (first + second, first - second);
    for i in 0..TAPS {
        let part = if i % 2 == 0 { sum } else { difference };
        out[i] = part * lanes.splat(table.power[0][i]);
    }
    for k in 1..const { (N - 1) / 2 } {
        let (first, second) = (v[zero + 2 * k], v[zero + 2 * k + 1]);
        let (sum, difference) = (first + second, first - second);
        for i in 0..TAPS {
            let part = if i % 2 == 0 { sum } else { difference };
            out[i] = part.mul_add(lanes.splat(table.power[k][i]), out[i]);
        }
    }
    if zero == 1 {
        out[0] = v[0].mul_add(lanes.splat(table.at_zero), out[0]);
    }
    out[TAPS - 1] = out[TAPS - 1] + v[N - 1];
    out
}

impl<const N: usize, const M: usize> Transform<N, M> for OutputSide {
    #[inline(always)]
    fn apply<S: Lanes>(lanes: S, v: [S::Vector; N]) -> [S::Vector; M] {
        collect(lanes, const { &output_table(N) }, v)
    }
}

impl<const M: usize, const N: usize> Transform<M, N> for GradientSide {
    #[inline(always)]
    fn apply<S: Lanes>(lanes: S, y: [S::Vector; M]) -> [S::Vector; N] {
        evaluate(lanes, const { &output_table(N) }, y)
    }
}

impl<const R: usize, const N: usize> Transform<R, N> for KernelSide {
    #[inline(always)]
    fn apply<S: Lanes>(lanes: S, g: [S::Vector; R]) -> [S::Vector; N] {
        evaluate(lanes, const { &kernel_table(N) }, g)
    }
}

impl<const N: usize, const R: usize> Transform<N, R> for KernelGradientSide {
    #[inline(always)]
    fn apply<S: Lanes>(lanes: S, v: [S::Vector; N]) -> [S::Vector; R] {
        collect(lanes, const { &kernel_table(N) }, v)
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::{Job, dispatch};
    use super::super::matrices::dense;
    use super::*;
    use crate::simd::Isa;

    /// Applies a transform to the unit vectors and compares each output with the dense matrix.
    struct Compare<'a, T, const FROM: usize, const TO: usize> {
        matrix: &'a [Vec<f64>],
        transform: std::marker::PhantomData<T>,
    }

    impl<T: Transform<FROM, TO>, const FROM: usize, const TO: usize> Job for Compare<'_, T, FROM, TO> {
        #[inline(always)]
        fn run<S: Lanes>(self, lanes: S) {
            for column in 0..FROM {
                let mut unit = [lanes.splat(0.0); FROM];
                unit[column] = lanes.splat(1.0);
                let out = T::apply(lanes, unit);
                for row in 0..TO {
                    let mut values = vec![f32::NAN; S::LANES];
                    out[row].store(&mut values);
                    let expected = self.matrix[row][column];
                    for value in values {
                        let error = (f64::from(value) - expected).abs();
                        assert!(
                            error <= 1e-7 * expected.abs(),
                            "[{row}][{column}]: {value}, matrix {expected}"
                        );
                    }
                }
            }
        }
    }

    fn transposed(matrix: &[Vec<f64>]) -> Vec<Vec<f64>> {
        (0..matrix[0].len()).map(|j| matrix.iter().map(|row| row[j]).collect()).collect()
    }

    fn check<T: Transform<FROM, TO>, const FROM: usize, const TO: usize>(matrix: &[Vec<f64>]) {
        for isa in Isa::available() {
            dispatch(isa, Compare::<T, FROM, TO> { matrix, transform: std::marker::PhantomData });
        }
    }

    fn check_tile<const M: usize, const R: usize, const N: usize>() {
        check::<InputSide, N, N>(&dense::input(N));
        check::<OutputSide, N, M>(&transposed(&dense::output(N, M)));
        check::<GradientSide, M, N>(&dense::output(N, M));
        check::<KernelSide, R, N>(&dense::kernel(N, R));
        check::<KernelGradientSide, N, R>(&transposed(&dense::kernel(N, R)));
    }

    #[test]
    fn factored_transforms_equal_the_matrices() {
        check_tile::<5, 5, 9>();
        check_tile::<4, 5, 8>();
        check_tile::<6, 3, 8>();
        check_tile::<4, 3, 6>();
    }
}
