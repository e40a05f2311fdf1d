//! The multiplication: in each of the `n * n` planes an independent matrix product, a panel of columns at a time.

#![allow(unsafe_code)]

use super::ahead::{Ahead, Queue};
use crate::gemm::kernel::{Prefetch, Tile};
use crate::simd::{Kernel, Simd};

/// How the left matrix lies in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// `rows` rows of `depth` neighbouring values, `stride` apart.
    Rows {
        /// Distance between rows.
        stride: usize,
    },
    /// Transposed: `depth` rows of `rows` neighbouring values, `stride` apart.
    Columns {
        /// Distance between the values summed over.
        stride: usize,
    },
}

/// `product = left * right` (or `+=`) in every plane. `right` and `product` are panels of `width` columns, stored
/// row after row, of `depth` and `rows` rows.
pub(super) struct MultiplyPlanes<'a> {
    pub(super) planes: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) width: usize,
    pub(super) left: &'a [f32],
    pub(super) left_layout: Left,
    /// Distance between planes of `left`.
    pub(super) left_stride: usize,
    pub(super) right: &'a [f32],
    pub(super) right_stride: usize,
    pub(super) product: &'a mut [f32],
    pub(super) product_stride: usize,
    /// Adds to `product` instead of overwriting it.
    pub(super) add: bool,
    /// What is multiplied next, after these planes: fetched during the last one.
    pub(super) then: &'a [f32],
    /// Other pixels that are needed soon, fetched meanwhile.
    pub(super) ahead: [Option<Ahead<'a>>; 2],
}

impl Kernel for MultiplyPlanes<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (rows, depth, width) = (self.rows, self.depth, self.width);
        let tile_rows = S::REGISTERS.tile_rows[width / S::LANES];
        assert!(width.is_multiple_of(S::LANES) && tile_rows > 0, "no tile is {width} columns wide");
        let (left_strides, end) = match self.left_layout {
            Left::Rows { stride } => ([stride, 1], rows.saturating_sub(1) * stride + depth),
            Left::Columns { stride } => ([1, stride], depth.saturating_sub(1) * stride + rows),
        };
        let calls = rows.div_ceil(tile_rows);
        let share = depth * width / calls.max(1);
        let mut queue = Queue::new();
        for plane in 0..self.planes {
            queue.clear();
            for ahead in self.ahead.iter().flatten() {
                ahead.queue(plane, &mut queue);
            }
            let left = &self.left[plane * self.left_stride..];
            let right = &self.right[plane * self.right_stride..][..depth * width];
            let product = &mut self.product[plane * self.product_stride..][..rows * width];
            assert!(rows == 0 || depth == 0 || end <= left.len());
            let next = if plane + 1 < self.planes {
                right.as_ptr().wrapping_add(self.right_stride)
            } else {
                self.then.as_ptr()
            };
            for (call, row) in (0..rows).step_by(tile_rows).enumerate() {
                let product = &mut product[row * width..];
                let prefetch = Prefetch {
                    // The next plane's panel is on its way to the cache while this one is in use.
                    panel: next.wrapping_add(call * share),
                    lines: share / 16,
                    others: queue.share(call, calls),
                };
                let tile = Tile {
                    rows: tile_rows.min(rows - row),
                    columns: width,
                    k: depth,
                    a: left.as_ptr().wrapping_add(row * left_strides[0]),
                    a_strides: left_strides,
                    b: right.as_ptr(),
                    b_stride: width,
                    c: product.as_mut_ptr(),
                    c_stride: width,
                    accumulate: self.add,
                    prefetch: Some(prefetch),
                    ..Tile::OPEN
                };
                // SAFETY: the assertion above keeps the last value read of `left` inside of its slice, and `right` and `product`
                // were sliced to their rows, of which the tile has no more than there are.
                unsafe { tile.run(s) };
            }
        }
    }
}
