//! Pixels that a transform will touch after the multiplication, fetched into the cache while it runs.
//!
//! The multiplication keeps the processor busy for far longer than it takes to fetch a block's pixels, and the transforms
//! touch them in an order that the hardware does not foresee: some pixels of one row of many planes. The addresses are
//! spread over the planes of the multiplication, so that few are under way at a time.

use super::tiling::Grid;
use std::ops::Range;

/// Some channels of the pixels under some tiles.
#[derive(Clone)]
pub(super) struct Ahead<'a> {
    /// `[N, C, H, W]`, and perhaps a mask of the same shape.
    pub(super) data: &'a [f32],
    pub(super) mask: Option<&'a [f32]>,
    /// `[C, H, W]`.
    pub(super) shape: [usize; 3],
    pub(super) channels: Range<usize>,
    pub(super) grid: Grid,
    pub(super) tiles: Range<usize>,
    /// A tile's first row of pixels is `step * row - before`, and it has `extent` of them.
    pub(super) step: usize,
    pub(super) before: usize,
    pub(super) extent: usize,
    /// The pixels are fetched in `shares` shares, of which the first plane of this multiplication fetches number `first`.
    pub(super) first: usize,
    pub(super) shares: usize,
}

/// Lines of the cache that are to be fetched, a few at a time.
pub(super) struct Queue {
    lines: [*const f32; QUEUE],
    count: usize,
}

/// Lines that wait at most; what does not fit is not fetched ahead.
const QUEUE: usize = 512;

impl Queue {
    /// No lines.
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { lines: [std::ptr::null(); QUEUE], count: 0 }
    }

    /// Forgets all lines.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    #[inline(always)]
    fn push(&mut self, line: *const f32) {
        if self.count < QUEUE {
            self.lines[self.count] = line;
            self.count += 1;
        }
    }

    /// Share `share` of `shares` of the lines.
    #[inline(always)]
    pub(super) fn share(&self, share: usize, shares: usize) -> &[*const f32] {
        let bound = |share: usize| self.count * share / shares;
        &self.lines[bound(share)..bound(share + 1)]
    }
}

impl Ahead<'_> {
    /// Queues what belongs to `plane` of the multiplication.
    #[inline(always)]
    pub(super) fn queue(&self, plane: usize, queue: &mut Queue) {
        let [channels, height, width] = self.shape;
        let share = self.first + plane;
        let bound = |share: usize| self.channels.start + self.channels.len() * share / self.shares;
        for part in self.grid.parts(self.tiles.clone()) {
            let rows = part.rows();
            let from = (rows.start * self.step).saturating_sub(self.before).min(height);
            let to = (((rows.end - 1) * self.step + self.extent).saturating_sub(self.before)).min(height);
            for channel in bound(share)..bound(share + 1) {
                let plane = (part.image * channels + channel) * height * width;
                let pixels = plane + from * width..plane + to * width;
                for start in pixels.step_by(16) {
                    queue.push(self.data.as_ptr().wrapping_add(start));
                    if let Some(mask) = self.mask {
                        queue.push(mask.as_ptr().wrapping_add(start));
                    }
                }
            }
        }
    }
}
