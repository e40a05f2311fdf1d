//! The Cook-Toom construction: from interpolation points to the matrices of a one-dimensional Winograd tile.
//!
//! `F(m, r)` computes `m` outputs of a correlation with an `r`-tap kernel from `n = m + r - 1` inputs with `n`
//! multiplications (Lavin and Gray 2015, section 4.1; Winograd 1980, chapter IV):
//!
//! ```text
//! y = A^T [ (G g) . (B^T d) ]          y: m, g: r, d: n, "." multiplies element by element
//! ```
//!
//! It is the transpose of polynomial multiplication. A product `s(x) = u(x) g(x)` of degree `n - 1` is fixed by its values
//! at `n - 1` points and its leading coefficient (the value "at infinity"): evaluate `u` (matrix `A`) and `g`, multiply, and
//! interpolate with Lagrange's polynomials. Transposing that map in `u` turns evaluation of `u` into `A^T`, the last step,
//! and interpolation into `B^T`, the first step.
//!
//! All points used here are 0 (where their number `n` is even), pairs `+p, -p`, and infinity, in that order:
//! `[0, p0, -p0, p1, -p1, ..., inf]`. With `Q(x) = prod_k (x^2 - p_k^2)`, and `Q_k` that without its factor `k`,
//!
//! | row of `B^T` | with the point 0: modulus `x Q(x)` | without: modulus `Q(x)` |
//! |---|---|---|
//! | 0 | `Q(x)` | |
//! | `+p_k` | `x (x + p_k) Q_k(x)` | `(x + p_k) Q_k(x)` |
//! | `-p_k` | `x (x - p_k) Q_k(x)` | `(p_k - x) Q_k(x)` |
//! | infinity | `x Q(x)` | `Q(x)` |
//!
//! The two rows of a pair share their even and their odd powers. `G` and `A` hold powers of the points; `G` also carries
//! Lagrange's denominators, which are the same for both points of a pair (without the point 0 they differ in sign, and that
//! is why the row of `-p_k` is turned around there).
//!
//! Any row of `B^T` may be multiplied by a power of two if the same row of `G` is divided by it. In binary floating point
//! that changes no result, so the rows keep the leading coefficient one, which saves a multiplication in each, and the entries
//! of all three matrices stay within a factor of 40 of one.

/// The most pairs of points a tile uses: 9 points are four pairs and infinity.
pub(super) const MAX_PAIRS: usize = 4;
/// The most taps (kernel taps or output pixels) evaluated at the points: F(6, 3) has six output pixels.
pub(super) const MAX_TAPS: usize = 6;

/// The positive points `p_k` of a tile that reads `n` inputs; each stands for the pair `+p_k, -p_k`.
///
/// Small powers of two give exact products and the smallest rounding error for eight points; for six points
/// 3/4 and 3/2 are more accurate than 1 and 2 (Barabasz et al. 2018 discuss the choice), and the four pairs for nine are the best of
/// all that 1/4, 3/8, ... 3 make, with and without the point 0.
pub(super) const fn points(n: usize) -> &'static [f64] {
    match n {
        9 => &[0.25, 0.625, 1.25, 2.0],
        8 => &[1.0, 2.0, 0.5],
        6 => &[0.75, 1.5],
        _ => panic!("Winograd tiles read 6, 8 or 9 inputs along each axis"),
    }
}

/// Tells whether 0 is one of the `n` points: they are pairs and infinity besides.
pub(super) const fn has_zero(n: usize) -> bool {
    n.is_multiple_of(2)
}

/// `p_k^i`, possibly over Lagrange's denominators: how a short vector is evaluated at the points.
#[derive(Debug, Clone, Copy)]
pub(super) struct EvaluationTable {
    /// The factor of tap 0 at the point 0, if that is one of the points.
    pub(super) at_zero: f32,
    /// `power[k][i]`, the factor of tap `i` at the point `+p_k`.
    pub(super) power: [[f32; MAX_TAPS]; MAX_PAIRS],
}

/// Coefficients in `x^2` of `prod_k (x^2 - p_k^2)`, lowest first, leaving out the factor `skip`, if there is one. The leading one is 1.
const fn product(points: &[f64], skip: usize) -> [f64; MAX_PAIRS + 1] {
    let mut poly = [0.0; MAX_PAIRS + 1];
    poly[0] = 1.0;
    let mut k = 0;
    while k < points.len() {
        if k != skip {
            let q = points[k] * points[k];
            let mut i = MAX_PAIRS;
            while i > 0 {
                poly[i] = poly[i - 1] - q * poly[i];
                i -= 1;
            }
            poly[0] *= -q;
        }
        k += 1;
    }
    poly
}

/// Lagrange's denominator at the point `p_k`: the product of its differences to all other points. With the point 0 it is the
/// same at `-p_k`, without it the negative.
const fn denominator(points: &[f64], k: usize, has_zero: bool) -> f64 {
    let q = points[k] * points[k];
    let mut value = if has_zero { 2.0 * q } else { 2.0 * points[k] };
    let mut j = 0;
    while j < points.len() {
        if j != k {
            value *= q - points[j] * points[j];
        }
        j += 1;
    }
    value
}

