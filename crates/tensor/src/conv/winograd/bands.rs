//! Tiles halfway into or out of the Winograd domain: transformed along columns, not yet (or no longer) along rows.
//!
//! `n` bands, each a line of pixels for every run of neighbouring tiles. The row of planes `i` is made from band `i` alone, and
//! on the way back makes band `i` alone. So the multiplication goes row by row of planes, and the `n` planes in use stay in the
//! second-level cache, with all of the channels; only bands leave it, about half as large as the `n * n` planes would be,
//! since tiles side by side share the columns in which they overlap, and outputs are fewer than inputs.

use super::Tile;
use super::tiling::{Grid, Run};
use std::ops::Range;

/// Bands of `columns` pixels and so many channels: `[n][channel / LANES][column][LANES]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bands {
    /// Pixels of a line, over all runs.
    columns: usize,
    /// Distance between bands.
    stride: usize,
}

/// Pixels that a run of tiles covers along its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Distance between tiles.
    pub(super) step: usize,
    /// Pixels of a tile.
    pub(super) taps: usize,
}

impl Extent {
    /// Pixels under `tiles` neighbouring tiles.
    #[inline(always)]
    pub(super) fn pixels(self, tiles: usize) -> usize {
        (tiles - 1) * self.step + self.taps
    }

    /// The pixel of its line at which a run of `block` begins. Each run before it has the overlap of its last tile besides.
    #[inline(always)]
    pub(super) fn start(self, grid: &Grid, block: &Range<usize>, image: usize, run: &Run) -> usize {
        let runs_before = image * grid.rows + run.row - block.start / grid.columns;
        run.offset * self.step + runs_before * (self.taps - self.step)
    }
}

impl Bands {
    /// For any block of up to `block` tiles.
    pub(super) fn new(grid: &Grid, block: usize, extent: Extent, channels: usize) -> Self {
        // A block touches one row more than it fills if it starts inside a row.
        let runs = block.saturating_sub(1).div_ceil(grid.columns.max(1)) + 1;
        let columns = block * extent.step + runs * (extent.taps - extent.step);
        // An odd number of cache lines, as between planes.
        let lines = (columns * channels.next_multiple_of(16)).div_ceil(16) | 1;
        Self { columns, stride: lines * 16 }
    }

    /// Values of all bands of `tile`.
    pub(super) fn len(&self, tile: Tile) -> usize {
        self.stride * tile.inputs()
    }

    /// Distance between bands.
    #[inline(always)]
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Where the channels from `first` on, a multiple of `lanes`, have their pixel `column` in band 0.
    #[inline(always)]
    pub(super) fn at(&self, first: usize, column: usize, lanes: usize) -> usize {
        first * self.columns + column * lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs lie one after the other, whatever the block, and all fit.
    #[test]
    fn runs_fill_a_line_without_gaps() {
        for (images, height, width, step, taps) in [(1, 35, 35, 5, 9), (3, 7, 13, 6, 8), (2, 9, 30, 4, 4)] {
            let (grid, extent) = (Grid::new(images, height, width, step), Extent { step, taps });
            for size in [1, 2, 5, 7, 50, 1000] {
                let bands = Bands::new(&grid, size, extent, 16);
                for start in (0..grid.total()).step_by(size) {
                    let block = start..(start + size).min(grid.total());
                    let mut next = 0;
                    for part in grid.parts(block.clone()) {
                        for run in part.runs() {
                            assert_eq!(extent.start(&grid, &block, part.image, &run), next);
                            next += extent.pixels(run.columns.len());
                        }
                    }
                    assert!(next <= bands.columns, "{next} pixels of {}", bands.columns);
                }
            }
        }
    }

    #[test]
    fn bands_are_an_odd_number_of_cache_lines_apart() {
        let grid = Grid::new(4, 35, 35, 5);
        for channels in [1, 96, 256] {
            let bands = Bands::new(&grid, 49, Extent { step: 5, taps: 9 }, channels);
            assert_eq!(bands.stride % 32, 16);
            assert!(bands.stride >= bands.columns * channels);
        }
    }
}
