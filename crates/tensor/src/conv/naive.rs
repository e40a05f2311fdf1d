//! Convolution as its definition says it: seven nested loops. Kept for ever as the oracle of the fast algorithms.
//!
//! `y[n][o][i][j] = bias[o] + sum over c, u, v of w[o][c][u][v] x[n][c][i stride + u dilation - padding][j ...]`
//! (d2l book, section 7.2; the cross-correlation that deep learning calls convolution). Sums are in f64. Each pass panics if a
//! slice does not have the geometry's length.

use super::ConvGeometry;
use crate::element::Element;

/// Calls `visit(y index, x index, w index)` for every product of the convolution, in row-major order of the output.
fn for_each_product(g: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let (c_group, o_group) = (g.c_in / g.groups, g.c_out / g.groups);
    let ([h, w], [oh, ow]) = (g.input, g.output());
    for n in 0..g.n {
        for o in 0..g.c_out {
            for i in 0..oh {
                for j in 0..ow {
                    let y = ((n * g.c_out + o) * oh + i) * ow + j;
                    for c in 0..c_group {
                        let channel = o / o_group * c_group + c;
                        for u in 0..g.kernel[0] {
                            let Some(row) = g.source(0, i, u) else { continue };
                            for v in 0..g.kernel[1] {
                                let Some(column) = g.source(1, j, v) else { continue };
                                let x = ((n * g.c_in + channel) * h + row) * w + column;
                                let w = ((o * c_group + c) * g.kernel[0] + u) * g.kernel[1] + v;
                                visit(y, x, w);
                            }
                        }
                    }
                }
            }
        }
    }
}

fn store<T: Element>(sums: &[f64], out: &mut [T]) {
    for (out, &sum) in out.iter_mut().zip(sums) {
        *out = T::from_f64(sum);
    }
}

/// The output, N x O x OH x OW, overwritten. `bias` has O elements.
pub(super) fn forward<T: Element>(g: &ConvGeometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    assert_eq!([x.len(), w.len(), y.len()], [g.input_len(), g.weight_len(), g.output_len()]);
    let pixels = g.out_pixels();
    let mut sums: Vec<f64> =
        (0..y.len()).map(|index| bias.map_or(0.0, |bias| bias[index / pixels % g.c_out].to_f64())).collect();
    for_each_product(g, |yi, xi, wi| sums[yi] += x[xi].to_f64() * w[wi].to_f64());
    store(&sums, y);
}

/// The gradient with respect to the input, N x C x H x W, overwritten.
pub(super) fn input_gradient<T: Element>(g: &ConvGeometry, dy: &[T], w: &[T], dx: &mut [T]) {
    assert_eq!([dx.len(), w.len(), dy.len()], [g.input_len(), g.weight_len(), g.output_len()]);
    let mut sums = vec![0.0; dx.len()];
    for_each_product(g, |yi, xi, wi| sums[xi] += dy[yi].to_f64() * w[wi].to_f64());
    store(&sums, dx);
}

/// The gradient with respect to the weight, O x C/groups x KH x KW, overwritten.
pub(super) fn weight_gradient<T: Element>(g: &ConvGeometry, x: &[T], dy: &[T], dw: &mut [T]) {
    assert_eq!([x.len(), dw.len(), dy.len()], [g.input_len(), g.weight_len(), g.output_len()]);
    let mut sums = vec![0.0; dw.len()];
    for_each_product(g, |yi, xi, wi| sums[wi] += dy[yi].to_f64() * x[xi].to_f64());
    store(&sums, dw);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_books_example() {
        // d2l book, section 7.2: a 3 x 3 image and a 2 x 2 kernel.
        let g =
            ConvGeometry::new([1, 1, 3, 3].into(), [1, 1, 2, 2].into(), [1, 1], [0, 0], [1, 1], 1).unwrap();
        let x: Vec<f32> = (0..9u8).map(f32::from).collect();
        let mut y = [f32::NAN; 4];
        forward(&g, &x, &[0.0, 1.0, 2.0, 3.0], None, &mut y);
        assert_eq!(y, [19.0, 25.0, 37.0, 43.0]);
        let mut dw = [f32::NAN; 4];
        weight_gradient(&g, &x, &[1.0, 0.0, 0.0, 0.0], &mut dw);
        assert_eq!(dw, [0.0, 1.0, 3.0, 4.0]);
        let mut dx = [f32::NAN; 9];
        input_gradient(&g, &[0.0, 0.0, 0.0, 1.0], &[5.0, 6.0, 7.0, 8.0], &mut dx);
        assert_eq!(dx, [0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 0.0, 7.0, 8.0]);
    }
}
