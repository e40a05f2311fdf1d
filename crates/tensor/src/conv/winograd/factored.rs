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
use super::matrices::{EvaluationTable, input_table, kernel_table, output_table};

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
        let table = const { input_table(N) };
        let pairs = const { N / 2 - 1 };
        let mut out = [d[0]; N];
        // Q on the even inputs is the row of 0; on the odd inputs, the row of infinity. Leading coefficients are 1.
        let (mut zero, mut infinity) = (d[N - 2], d[N - 1]);
        for i in (0..pairs).rev() {
            let factor = lanes.splat(table.all[i]);
            zero = d[2 * i].mul_add(factor, zero);
            infinity = d[2 * i + 1].mul_add(factor, infinity);
        }
        out[0] = zero;
        out[N - 1] = infinity;
        for k in 0..pairs {
            let (mut even, mut odd) = (d[N - 2], d[N - 3]);
            for i in (0..pairs - 1).rev() {
                let factor = lanes.splat(table.without[k][i]);
                even = d[2 * i + 2].mul_add(factor, even);
                odd = d[2 * i + 1].mul_add(factor, odd);
            }
            let point = lanes.splat(table.point[k]);
            out[1 + 2 * k] = odd.mul_add(point, even);
            out[2 + 2 * k] = odd.neg_mul_add(point, even);
        }
        out
    }
}

/// The values at the points of the polynomial with coefficients `x`.
#[inline(always)]
fn evaluate<S: Lanes, const TAPS: usize, const N: usize>(
    lanes: S,
    table: &EvaluationTable,
    x: [S::Vector; TAPS],
) -> [S::Vector; N] {
    let mut out = [x[TAPS - 1]; N];
    out[0] = x[0] * lanes.splat(table.at_zero);
    for k in 0..const { N / 2 - 1 } {
        let powers = &table.power[k];
        let mut even = x[0] * lanes.splat(powers[0]);
        for i in (2..TAPS).step_by(2) {
            even = x[i].mul_add(lanes.splat(powers[i]), even);
        }
        let mut odd = x[1] * lanes.splat(powers[1]);
        for i in (3..TAPS).step_by(2) {
            odd = x[i].mul_add(lanes.splat(powers[i]), odd);
        }
        out[1 + 2 * k] = even + odd;
        out[2 + 2 * k] = even - odd;
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
    let (first, second) = (v[1], v[2]);
    let (sum, difference) = (first + second, first - second);
    for i in 0..TAPS {
        let part = if i % 2 == 0 { sum } else { difference };
        out[i] = part * lanes.splat(table.power[0][i]);
    }
    for k in 1..const { N / 2 - 1 } {
        let (first, second) = (v[1 + 2 * k], v[2 + 2 * k]);
        let (sum, difference) = (first + second, first - second);
        for i in 0..TAPS {
            let part = if i % 2 == 0 { sum } else { difference };
            out[i] = part.mul_add(lanes.splat(table.power[k][i]), out[i]);
        }
    }
    out[0] = v[0].mul_add(lanes.splat(table.at_zero), out[0]);
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
        check_tile::<4, 5, 8>();
        check_tile::<6, 3, 8>();
        check_tile::<4, 3, 6>();
    }
}
