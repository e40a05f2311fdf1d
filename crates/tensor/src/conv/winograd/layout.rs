//! Places of values on their way: the planes of the Winograd domain, and tiles halfway into or out of it.

use std::cmp::Reverse;
use std::sync::Arc;

use super::tiles::{Extent, Grid, TileRun};
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::{Isa, Registers};

/// Channels of transformed and partially transformed inputs are padded to this many, so that every vector unit fits.
pub(super) const CHANNEL_ALIGNMENT: usize = 16;

/// Values between blocks of `len` values that a tile touches all at once: an odd number of cache lines. The same place of
/// neighboring blocks then never maps to the same cache sets, as it would with the powers of two that channel counts like to be.
fn odd_lines(len: usize) -> usize {
    (len.div_ceil(16) | 1) * 16
}

/// Planes, each a matrix of `rows` rows (tiles, or channels summed over), its columns (channels) in panels of `width`: a panel is
/// stored whole, row after row, before the next one.
///
/// Transformed inputs have a single panel. Transformed weights, output gradients and products have panels as wide as
/// the micro-kernel, which then reads them from front to back.
#[derive(Debug)]
pub(super) struct Planes {
    rows: usize,
    /// Columns of a panel.
    pub(super) width: usize,
    pub(super) panels: usize,
    /// Values between planes.
    pub(super) stride: usize,
    /// The planes; the contents are unspecified at first.
    pub(super) values: Buffer<f32>,
}

impl Planes {
    /// `count` planes of `rows` rows and `panels` panels of `width` columns, in memory of `pool`.
    pub(super) fn new(
        pool: &Arc<BufferPool>,
        count: usize,
        rows: usize,
        [width, panels]: [usize; 2],
    ) -> Self {
        let stride = odd_lines(rows * width * panels);
        Self { rows, width, panels, stride, values: pool.take(count * stride) }
    }

    /// The place of row 0 of `channel` in plane 0; row `i` is `i * width` further.
    #[inline(always)]
    pub(super) fn column(&self, channel: usize) -> usize {
        channel / self.width * (self.rows * self.width) + channel % self.width
    }

    /// Columns of all panels.
    pub(super) fn columns(&self) -> usize {
        self.width * self.panels
    }

    /// The vectors of a plane, of the first `columns` columns, panel by panel and row by row: row, first column, and place.
    pub(super) fn vectors(
        &self,
        columns: usize,
        lanes: usize,
    ) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let Self { rows, width, panels, .. } = *self;
        let panel_rows = move |panel| (0..rows).map(move |row| (panel, row));
        (0..panels).flat_map(panel_rows).flat_map(move |(panel, row)| {
            let (first, place) = (panel * width, (panel * rows + row) * width);
            let vectors = (0..width).step_by(lanes).map(move |i| (row, first + i, place + i));
            vectors.take_while(move |&(_, column, _)| column < columns)
        })
    }

    /// The place of panel `panel` in plane `plane`.
    pub(super) fn panel(&self, plane: usize, panel: usize) -> usize {
        plane * self.stride + panel * self.rows * self.width
    }
}

/// The width and number of panels for so many columns: of the widths that the micro-kernel has, the widest that pads least.
pub(super) fn panels(columns: usize, isa: Isa) -> [usize; 2] {
    let Registers { lanes, tile_rows, .. } = Registers::of(isa);
    let widths =
        (2..tile_rows.len()).filter(|&vectors| tile_rows[vectors] > 0).map(|vectors| vectors * lanes);
    let widest = widths.min_by_key(|&width| (columns.next_multiple_of(width), Reverse(width)));
    let width = widest.expect("every instruction set has a tile of two vectors");
    [width, columns.div_ceil(width)]
}

