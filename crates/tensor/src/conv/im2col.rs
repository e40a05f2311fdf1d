//! Convolution as a matrix product: the windows of an image become the columns of a matrix.
//!
//! With `columns` the C/groups KH KW x OH OW matrix of all windows of one image, per image and group:
//! `y = w columns`, `dw = sum over images of dy columns^T`, and `dx` is `w^T dy` with each entry added back to the pixel it
//! came from (col2im). A 1x1 convolution of stride 1 has `columns = x`, so nothing is copied.
//!
//! This is the portable path: generic over the element, on the `matrixmultiply` crate, serial. Each pass panics if a slice does
//! not have the geometry's length.

use std::sync::Arc;

use super::ConvGeometry;
use crate::buffer_pool::BufferPool;
use crate::element::Element;

/// Calls `each` with the pieces of the window matrix of one group of one image that lie inside the image: where a piece begins in
/// the matrix (row (c, u, v), column (i, j)), where in the image (C/groups x H x W), and its length. Neighbors of a piece are
/// neighbors in the matrix and a stride apart in the image.
fn for_each_piece(g: &ConvGeometry, mut each: impl FnMut(usize, usize, usize)) {
    let ([h, w], [oh, ow], [kh, kw]) = (g.input, g.output(), g.kernel);
    for row in 0..g.patch() {
        let (c, u, v) = (row / (kh * kw), row / kw % kh, row % kw);
        // Output columns whose source lies inside the image.
        let from = (0..ow).find(|&j| g.source(1, j, v).is_some()).unwrap_or(ow);
        let to = (from..ow).find(|&j| g.source(1, j, v).is_none()).unwrap_or(ow);
        for i in 0..oh {
            if let (Some(y), Some(x)) = (g.source(0, i, u), g.source(1, from, v)) {
                each((row * oh + i) * ow + from, (c * h + y) * w + x, to - from);
            }
        }
    }
}

/// The window matrix of one group of one image: written to `columns`, or the image itself if the convolution is pointwise.
fn im2col<'a, T: Element>(g: &ConvGeometry, x: &'a [T], columns: &'a mut [T]) -> &'a [T] {
    if g.is_pointwise() {
        return x;
    }
    columns.fill(T::ZERO);
    for_each_piece(g, |column, pixel, len| {
        let pixels = x[pixel..].iter().step_by(g.stride[1]);
        columns[column..column + len].iter_mut().zip(pixels).for_each(|(column, &x)| *column = x);
    });
    columns
}

/// Adds each entry of a window matrix to the pixel it came from. `dx` is C/groups x H x W.
pub(super) fn col2im<T: Element>(g: &ConvGeometry, columns: &[T], dx: &mut [T]) {
    for_each_piece(g, |column, pixel, len| {
        let pixels = dx[pixel..].iter_mut().step_by(g.stride[1]);
        pixels.zip(&columns[column..column + len]).for_each(|(dx, &column)| *dx += column);
    });
}

/// One group of one image: where its part of each array begins, and how long it is.
struct ImageGroup {
    x: std::ops::Range<usize>,
    y: std::ops::Range<usize>,
    w: std::ops::Range<usize>,
}

fn image_groups(g: &ConvGeometry) -> impl Iterator<Item = ImageGroup> {
    let x = g.input_len() / g.n.max(1) / g.groups;
    let y = g.output_len() / g.n.max(1) / g.groups;
    let w = g.weight_len() / g.groups;
    let groups = g.groups;
    (0..g.n * groups).map(move |part| {
        let group = part % groups;
        ImageGroup { x: part * x..(part + 1) * x, y: part * y..(part + 1) * y, w: group * w..(group + 1) * w }
    })
}

/// The output, N x O x OH x OW, overwritten, of a convolution with a bias of O elements.
pub(super) fn forward<T: Element>(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
) {
    assert_eq!([x.len(), w.len(), y.len()], [g.input_len(), g.weight_len(), g.output_len()]);
    let (m, k, n) = (g.c_out / g.groups, g.patch(), g.out_pixels());
    let mut columns = pool.take::<T>(if g.is_pointwise() { 0 } else { k * n });
    if let Some(bias) = bias {
        for (plane, y) in y.chunks_exact_mut(n).enumerate() {
            y.fill(bias[plane % g.c_out]);
        }
    }
    for part in image_groups(g) {
        let b = im2col(g, &x[part.x], &mut columns);
        T::matmul([m, k, n], (&w[part.w], [k, 1]), (b, [n, 1]), &mut y[part.y], bias.is_some());
    }
}

/// The gradient with respect to the input, N x C x H x W, overwritten.
pub(super) fn input_gradient<T: Element>(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    dy: &[T],
    w: &[T],
    dx: &mut [T],
) {
    assert_eq!([dx.len(), w.len(), dy.len()], [g.input_len(), g.weight_len(), g.output_len()]);
    let (m, k, n) = (g.patch(), g.c_out / g.groups, g.out_pixels());
    let mut columns = pool.take::<T>(if g.is_pointwise() { 0 } else { m * n });
    for part in image_groups(g) {
        let (w, dy, dx) = ((&w[part.w], [1, m]), (&dy[part.y], [n, 1]), &mut dx[part.x]);
        if g.is_pointwise() {
            T::matmul([m, k, n], w, dy, dx, false);
        } else {
            T::matmul([m, k, n], w, dy, &mut columns, false);
            dx.fill(T::ZERO);
            col2im(g, &columns, dx);
        }
    }
}

/// The gradient with respect to the weight, O x C/groups x KH x KW, overwritten.
pub(super) fn weight_gradient<T: Element>(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
) {
    assert_eq!([x.len(), dw.len(), dy.len()], [g.input_len(), g.weight_len(), g.output_len()]);
    let (m, k, n) = (g.c_out / g.groups, g.out_pixels(), g.patch());
    let mut columns = pool.take::<T>(if g.is_pointwise() { 0 } else { k * n });
    if g.n == 0 {
        dw.fill(T::ZERO);
    }
    for (index, part) in image_groups(g).enumerate() {
        let b = im2col(g, &x[part.x], &mut columns);
        let later_image = index >= g.groups;
        T::matmul([m, k, n], (&dy[part.y], [k, 1]), (b, [1, k]), &mut dw[part.w], later_image);
    }
}
