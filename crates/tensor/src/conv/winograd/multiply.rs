//! The multiplication: in each of the `n * n` planes an independent matrix product, a panel of columns at a time.
//!
//! The multiplication keeps the processor busy for far longer than it takes to fetch a block's pixels, and the transforms
//! touch them in an order that the hardware does not foresee: some pixels of one row of many planes. So they are fetched into
//! the cache while it runs, spread over the planes, so that few are under way at a time.
#![allow(unsafe_code)]

use super::images::Images;
use super::layout::Planes;
use super::tiles::Block;
use crate::gemm;
use crate::gemm::kernel::{self, MicroTile};
use crate::simd::{Kernel, Simd};

/// `C = A B`, A of m rows and k columns, in each of `planes` planes. B and C are panels, given by their places in the first
/// plane.
pub(super) struct MultiplyPanel<'a> {
    pub(super) planes: usize,
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) a: &'a Planes,
    /// A lies transposed: its columns are the rows of the planes.
    pub(super) a_transposed: bool,
    pub(super) b: &'a Planes,
    /// This panel, and the one that is multiplied next, which is fetched during the last plane.
    pub(super) b_places: [usize; 2],
    pub(super) c: &'a mut Planes,
    pub(super) c_place: usize,
    /// Adds to C instead of overwriting it.
    pub(super) accumulate: bool,
    /// Pixels that are needed soon.
    pub(super) prefetch: [Option<PixelPrefetch<'a>>; 2],
}

impl Kernel for MultiplyPanel<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { planes, m, k, a, b, b_places, c, c_place, .. } = self;
        let width = b.width;
        let tile_rows = S::REGISTERS.tile_rows[width / S::LANES];
        assert!(width.is_multiple_of(S::LANES) && tile_rows > 0, "no tile is {width} columns wide");
        let values = |rows: usize| rows.checked_mul(width).expect("a panel fits into memory");
        let (b_len, c_len) = (values(k), values(m));
        let (a_strides, [rows, columns]) =
            if self.a_transposed { ([1, a.width], [k, m]) } else { ([a.width, 1], [m, k]) };
        let a_len = rows.checked_mul(a.width).expect("a panel fits into memory");
        assert!(columns <= a.width, "{m} x {k} values of A");
        let calls = m.div_ceil(tile_rows);
        let share = b_len / calls.max(1);
        let mut lines = [std::ptr::null(); QUEUE];
        for plane in 0..planes {
            let mut count = 0;
            for prefetch in self.prefetch.into_iter().flatten() {
                count = prefetch.queue([plane, planes], &mut lines, count);
            }
            let a = &a.values[plane * a.stride..][..a_len];
            let panel = &b.values[plane * b.stride + b_places[0]..][..b_len];
            let c = &mut c.values[plane * c.stride + c_place..][..c_len];
            let next = if plane + 1 < planes { (plane + 1) * b.stride + b_places[0] } else { b_places[1] };
            for (call, row) in (0..m).step_by(tile_rows).enumerate() {
                let prefetch = kernel::Prefetch {
                    // The next plane's panel is on its way to the cache while this one is in use.
                    panel: b.values.as_ptr().wrapping_add(next + call * share),
                    lines: share / 16,
                    others: &lines[count * call / calls..count * (call + 1) / calls],
                };
                let tile = MicroTile {
                    rows: tile_rows.min(m - row),
                    columns: width,
                    k,
                    a: a.as_ptr().wrapping_add(row * a_strides[0]),
                    a_strides,
                    b: panel.as_ptr(),
                    b_stride: width,
                    c: c[row * width..].as_mut_ptr(),
                    c_stride: width,
                    accumulate: self.accumulate,
                    prefetch: Some(prefetch),
                    ..MicroTile::OPEN
                };
                // SAFETY: A was sliced to its rows, or columns if it is transposed, of `a.width` values, of which no more are in
                // use; B and C to `k` and `m` rows of `width` values; and the tile's rows are among the `m`. C is borrowed
                // mutably.
                unsafe { tile.run(s) };
            }
        }
    }
}

/// The pixels under a block of tiles, fetched during several multiplications in equal shares: now one share of so many.
#[derive(Clone, Copy)]
pub(super) struct PixelPrefetch<'a>(pub(super) Images<'a>, pub(super) Block, pub(super) [usize; 2]);

/// Cache lines that are fetched during the multiplication of one plane at most.
const QUEUE: usize = 512;

impl PixelPrefetch<'_> {
    /// Queues the cache lines that belong to plane `plane` of `planes`, the pixels of some channels, behind the first `count`
    /// lines. Returns their number.
    #[inline(always)]
    fn queue(self, [plane, planes]: [usize; 2], lines: &mut [*const f32; QUEUE], mut count: usize) -> usize {
        let Self(images, block, [share, shares]) = self;
        let gemm::ChannelPlanes { data, channels, pixels, image_stride, .. } = images.planes;
        let [height, width] = images.size;
        let bound = |plane: usize| channels * (share * planes + plane) / (shares * planes);
        for part in block.image_rows() {
            let rows = images.pixels(0, &part.rows);
            let [from, to] = [rows.start, rows.end].map(|row| (row.max(0) as usize).min(height) * width);
            for channel in bound(plane)..bound(plane + 1) {
                let plane = part.image * image_stride + channel * pixels;
                for start in (plane + from..plane + to).step_by(16) {
                    if count < QUEUE {
                        lines[count] = data.as_ptr().wrapping_add(start);
                        count += 1;
                    }
                }
            }
        }
        count
    }
}