/// The partially transformed tiles of a block: along columns, not yet (or no longer) along rows.
///
/// `n` rows of each tile, and of every row a line of pixels over all runs of neighboring tiles: `[n][channel /
/// LANES][pixel][LANES]`. The row `i` of planes is made from row `i` here alone, and on the way back makes row `i` alone. So the
/// multiplication goes row by row of planes, and the `n` planes in use stay in the second-level cache, with all of the channels;
/// only these leave it, about half as large as the `n * n` planes would be, since tiles side by side share the columns in which
/// they overlap, and outputs are fewer than inputs.
#[derive(Debug)]
pub(super) struct PartialTiles {
    /// The pixels that tiles have along their row.
    extent: Extent,
    /// Pixels of a line.
    pub(super) pixels: usize,
    /// Values of a row.
    pub(super) stride: usize,
    /// The rows.
    pub(super) values: Buffer<f32>,
}

impl PartialTiles {
    /// For any block of `grid`, in memory of `pool`.
    pub(super) fn new(pool: &Arc<BufferPool>, grid: Grid, extent: Extent, channels: usize) -> Self {
        let pixels = grid.size * extent.step + grid.runs() * (extent.taps - extent.step);
        let stride = odd_lines(pixels * channels.next_multiple_of(CHANNEL_ALIGNMENT));
        Self { extent, pixels, stride, values: pool.take(grid.tile.inputs() * stride) }
    }

    /// The place where `run` begins in row 0, for the channels from `first` on, a multiple of `lanes`.
    #[inline(always)]
    pub(super) fn at(&self, first: usize, run: &TileRun, lanes: usize) -> usize {
        first * self.pixels + self.extent.pixels_before(run) * lanes
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tile;
    use super::*;

    #[test]
    fn panels_pad_as_little_as_they_can() {
        let Some(isa) = Isa::available().into_iter().find(|isa| Registers::of(*isa).lanes == 16) else {
            return;
        };
        for (columns, width) in
            [(256, 64), (384, 64), (96, 48), (192, 64), (144, 48), (32, 32), (160, 32), (10, 32)]
        {
            assert_eq!(panels(columns, isa), [width, columns.div_ceil(width)], "{columns} columns");
        }
    }

    #[test]
    fn planes_are_an_odd_number_of_cache_lines_apart() {
        for rows in [1, 16, 81] {
            for channels in [1usize, 16, 96, 256] {
                let width = channels.next_multiple_of(CHANNEL_ALIGNMENT);
                let planes = Planes::new(&BufferPool::new(), 3, rows, [width, 1]);
                assert_eq!(planes.stride / 16 % 2, 1);
                assert!(planes.stride >= rows * channels);
                assert_eq!(planes.stride % 16, 0);
                assert_eq!(planes.values.len(), 3 * planes.stride);
            }
        }
    }

    /// Runs lie one after the other, whatever the block, and all fit.
    #[test]
    fn runs_fill_a_line_without_gaps() {
        for (tile, images, outputs) in
            [(Tile::F5x5K5x5, 1, [35, 35]), (Tile::F6x6K3x3, 3, [7, 13]), (Tile::F4x4K3x3, 2, [9, 30])]
        {
            for size in [1, 2, 5, 7, 50, 1000] {
                let mut grid = Grid::new(tile, images, outputs, 1, 1);
                grid.size = size;
                for extent in [Extent::inputs(tile), Extent::outputs(tile)] {
                    let partial = PartialTiles::new(&BufferPool::new(), grid, extent, 16);
                    for block in grid.blocks() {
                        let mut next = 0;
                        for run in block.runs() {
                            assert_eq!(partial.at(0, &run, 1), next);
                            next += extent.pixels(run.columns.len());
                        }
                        assert!(next <= partial.pixels, "{next} pixels of {}", partial.pixels);
                    }
                }
            }
        }
    }

    #[test]
    fn rows_of_partial_tiles_are_an_odd_number_of_cache_lines_apart() {
        let grid = Grid::new(Tile::F5x5K5x5, 4, [35, 35], 49, 1);
        for channels in [1, 96, 256] {
            let partial = PartialTiles::new(&BufferPool::new(), grid, Extent::inputs(grid.tile), channels);
            assert_eq!(partial.stride % 32, 16);
            assert!(partial.stride >= partial.pixels * channels);
        }
    }
}
