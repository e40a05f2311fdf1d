//! The element types: `f32` to train with, `f64` to check gradients with.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, Mul, MulAssign, Neg, Sub, SubAssign};

use bytemuck::Pod;

use crate::conv::Convolve;
use crate::ops::linear::LinearProduct;
use crate::ops::special::Special;

/// A real number that tensors are made of: `f32` or `f64`, and no other.
///
/// Every op is generic over it, so that a gradient check in `f64` runs the very backward code that trains in `f32`.
/// Fast forms for `f32` are methods that its type has in a form of its own: convolutions, and a linear layer's product.
pub trait Element:
    Convolve
    + LinearProduct
    + Pod
    + Special
    + Send
    + Sync
    + PartialOrd
    + Debug
    + Display
    + Sum
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
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

    /// `C = A B` or `C += A B` by the portable matrix product: A is `m x k` and B is `k x n`, with their (row, column) strides in
    /// elements, C is `m x n`, row by row.
    ///
    /// # Panics
    /// If a slice is too short for its extents and strides.
    fn matmul(
        extents: [usize; 3],
        a: (&[Self], [usize; 2]),
        b: (&[Self], [usize; 2]),
        c: &mut [Self],
        accumulate: bool,
    );
}

/// Tells whether a strided matrix lies inside of `len` elements.
pub(crate) fn fits([rows, columns]: [usize; 2], strides: [usize; 2], len: usize) -> bool {
    if rows == 0 || columns == 0 {
        return true;
    }
    let along = |extent: usize, stride: usize| (extent - 1).checked_mul(stride);
    let last = || along(rows, strides[0])?.checked_add(along(columns, strides[1])?);
    last().is_some_and(|last| last < len)
}

/// Strides as signed numbers. One that is none is never used: no slice holds two elements so far apart.
fn signed(strides: [usize; 2]) -> [isize; 2] {
    strides.map(|stride| isize::try_from(stride).unwrap_or(0))
}

macro_rules! float_functions {
    ($type:ident: $($function:ident),*) => {
        $(fn $function(self) -> Self {
            $type::$function(self)
        })*
    };
}

macro_rules! element {
    ($type:ident, $name:literal, $gemm:path) => {
        impl Element for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const NAME: &'static str = $name;

            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            float_functions!($type: exp, ln, tanh, sqrt, abs);
            #[allow(unsafe_code, reason = "matrixmultiply takes raw pointers")]
            fn matmul(
                [m, k, n]: [usize; 3],
                (a, a_strides): (&[Self], [usize; 2]),
                (b, b_strides): (&[Self], [usize; 2]),
                c: &mut [Self],
                accumulate: bool,
            ) {
                assert!(fits([m, k], a_strides, a.len()), "matmul: A is too short for {m} x {k}");
                assert!(fits([k, n], b_strides, b.len()), "matmul: B is too short for {k} x {n}");
                assert!(fits([m, n], [n, 1], c.len()), "matmul: C is too short for {m} x {n}");
                let beta = if accumulate { 1.0 } else { 0.0 };
                let ([a_row, a_column], [b_row, b_column]) = (signed(a_strides), signed(b_strides));
                let [c_row, c_column] = signed([n, 1]);
                let (a, b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
                // SAFETY: the product reads and writes elements (row, column) of the three matrices, no others, and the
                // first three assertions have found the last of each inside of its slice. A stride along which there are
                // two elements or more is less than a slice's length, so `signed` has kept it; of a matrix without
                // elements, none is used. C is borrowed exclusively, and its rows do not overlap.
                unsafe {
                    $gemm(m, k, n, 1.0, a, a_row, a_column, b, b_row, b_column, beta, c, c_row, c_column);
                }
            }
        }
    };
}

element!(f32, "f32", matrixmultiply::sgemm);
element!(f64, "f64", matrixmultiply::dgemm);

#[cfg(test)]
mod tests {
    use super::*;

    fn product<T: Element>() -> Vec<T> {
        let number = |value: i32| T::from_f64(f64::from(value));
        let a: Vec<T> = (1..=6).map(number).collect(); // 2 x 3
        let b: Vec<T> = (1..=12).map(number).collect(); // 3 x 4
        let mut c = vec![T::from_f64(f64::NAN); 8];
        T::matmul([2, 3, 4], (&a, [3, 1]), (&b, [4, 1]), &mut c, false);
        T::matmul([2, 3, 4], (&a, [3, 1]), (&b, [4, 1]), &mut c, true);
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
        f32::matmul([2, 3, 4], (&[0.0; 6], [3, 1]), (&[0.0; 11], [4, 1]), &mut [0.0; 8], false);
    }

    #[test]
    fn matmul_refuses_strides_that_no_memory_holds() {
        // Three rows, each half of the address space behind the one before it: the last one's place wraps to the first's.
        const HALF: usize = 1 << (usize::BITS - 1);
        let refusal = |matrix: usize, strides: [usize; 2]| {
            let mut all = [[1, 1]; 2];
            all[matrix] = strides;
            let sizes = [[3, 3, 1], [1, 3, 3]][matrix];
            let product =
                || f32::matmul(sizes, (&[0.0; 5], all[0]), (&[0.0; 5], all[1]), &mut [0.0; 5], true);
            *std::panic::catch_unwind(product).unwrap_err().downcast::<String>().unwrap()
        };
        for strides in [[HALF, 1], [1, HALF], [HALF, HALF], [usize::MAX, 1], [1, usize::MAX / 2 + 2]] {
            assert_eq!(refusal(0, strides), "matmul: A is too short for 3 x 3");
            assert_eq!(refusal(1, strides), "matmul: B is too short for 3 x 3");
        }
    }

    #[test]
    fn strides_that_are_not_used_may_be_any() {
        let mut c = [0.0f64; 2];
        f64::matmul([1, 1, 2], (&[2.0], [usize::MAX; 2]), (&[3.0, 4.0], [usize::MAX, 1]), &mut c, false);
        assert_eq!(c, [6.0, 8.0]);
    }
}
