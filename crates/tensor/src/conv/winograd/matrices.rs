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
/// Small powers of two give exact products and the smallest rounding error for eight points; for six points 3/4 and 3/2 are more
/// accurate than 1 and 2 (Barabasz et al. 2018 discuss the choice), and the four pairs for nine are the best of all that 1/4,
/// 3/8, ... 3 make, with and without the point 0.
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

/// Coefficients in `x^2` of `prod_k (x^2 - p_k^2)`, lowest first, leaving out the factor `skip`, if there is one. The leading one
/// is 1.
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
