//! The multiplication: in each of the `n * n` planes an independent matrix product, a panel of columns at a time.
//!
//! The multiplication keeps the processor busy for far longer than it takes to fetch a block's pixels, and the transforms
//! touch them in an order that the hardware does not foresee: some pixels of one row of many planes. So they are fetched into
//! the cache while it runs, spread over the planes, so that few are under way at a time.
#![allow(unsafe_code)]

use super::images::Images;
use super::tiles::Block;
use crate::gemm::kernel::{self, Tile};
use crate::simd::{Kernel, Simd};

/// `C = A B`, A of m rows and k columns, in each of `planes` planes. Planes lie the second number of values apart. B and C are panels
/// of `width` columns, stored row after row.
pub(super) struct MultiplyPanel<'a> {
    pub(super) planes: usize,
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) width: usize,
    pub(super) a: (&'a [f32], usize),
    /// Values between rows and between columns of A, one of which is 1.
    pub(super) a_strides: [usize; 2],
    pub(super) b: (&'a [f32], usize),
    pub(super) c: (&'a mut [f32], usize),
    /// Adds to C instead of overwriting it.
    pub(super) accumulate: bool,
    /// What is multiplied next, after these planes: fetched during the last one.
    pub(super) next: &'a [f32],
    /// Pixels that are needed soon.
    pub(super) prefetch: [Option<Prefetch<'a>>; 2],
}

impl Kernel for MultiplyPanel<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { planes, m, k, width, a_strides, .. } = self;
        let tile_rows = S::REGISTERS.tile_rows[width / S::LANES];
        assert!(width.is_multiple_of(S::LANES) && tile_rows > 0, "no tile is {width} columns wide");
        let values = |rows: usize| rows.checked_mul(width).expect("a panel fits into memory");
        let (b_len, c_len) = (values(k), values(m));
        let a_end = |[i, p]: [usize; 2]| {
            i.checked_mul(a_strides[0])?.checked_add(p.checked_mul(a_strides[1])?)?.checked_add(1)
        };
        let a_len = if m == 0 || k == 0 { Some(0) } else { a_end([m - 1, k - 1]) };
        let calls = m.div_ceil(tile_rows);
        let share = b_len / calls.max(1);
        let mut lines = Lines { addresses: [std::ptr::null(); QUEUE], count: 0 };
        for plane in 0..planes {
            lines.count = 0;
            for prefetch in self.prefetch.iter().flatten() {
                prefetch.queue([plane, planes], &mut lines);
            }
            let a = &self.a.0[plane * self.a.1..];
            let b = &self.b.0[plane * self.b.1..][..b_len];
            let c = &mut self.c.0[plane * self.c.1..][..c_len];
            assert!(a_len.is_some_and(|len| len <= a.len()), "{m} x {k} values of A");
            let next = if plane + 1 < planes { &self.b.0[(plane + 1) * self.b.1..] } else { self.next };
            for (call, row) in (0..m).step_by(tile_rows).enumerate() {
                let prefetch = kernel::Prefetch {
                    // The next plane's panel is on its way to the cache while this one is in use.
                    panel: next.as_ptr().wrapping_add(call * share),
                    lines: share / 16,
                    others: lines.share(call, calls),
                };
                let tile = Tile {
                    rows: tile_rows.min(m - row),
                    columns: width,
                    k,
                    a: a.as_ptr().wrapping_add(row * a_strides[0]),
                    a_strides,
                    b: b.as_ptr(),
                    b_stride: width,
                    c: c[row * width..].as_mut_ptr(),
                    c_stride: width,
                    accumulate: self.accumulate,
                    prefetch: Some(prefetch),
                    ..Tile::OPEN
                };
                // SAFETY: the last value of A, in row `m - 1` and column `k - 1`, was found inside of its slice; B and C were sliced
                // to `k` and `m` rows of `width` columns; and rows `row..row + tile.rows` are among the `m`. C is borrowed mutably.
                unsafe { tile.run(s) };
            }
        }
    }
}

/// The pixels under a block of tiles, fetched during `steps` multiplications in equal shares, of which this is number `step`.
#[derive(Clone, Copy)]
pub(super) struct Prefetch<'a> {
    pub(super) images: Images<'a>,
    pub(super) block: Block,
    pub(super) step: usize,
    pub(super) steps: usize,
}

impl Prefetch<'_> {
    /// Queues what belongs to plane `plane` of `planes`: the pixels of some channels.
    #[inline(always)]
    fn queue(&self, [plane, planes]: [usize; 2], lines: &mut Lines) {
        let [channels, height, width] = self.images.shape;
        let share = self.step * planes + plane;
        let bound = |share: usize| channels * share / (self.steps * planes);
        for part in self.block.parts() {
            let rows = self.images.pixels(0, &part.rows);
            let [from, to] = [rows.start, rows.end].map(|row| (row.max(0) as usize).min(height));
            for channel in bound(share)..bound(share + 1) {
                let plane = (part.image * channels + channel) * height * width;
                for start in (plane + from * width..plane + to * width).step_by(16) {
                    lines.push(self.images.data.as_ptr().wrapping_add(start));
                    if let Some(mask) = self.images.mask {
                        lines.push(mask.as_ptr().wrapping_add(start));
                    }
                }
            }
        }
    }
}

/// Cache lines that are to be fetched while a plane is multiplied.
struct Lines {
    addresses: [*const f32; QUEUE],
    count: usize,
}

/// Lines that wait at most; what does not fit is not fetched.
const QUEUE: usize = 512;

impl Lines {
    #[inline(always)]
    fn push(&mut self, line: *const f32) {
        if self.count < QUEUE {
            self.addresses[self.count] = line;
            self.count += 1;
        }
    }

    /// Share `share` of `shares` of the lines.
    #[inline(always)]
    fn share(&self, share: usize, shares: usize) -> &[*const f32] {
        let bound = |share: usize| self.count * share / shares;
        &self.addresses[bound(share)..bound(share + 1)]
    }
}
