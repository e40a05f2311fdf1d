//! The element types: `f32` to train with, `f64` to check gradients with.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::buffer_pool::Pooled;
use crate::conv::Convolve;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A real number that tensors are made of: `f32` or `f64`, and no other.
///
/// Every op is generic over it, so that a gradient check in `f64` runs the very backward code that trains in `f32`.
/// A fast path for `f32` alone asks [`Element::as_f32`] and falls back to the generic code when the answer is `None`.
pub trait Element:
    sealed::Sealed
    + Convolve
    + Pooled
    + Copy
    + Default
    + PartialOrd
    + Debug
    + Display
    + Send
    + Sync
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + 'static
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The lowest finite-or-infinite value: what a maximum starts from.
    const NEG_INFINITY: Self;
    /// Not a number: what tests fill outputs with, to see that every element is written.
    const NAN: Self;
    /// The name of the type: `"f32"` or `"f64"`.
    const NAME: &'static str;

    /// The nearest value to `value`.
    fn from_f64(value: f64) -> Self;
    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// A count as a number; exact below 2^24.
    fn from_usize(value: usize) -> Self {
        Self::from_f64(value as f64)
    }
    /// e to this power.
    fn exp(self) -> Self;
    /// The natural logarithm.
    fn ln(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// The absolute value.
    fn abs(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;

    /// The slice itself, if the elements are `f32`.
    fn as_f32(slice: &[Self]) -> Option<&[f32]>;
    /// The slice itself, if the elements are `f32`.
    fn as_f32_mut(slice: &mut [Self]) -> Option<&mut [f32]>;

    /// `C = A B` or `C += A B` by the portable matrix product: A is `m x k`, B is `k x n`, C is `m x n`, each with a
    /// (row, column) stride in elements.
    ///
    /// # Panics
    /// If a slice is too short for its extents and strides.
    fn matmul(
        extents: [usize; 3],
        a: &[Self],
        a_strides: [usize; 2],
        b: &[Self],
        b_strides: [usize; 2],
        accumulate: bool,
        c: &mut [Self],
        c_strides: [usize; 2],
    );
}

/// The index one past the last element of a strided matrix.
fn extent_of(rows: usize, columns: usize, strides: [usize; 2]) -> usize {
    if rows == 0 || columns == 0 { 0 } else { (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1 }
}

macro_rules! element {
    ($type:ident, $name:literal, $gemm:path, $as_f32:expr, $as_f32_mut:expr) => {
        impl Element for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NEG_INFINITY: Self = $type::NEG_INFINITY;
            const NAN: Self = $type::NAN;
            const NAME: &'static str = $name;

            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            fn exp(self) -> Self {
                $type::exp(self)
            }
            fn ln(self) -> Self {
                $type::ln(self)
            }
            fn tanh(self) -> Self {
                $type::tanh(self)
            }
            fn sqrt(self) -> Self {
                $type::sqrt(self)
            }
            fn abs(self) -> Self {
                $type::abs(self)
            }
            fn is_finite(self) -> bool {
                $type::is_finite(self)
            }
            fn as_f32(slice: &[Self]) -> Option<&[f32]> {
                $as_f32(slice)
            }
            fn as_f32_mut(slice: &mut [Self]) -> Option<&mut [f32]> {
                $as_f32_mut(slice)
            }

            #[allow(unsafe_code, reason = "matrixmultiply takes raw pointers")]
            fn matmul(
                [m, k, n]: [usize; 3],
                a: &[Self],
                a_strides: [usize; 2],
                b: &[Self],
                b_strides: [usize; 2],
                accumulate: bool,
                c: &mut [Self],
                c_strides: [usize; 2],
            ) {
                assert!(a.len() >= extent_of(m, k, a_strides), "matmul: A is too short for {m} x {k}");
                assert!(b.len() >= extent_of(k, n, b_strides), "matmul: B is too short for {k} x {n}");
                assert!(c.len() >= extent_of(m, n, c_strides), "matmul: C is too short for {m} x {n}");
                assert!(
                    m <= 1 || n <= 1 || c_strides[0] >= n * c_strides[1] || c_strides[1] >= m * c_strides[0],
                    "matmul: the elements of C overlap"
                );
                let beta = if accumulate { 1.0 } else { 0.0 };
                // SAFETY: the three assertions above keep every strided access inside its slice, C is borrowed
                // exclusively and does not overlap itself, and strides of slices in memory fit in isize. With beta = 0
                // C is written without being read.
                unsafe {
                    $gemm(
                        m,
                        k,
                        n,
                        1.0,
                        a.as_ptr(),
                        a_strides[0] as isize,
                        a_strides[1] as isize,
                        b.as_ptr(),
                        b_strides[0] as isize,
                        b_strides[1] as isize,
                        beta,
                        c.as_mut_ptr(),
                        c_strides[0] as isize,
                        c_strides[1] as isize,
                    );
                }
            }
        }
    };
}

element!(f32, "f32", matrixmultiply::sgemm, Some, Some);
element!(f64, "f64", matrixmultiply::dgemm, |_| None, |_| None);

#[cfg(test)]
mod tests {
    use super::*;

    fn product<T: Element>() -> Vec<T> {
        let number = |value: i32| T::from_f64(f64::from(value));
        let a: Vec<T> = (1..=6).map(number).collect(); // 2 x 3
        let b: Vec<T> = (1..=12).map(number).collect(); // 3 x 4
        let mut c = vec![T::NAN; 8];
        T::matmul([2, 3, 4], &a, [3, 1], &b, [4, 1], false, &mut c, [4, 1]);
        T::matmul([2, 3, 4], &a, [3, 1], &b, [4, 1], true, &mut c, [4, 1]);
        c
    }

    #[test]
    fn matmul_overwrites_then_accumulates() {
        assert_eq!(product::<f32>(), [76.0, 88.0, 100.0, 112.0, 166.0, 196.0, 226.0, 256.0]);
        assert_eq!(product::<f64>(), [76.0, 88.0, 100.0, 112.0, 166.0, 196.0, 226.0, 256.0]);
    }

    #[test]
    #[should_panic(expected = "matmul: B is too short for 3 x 4")]
    fn matmul_refuses_short_slices() {
        f32::matmul([2, 3, 4], &[0.0; 6], [3, 1], &[0.0; 11], [4, 1], false, &mut [0.0; 8], [4, 1]);
    }

    #[test]
    fn only_f32_has_the_fast_path() {
        assert!(f32::as_f32(&[1.0]).is_some());
        assert!(f64::as_f32(&[1.0]).is_none());
    }
}
