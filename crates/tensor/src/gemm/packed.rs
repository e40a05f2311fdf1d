//! The left operand in packed form, made once and multiplied many times: weights.

use std::ops::Range;
use std::sync::Arc;

use super::microkernel::{MicroKernel, with_kernel};
use super::operand::Operand;
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::Isa;

/// The longest sum that is made in one go; longer ones are cut into equal blocks whose results are added up. A panel of
/// B of this depth fills most of a first-level cache. The same for every instruction set, since it decides how an
/// element's sum is rounded.
pub(crate) const MAX_DEPTH: usize = 256;

/// The blocks of a sum of length `depth`: equal up to one, none longer than [`MAX_DEPTH`], and one (empty) block for an
/// empty sum, whose result must still be written.
pub(crate) fn depth_blocks(depth: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = depth.div_ceil(MAX_DEPTH).max(1);
    (0..count).map(move |block| block * depth / count..(block + 1) * depth / count)
}

/// A partition of `len` lanes into tiles of at most `max` lanes, as equal as multiples of `unit` allow: no tile is a
/// sliver that would leave the multiply-add units waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
    len: usize,
    unit: usize,
    /// Whole units in the smaller tiles, and how many tiles have one more.
    units: usize,
    larger: usize,
    /// Tiles.
    pub(crate) count: usize,
}

impl Split {
    pub(crate) fn new(len: usize, unit: usize, max: usize) -> Self {
        let units = len.div_ceil(unit);
        let count = units.div_ceil(max / unit);
        Self { len, unit, units: units / count.max(1), larger: units % count.max(1), count }
    }

    pub(crate) fn range(&self, tile: usize) -> Range<usize> {
        // The first tiles are a unit larger. No division: this is asked for every tile.
        let bound = |tile: usize| ((tile * self.units + tile.min(self.larger)) * self.unit).min(self.len);
        bound(tile)..bound(tile + 1)
    }

    pub(crate) fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count).map(move |tile| self.range(tile))
    }
}

/// An `m x k` left operand in the order in which the micro-kernels of one instruction set read it: blocks of depth,
/// within them panels of rows, within them depth by depth.
#[derive(Debug)]
pub struct PackedA {
    isa: Isa,
    rows: usize,
    depth: usize,
    data: Buffer<f32>,
}

impl PackedA {
    /// Packs `a` for the kernels of `isa`, into memory from `pool`.
    #[must_use]
    pub fn new(pool: &Arc<BufferPool>, isa: Isa, a: &(impl Operand + ?Sized)) -> Self {
        let (rows, depth) = (a.lanes(), a.depth());
        let mut packed = Self { isa, rows, depth, data: pool.take(rows * depth) };
        packed.refill(a);
        packed
    }

    /// Packs another operand of the same sizes into the same memory.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn refill(&mut self, a: &(impl Operand + ?Sized)) {
        assert_eq!((a.lanes(), a.depth()), (self.rows, self.depth), "rows and depth of a packed matrix");
        let isa = self.isa;
        let split = self.split();
        for depths in depth_blocks(self.depth) {
            for rows in split.ranges() {
                let start = self.offset(&depths, rows.start);
                let panel = &mut self.data[start..][..rows.len() * depths.len()];
                a.pack(isa, rows.clone(), depths.clone(), rows.len(), panel);
            }
        }
    }

    /// m.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// k.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The instruction set it is packed for.
    #[must_use]
    pub fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn split(&self) -> Split {
        fn max_rows<K: MicroKernel>(_: K) -> usize {
            K::MR
        }
        Split::new(self.rows, 1, with_kernel!(self.isa, kernel => max_rows(kernel)))
    }

    /// Where the panel that begins at `row` lies in the block `depths`.
    fn offset(&self, depths: &Range<usize>, row: usize) -> usize {
        depths.start * self.rows + row * depths.len()
    }

    pub(crate) fn panel(&self, depths: &Range<usize>, rows: &Range<usize>) -> &[f32] {
        &self.data[self.offset(depths, rows.start)..][..rows.len() * depths.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_even_and_complete() {
        for (len, unit, max, sizes) in [
            (10, 1, 8, vec![5, 5]),
            (96, 1, 8, vec![8; 12]),
            (256, 16, 48, vec![48, 48, 48, 48, 32, 32]),
            (289, 16, 48, vec![48, 48, 48, 48, 48, 32, 17]),
            (5, 16, 48, vec![5]),
            (0, 16, 48, vec![]),
        ] {
            let ranges: Vec<_> = Split::new(len, unit, max).ranges().collect();
            assert_eq!(ranges.iter().map(Range::len).collect::<Vec<_>>(), sizes, "{len}");
            assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn blocks_of_a_sum_are_even_and_short() {
        for (depth, ends) in
            [(0, vec![0]), (256, vec![256]), (384, vec![192, 384]), (513, vec![171, 342, 513])]
        {
            let blocks: Vec<_> = depth_blocks(depth).collect();
            assert_eq!(blocks.iter().map(|block| block.end).collect::<Vec<_>>(), ends);
            assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start) && blocks[0].start == 0);
        }
    }
}
