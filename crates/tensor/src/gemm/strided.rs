//! A product that reads both operands where they lie: for operands of few rows or columns, and such as lie in panels already.
#![allow(unsafe_code)]

use super::blocked::columns_of;
use super::kernel::MicroTile;
use super::packed::Split;
use crate::element::fits;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// `C[m x n] = A[m x k] B[k x n]`, or `C += A B` if `accumulate`, without packing anything.
///
/// A comes with the elements between its rows and between its columns, whichever these are: its elements are broadcast one by
/// one. The columns of B and C are contiguous, and B and C come with the elements between their rows. Fastest when `n` is a
/// multiple of the vector width and `k` rows of one tile of B stay in the first-level cache; all of k is summed in one go.
///
/// # Panics
/// If a slice is too short for its sizes and strides, or the rows of C overlap.
pub(crate) fn gemm_strided(
    isa: Isa,
    [m, n, k]: [usize; 3],
    (a, a_strides): (&[f32], [usize; 2]),
    (b, b_stride): (&[f32], usize),
    (c, c_stride): (&mut [f32], usize),
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(fits([m, k], a_strides, a.len()), "A is too short for {m} x {k}");
    assert!(fits([k, n], [b_stride, 1], b.len()), "B is too short for {k} x {n}");
    assert!(fits([m, n], [c_stride, 1], c.len()), "C is too short for {m} x {n}");
    assert!(m == 1 || c_stride >= n, "the rows of C overlap: stride {c_stride}, {n} columns");
    dispatch(isa, Strided { sizes: [m, n, k], a, a_strides, b, b_stride, c, c_stride, accumulate });
}

/// The arguments of [`gemm_strided`], which has checked them.
struct Strided<'a> {
    sizes: [usize; 3],
    a: &'a [f32],
    a_strides: [usize; 2],
    b: &'a [f32],
    b_stride: usize,
    c: &'a mut [f32],
    c_stride: usize,
    accumulate: bool,
}

impl Kernel for Strided<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let ([m, n, k], c) = (self.sizes, self.c.as_mut_ptr());
        let by_row = self.a_strides[1] == 1;
        let height = if by_row { S::REGISTERS.rows_by_row } else { S::REGISTERS.mr() };
        for columns in columns_of(S::REGISTERS, n).ranges() {
            for rows in Split::new(m, 1, height).ranges() {
                let tile = MicroTile {
                    rows: rows.len(),
                    columns: columns.len(),
                    k,
                    a: self.a.as_ptr().wrapping_add(rows.start * self.a_strides[0]),
                    a_strides: self.a_strides,
                    b: self.b.as_ptr().wrapping_add(columns.start),
                    b_stride: self.b_stride,
                    c: c.wrapping_add(rows.start * self.c_stride + columns.start),
                    c_stride: self.c_stride,
                    accumulate: self.accumulate,
                    ..MicroTile::OPEN
                };
                // SAFETY: the tile lies inside of m x n x k, all of which `gemm_strided` has checked against the slices;
                // C is borrowed mutably, and its rows do not overlap.
                unsafe { tile.run(s) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gemm::reference::{assert_close, naive_gemm, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn matches_the_naive_product(
            m in 1usize..20, n in 1usize..101, k in 0usize..40, transposed: bool, accumulate: bool, gap in 0usize..5,
        ) {
            let (row_stride, col_stride) = if transposed { (1, m + gap) } else { (k + gap, 1) };
            let a = random((m + gap) * (k + gap) + 1, 1);
            let b = random(k * (n + gap), 2);
            let before = if accumulate { random(m * (n + gap), 3) } else { vec![f32::NAN; m * (n + gap)] };
            let old = if accumulate { before.clone() } else { vec![0.0; before.len()] };
            let expected = naive_gemm((m, n, k), |i, p| a[i * row_stride + p * col_stride],
                |p, j| b[p * (n + gap) + j], |i, j| old[i * (n + gap) + j]);
            for isa in Isa::available() {
                let mut c = before.clone();
                gemm_strided(isa, [m, n, k], (&a, [row_stride, col_stride]), (&b, n + gap), (&mut c, n + gap), accumulate);
                for i in 0..m {
                    let row = &c[i * (n + gap)..(i + 1) * (n + gap)];
                    assert_close(&row[..n], &expected[i * n..(i + 1) * n], k, &format!("{isa}, row {i}"));
                    let (gap_after, gap_before) = (&row[n..], &before[i * (n + gap) + n..(i + 1) * (n + gap)]);
                    prop_assert!(
                        gap_after.iter().zip(gap_before).all(|(x, y)| x.to_bits() == y.to_bits()),
                        "{isa} wrote between the rows"
                    );
                }
            }
        }
    }
}