/// The factored `B^T` of a tile that reads `n` inputs: row `k` has the coefficients of `Q_k`, the last one those of `Q`.
pub(super) const fn products(n: usize) -> [[f64; MAX_PAIRS + 1]; MAX_PAIRS + 1] {
    let mut rows = [[0.0; MAX_PAIRS + 1]; MAX_PAIRS + 1];
    let mut k = 0;
    while k <= MAX_PAIRS {
        rows[k] = product(points(n), k);
        k += 1;
    }
    rows
}

/// Evaluation of output pixels at the `n` points (`A`, whose transpose ends the tile): plain powers. Or how kernel taps are
/// (`G`): powers over Lagrange's denominators.
pub(super) const fn evaluation_table(n: usize, divided: bool) -> EvaluationTable {
    let points = points(n);
    let mut table = EvaluationTable { at_zero: 1.0, power: [[0.0; MAX_TAPS]; MAX_PAIRS] };
    if divided {
        table.at_zero = (1.0 / product(points, MAX_PAIRS)[0]) as f32;
    }
    let mut k = 0;
    while k < points.len() {
        let mut value = if divided { 1.0 / denominator(points, k, has_zero(n)) } else { 1.0 };
        let mut i = 0;
        while i < MAX_TAPS {
            table.power[k][i] = value as f32;
            value *= points[k];
            i += 1;
        }
        k += 1;
    }
    table
}

/// The dense matrices of `F(m, r)`, straight from the definition in f64: what the factored transforms are tested against.
#[cfg(test)]
pub(super) mod dense {
    use super::{has_zero, points};

    /// All finite points in the order of the rows.
    fn finite(n: usize) -> Vec<f64> {
        has_zero(n).then_some(0.0).into_iter().chain(points(n).iter().flat_map(|&p| [p, -p])).collect()
    }

    /// The rows of `-p_k` are turned around where 0 is no point.
    fn sign(n: usize, j: usize) -> f64 {
        if !has_zero(n) && j % 2 == 1 && j + 1 < n { -1.0 } else { 1.0 }
    }

    /// `B^T`, `n x n`: row `j` holds the coefficients of the product of `(x - p)` over all points but the `j`-th.
    pub(in super::super) fn input(n: usize) -> Vec<Vec<f64>> {
        let finite = finite(n);
        let row = |skip: usize| {
            let mut poly = vec![1.0];
            for (_, p) in finite.iter().enumerate().filter(|(j, _)| *j != skip) {
                let mut next = vec![0.0; poly.len() + 1];
                for (i, c) in poly.iter().enumerate() {
                    next[i] -= p * c;
                    next[i + 1] += c;
                }
                poly = next;
            }
            poly.resize(n, 0.0);
            poly.iter_mut().for_each(|c| *c *= sign(n, skip));
            poly
        };
        (0..n).map(row).collect()
    }

    /// `A`, `n x taps`: powers of the points; the row of infinity picks the last tap.
    pub(in super::super) fn output(n: usize, taps: usize) -> Vec<Vec<f64>> {
        let powers = |p: f64| (0..taps).map(|i| p.powi(i as i32)).collect::<Vec<_>>();
        let infinity = (0..taps).map(|i| f64::from(u8::from(i + 1 == taps))).collect();
        finite(n).into_iter().map(powers).chain(std::iter::once(infinity)).collect()
    }

    /// `G`, `n x taps`: the rows of `A` over Lagrange's denominators.
    pub(in super::super) fn kernel(n: usize, taps: usize) -> Vec<Vec<f64>> {
        let finite = finite(n);
        let mut rows = output(n, taps);
        for (j, p) in finite.iter().enumerate() {
            let others = finite.iter().enumerate().filter(|(k, _)| *k != j);
            let denominator: f64 = others.map(|(_, q)| p - q).product();
            rows[j].iter_mut().for_each(|v| *v *= sign(n, j) / denominator);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::dense;

    /// `A^T [(G g) . (B^T d)]` is the correlation of `d` with `g`, to f64 rounding, for all tiles.
    #[test]
    fn the_matrices_compute_a_correlation() {
        for (m, r) in [(5, 5), (4, 5), (6, 3), (4, 3)] {
            let n = m + r - 1;
            let (input, output, kernel) = (dense::input(n), dense::output(n, m), dense::kernel(n, r));
            let d: Vec<f64> = (0..n).map(|i| ((7 * i + 3) % 11) as f64 - 5.0).collect();
            let g: Vec<f64> = (0..r).map(|i| ((5 * i + 1) % 7) as f64 - 3.0).collect();
            let dot = |row: &[f64], x: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f64>();
            let product: Vec<f64> = (0..n).map(|j| dot(&input[j], &d) * dot(&kernel[j], &g)).collect();
            for i in 0..m {
                let winograd: f64 = (0..n).map(|j| output[j][i] * product[j]).sum();
                let direct = dot(&d[i..i + r], &g);
                assert!(
                    (winograd - direct).abs() < 1e-11,
                    "F({m},{r}) output {i}: {winograd} against {direct}"
                );
            }
        }
    }
}
