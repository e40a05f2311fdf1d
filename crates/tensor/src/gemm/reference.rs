//! Things that the tests of the kernels compare with: random operands and sums in f64.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// `len` numbers in -1..1, always the same for the same seed.
pub(crate) fn random(len: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..len).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

/// `A[m x k] . B[k x n] + C[m x n]` in f64.
pub(crate) fn naive_gemm(
    (m, n, k): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    c: impl Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(m * n);
    for i in 0..m {
        for j in 0..n {
            let sum: f64 = (0..k).map(|p| f64::from(a(i, p)) * f64::from(b(p, j))).sum();
            out.push(sum + f64::from(c(i, j)));
        }
    }
    out
}

/// Asserts that each element is within the rounding error of a sum of `k` products of numbers below one.
pub(crate) fn assert_close(found: &[f32], expected: &[f64], k: usize, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    let bound = (k as f64 + 4.0) * 2.0f64.powi(-23);
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        // Written so that a NaN fails.
        assert!(error <= bound, "{what}, element {index}: found {found}, expected {expected}");
    }
}
