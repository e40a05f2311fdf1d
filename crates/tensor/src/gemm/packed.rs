//! A in packed form, made once and multiplied many times: weights.

use std::ops::Range;
use std::sync::Arc;

use super::KC;
use super::operand::Operand;
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::{Isa, Registers};

/// The blocks of loop 4: equal up to one, none longer than [`KC`], and one (empty) block for an empty sum, whose result must
/// still be written.
pub(super) fn blocks_of_k(k: usize) -> impl ExactSizeIterator<Item = Range<usize>> + Clone {
    let count = k.div_ceil(KC).max(1);
    (0..count).map(move |block| block * k / count..(block + 1) * k / count)
}

/// A partition of rows or columns into tiles of at most `max`, as equal as multiples of `unit` allow: no tile is a sliver that
/// would leave the multiply-add units waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    len: usize,
    unit: usize,
    /// Whole units in the smaller tiles, and how many tiles have one more.
    units: usize,
    larger: usize,
    /// Tiles.
    pub(super) count: usize,
}

impl Split {
    pub(super) fn new(len: usize, unit: usize, max: usize) -> Self {
        let units = len.div_ceil(unit);
        let count = units.div_ceil(max / unit);
        Self { len, unit, units: units / count.max(1), larger: units % count.max(1), count }
    }

    pub(super) fn range(&self, tile: usize) -> Range<usize> {
        // The first tiles are a unit larger. No division: this is asked for every tile.
        let bound = |tile: usize| ((tile * self.units + tile.min(self.larger)) * self.unit).min(self.len);
        bound(tile)..bound(tile + 1)
    }

    pub(super) fn ranges(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count).map(move |tile| self.range(tile))
    }
}

/// A of m rows and k columns in the order in which the kernels of one instruction set read it: blocks of k, within them panels
/// of rows, within them column by column.
#[derive(Debug)]
pub(crate) struct PackedA {
    /// The instruction set it is packed for.
    pub(super) isa: Isa,
    /// m.
    pub(super) rows: usize,
    /// k.
    pub(super) k: usize,
    /// The panels: some MR rows each.
    pub(super) panels: Split,
    data: Buffer<f32>,
}

impl PackedA {
    /// Packs `a` for the kernels of `isa`, into memory from `pool`.
    pub(crate) fn new(pool: &Arc<BufferPool>, isa: Isa, a: &(impl Operand + ?Sized)) -> Self {
        let (rows, k) = (a.extent(), a.k());
        let panels = Split::new(rows, 1, Registers::of(isa).mr());
        let mut packed = Self { isa, rows, k, panels, data: pool.take(rows * k) };
        packed.refill(a);
        packed
    }

    /// Packs another operand of the same sizes into the same memory.
    ///
    /// # Panics
    /// If the sizes differ.
    pub(crate) fn refill(&mut self, a: &(impl Operand + ?Sized)) {
        assert_eq!((a.extent(), a.k()), (self.rows, self.k), "rows and columns of a packed matrix");
        for ks in blocks_of_k(self.k) {
            for rows in self.panels.ranges() {
                let panel = self.place(&ks, &rows);
                a.pack(self.isa, rows.clone(), ks.clone(), rows.len(), &mut self.data[panel]);
            }
        }
    }

    fn place(&self, ks: &Range<usize>, rows: &Range<usize>) -> Range<usize> {
        let start = ks.start * self.rows + rows.start * ks.len();
        start..start + rows.len() * ks.len()
    }

    /// The columns `ks`, a block of k, of the rows of a panel.
    pub(super) fn panel(&self, ks: &Range<usize>, rows: &Range<usize>) -> &[f32] {
        &self.data[self.place(ks, rows)]
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
        for (k, ends) in [(0, vec![0]), (256, vec![256]), (384, vec![192, 384]), (513, vec![171, 342, 513])] {
            let blocks: Vec<_> = blocks_of_k(k).collect();
            assert_eq!(blocks.iter().map(|block| block.end).collect::<Vec<_>>(), ends);
            assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start) && blocks[0].start == 0);
        }
    }
}
