//! A matrix product that reads both operands where they lie: for operands that are already laid out in panels.
#![allow(unsafe_code)]

use super::microkernel::{MicroKernel, Tile, TileEpilogue, with_kernel};
use crate::simd::Isa;

/// A read-only matrix in a slice: element `[i, j]` at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements between rows.
    pub row_stride: usize,
    /// Elements between columns.
    pub col_stride: usize,
}

/// `C[m x n] = A[m x k] . B[k x n]`, or `C += A . B` if `accumulate`, without packing anything.
///
/// A may have any strides (its elements are broadcast one by one). The columns of B and C are contiguous: `B[p, j]` is
/// at `p * b_row_stride + j`, `C[i, j]` at `i * c_row_stride + j`. Fastest when `n` is a multiple of the vector width and
/// `k` rows of one tile of B (`k * 48` elements) stay in the first-level cache; the whole depth is summed in one go.
///
/// # Panics
/// If a slice is too short for its sizes and strides.
pub fn gemm_unpacked(
    isa: Isa,
    (m, n, k): (usize, usize, usize),
    a: MatrixRef<'_>,
    b: &[f32],
    b_row_stride: usize,
    c: &mut [f32],
    c_row_stride: usize,
    accumulate: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k > 0 {
        assert!(
            (m - 1) * a.row_stride + (k - 1) * a.col_stride < a.data.len(),
            "A is too short for {m} x {k}"
        );
        assert!((k - 1) * b_row_stride + n <= b.len(), "B is too short for {k} x {n}");
    }
    assert!((m - 1) * c_row_stride + n <= c.len(), "C is too short for {m} x {n}");
    assert!(m == 1 || c_row_stride >= n, "the rows of C overlap: stride {c_row_stride}, {n} columns");
    with_kernel!(isa, kernel => tiles(kernel, (m, n, k), a, b, b_row_stride, c, c_row_stride, accumulate));
}

fn tiles<K: MicroKernel>(
    kernel: K,
    (m, n, k): (usize, usize, usize),
    a: MatrixRef<'_>,
    b: &[f32],
    b_row_stride: usize,
    c: &mut [f32],
    c_row_stride: usize,
    accumulate: bool,
) {
    let c = c.as_mut_ptr();
    for col in (0..n).step_by(K::NR) {
        for row in (0..m).step_by(K::MR) {
            let tile = Tile {
                rows: K::MR.min(m - row),
                cols: K::NR.min(n - col),
                depth: k,
                a: a.data.as_ptr().wrapping_add(row * a.row_stride),
                a_row_stride: a.row_stride,
                a_depth_stride: a.col_stride,
                b: b.as_ptr().wrapping_add(col),
                b_depth_stride: b_row_stride,
                c: c.wrapping_add(row * c_row_stride + col),
                c_row_stride,
                epilogue: TileEpilogue { accumulate, bias: std::ptr::null(), relu: false },
            };
            // SAFETY: the tile lies inside m x n x k, all of which `gemm_unpacked` has checked against the slices;
            // C is borrowed mutably, and its rows do not overlap.
            unsafe { kernel.run(&tile) };
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
            let a = MatrixRef { data: &a, row_stride, col_stride };
            let before = if accumulate { random(m * (n + gap), 3) } else { vec![f32::NAN; m * (n + gap)] };
            let old = if accumulate { before.clone() } else { vec![0.0; before.len()] };
            let expected = naive_gemm((m, n, k), |i, p| a.data[i * row_stride + p * col_stride],
                |p, j| b[p * (n + gap) + j], |i, j| old[i * (n + gap) + j]);
            for isa in Isa::available() {
                let mut c = before.clone();
                gemm_unpacked(isa, (m, n, k), a, &b, n + gap, &mut c, n + gap, accumulate);
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
