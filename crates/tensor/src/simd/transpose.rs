//! Transposing matrices in memory, a square of registers at a time.

use super::{Isa, Kernel, Simd, dispatch};
use crate::element::fits;

/// Rows of neighboring values in a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows<'a> {
    /// The values, from the first row on.
    pub(crate) data: &'a [f32],
    /// Values between rows.
    pub(crate) stride: usize,
    /// Rows.
    pub(crate) rows: usize,
    /// Values of a row.
    pub(crate) columns: usize,
}

/// Writes row `i` of `from` to column `i` of `to`, whose rows are `stride` values apart; zeros to the columns from the number of
/// rows on until `width`. With `ADD` it adds instead.
///
/// # Panics
/// If a row does not lie inside of its slice.
#[inline(always)]
pub(crate) fn transpose<S: Simd, const ADD: bool>(
    s: S,
    from: Rows<'_>,
    to: &mut [f32],
    stride: usize,
    width: usize,
) {
    let Rows { data, stride: from_stride, rows, columns } = from;
    assert!(fits([rows, columns], [from_stride, 1], data.len()), "{rows} x {columns} values to transpose");
    assert!(
        rows <= width && fits([columns, width], [stride, 1], to.len()),
        "{columns} x {width} values of space"
    );
    let place = |row: usize, column: usize| data.as_ptr().wrapping_add(row * from_stride + column);
    for first in (0..width).step_by(S::LANES) {
        let (count, space) = (rows.saturating_sub(first).min(S::LANES), (width - first).min(S::LANES));
        for column in (0..columns).step_by(S::LANES) {
            let height = (columns - column).min(S::LANES);
            let mut square = s.square();
            // Whole squares get a copy of the loops without a condition; the conditions of the other stand inside of
            // loops over all lanes, which keeps the square in registers.
            if count == S::LANES && height == S::LANES {
                for i in 0..S::LANES {
                    // SAFETY: `LANES` values of row `first + i`, all of which are inside of the slice.
                    square.as_mut()[i] = unsafe { s.load_at(place(first + i, column)) };
                }
            } else {
                let lanes = Some(s.mask(height));
                for i in 0..S::LANES {
                    if i < count {
                        // SAFETY: `height` values of row `first + i`, all of which are inside of the slice.
                        square.as_mut()[i] = unsafe { s.load_lanes_at(place(first + i, column), lanes) };
                    }
                }
            }
            let square = s.transpose(square);
            let lanes = (space < S::LANES).then_some(s.mask(space));
            for i in 0..S::LANES {
                if i < height {
                    let (at, value) = (to[(column + i) * stride + first..].as_mut_ptr(), square.as_ref()[i]);
                    // SAFETY: `space` values of row `column + i` of the target, which are inside of the slice.
                    unsafe {
                        let value = if ADD { s.add(value, s.load_lanes_at(at, lanes)) } else { value };
                        s.store_lanes_at(at, lanes, value);
                    }
                }
            }
        }
    }
}

/// [`transpose`] with the vector unit of `isa`.
pub(crate) fn transpose_on(isa: Isa, from: Rows<'_>, to: &mut [f32], stride: usize, width: usize) {
    struct Transpose<'a>(Rows<'a>, &'a mut [f32], usize, usize);
    impl Kernel for Transpose<'_> {
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            transpose::<S, false>(s, self.0, self.1, self.2, self.3);
        }
    }
    dispatch(isa, Transpose(from, to, stride, width));
}
