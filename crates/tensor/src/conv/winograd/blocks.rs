//! The loop nest of all passes: blocks of tiles, rows of planes, panels of channels.

use std::sync::Arc;

use super::Tile;
use super::images::Images;
use super::layout::{CHANNEL_ALIGNMENT, PartialTiles};
use super::multiply::Prefetch;
use super::tiles::{Block, Extent, Grid};
use super::transforms::Source;
use crate::buffer_pool::BufferPool;
use crate::simd::Isa;

/// The tiles of a call, cut into blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blocks {
    pub(super) tile: Tile,
    pub(super) isa: Isa,
    grid: Grid,
    /// Tiles of a block.
    pub(super) size: usize,
}

impl Blocks {
    /// Blocks of as many tiles as fit `row_bytes` with `values` values in each plane of a row; a multiple of `rows`, or all tiles if
    /// they are few. The more there are, the fewer times the weights, or their sums, stream past.
    pub(super) fn new(
        (tile, isa): (Tile, Isa),
        grid: Grid,
        values: usize,
        row_bytes: usize,
        rows: usize,
    ) -> Self {
        let most = (row_bytes / (tile.inputs() * values * size_of::<f32>())).max(24);
        let total = grid.total();
        // Blocks of equal size, so that the last one is not a small rest.
        let size = total.div_ceil(total.div_ceil(most).max(1));
        Self { tile, isa, grid, size: size.next_multiple_of(rows).min(total.max(1)) }
    }

    /// The partially transformed tiles of a block.
    pub(super) fn partial(&self, pool: &Arc<BufferPool>, extent: Extent, channels: usize) -> PartialTiles {
        PartialTiles::new(pool, self.tile, (self.grid, self.size), extent, channels)
    }

    /// Takes blocks of inputs through the domain, transformed for rows of `panels` panels, and `pass` with them.
    pub(super) fn run(
        &self,
        pool: &Arc<BufferPool>,
        images: Images<'_>,
        panels: usize,
        pass: &mut impl PanelPass,
    ) {
        let (n, m) = (self.tile.inputs(), self.tile.outputs());
        let channels = images.shape[0].next_multiple_of(CHANNEL_ALIGNMENT);
        let mut inputs = Source::new(pool, *self, images, [channels, 1]);
        // All pixels under a block, in the widest vectors.
        let rows = self.grid.rows.min(self.size.div_ceil(self.grid.columns.max(1)) + 1);
        let mut scratch = pool.take((rows * m + n) * (self.grid.columns * m + n) * 16);
        let mut block = self.grid.block(0, self.size);
        while block.len() > 0 {
            inputs.load_block(block, &mut scratch, None);
            pass.begin_block(block, &mut scratch);
            let next = block.next(self.size);
            for row in 0..n {
                inputs.row_into_planes(block, row);
                pass.begin_row(block, row);
                for panel in 0..panels {
                    let turn =
                        Turn { block, next, row, panel, step: row * panels + panel, steps: n * panels };
                    pass.multiply(&inputs, turn);
                }
            }
            pass.end_block(block, &mut scratch);
            block = next;
        }
    }
}

/// A turn of the innermost loop.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) block: Block,
    /// The block that follows, which may be empty.
    pub(super) next: Block,
    /// Row of planes.
    pub(super) row: usize,
    pub(super) panel: usize,
    /// Number of the turn in its block,
    pub(super) step: usize,
    /// of so many.
    pub(super) steps: usize,
}

impl Turn {
    /// The pixels of the next block, if there is one, to be fetched bit by bit.
    pub(super) fn prefetch<'a>(&self, images: &Images<'a>) -> Option<Prefetch<'a>> {
        let Self { next, step, steps, .. } = *self;
        (next.len() > 0).then_some(Prefetch { images: *images, block: next, step, steps })
    }
}

/// The factor of the inputs in the domain, and what becomes of the products.
pub(super) trait PanelPass {
    /// The block is about to be multiplied.
    fn begin_block(&mut self, _block: Block, _scratch: &mut [f32]) {}

    /// A row of its planes is.
    fn begin_row(&mut self, _block: Block, _row: usize) {}

    /// Multiplies the row of planes of the inputs with a panel.
    fn multiply(&mut self, inputs: &Source<'_>, turn: Turn);

    /// All of the block is multiplied.
    fn end_block(&mut self, block: Block, scratch: &mut [f32]);
}
