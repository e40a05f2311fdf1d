//! How the outputs of a convolution are cut into tiles, and tiles are numbered and blocked.
//!
//! Tiles are numbered over the whole call: image by image, then row by row. A block is any range of those numbers; it may
//! start in the middle of a row and span images, so that its size can be chosen for the caches and the micro-kernel alone.

use std::ops::Range;

use super::Tile;

/// The tiles of all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Images.
    images: usize,
    /// Tile rows of an image.
    pub(super) rows: usize,
    /// Tiles in a row.
    pub(super) columns: usize,
}

/// Neighboring tiles of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    grid: Grid,
    start: usize,
    end: usize,
}

/// The rectangle of tiles in one image that a block reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The image.
    pub(super) image: usize,
    /// Tile rows.
    pub(super) rows: Range<usize>,
    /// Tile columns that any of the rows reaches.
    pub(super) columns: Range<usize>,
}

/// The tiles of a block in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The image.
    pub(super) image: usize,
    /// Tile row.
    pub(super) row: usize,
    /// Tile columns.
    pub(super) columns: Range<usize>,
    /// Tiles of the block in the runs before this one.
    pub(super) offset: usize,
    /// Runs of the block before this one.
    pub(super) index: usize,
}

/// The pixels of tiles along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Pixels between tiles.
    pub(super) step: usize,
    /// Pixels of a tile.
    pub(super) taps: usize,
}

impl Grid {
    /// Tiles of `step` x `step` outputs over images of `height` x `width` outputs; the last ones may hang over the edge.
    pub(super) fn new(images: usize, [height, width]: [usize; 2], step: usize) -> Self {
        Self { images, rows: height.div_ceil(step), columns: width.div_ceil(step) }
    }

    /// Tiles of all images.
    pub(super) fn total(&self) -> usize {
        self.images * self.rows * self.columns
    }

    /// Up to `size` tiles from `start` on.
    pub(super) fn block(self, start: usize, size: usize) -> Block {
        Block { grid: self, start, end: (start + size).min(self.total()) }
    }
}

impl Block {
    /// Tiles.
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }

    /// Up to `size` tiles behind these.
    pub(super) fn next(self, size: usize) -> Self {
        self.grid.block(self.end, size)
    }

    /// Tile rows, numbered over all images.
    fn rows(self) -> Range<usize> {
        self.start / self.grid.columns..self.end.div_ceil(self.grid.columns)
    }

    /// The tiles in the tile rows `rows`, numbered over all images.
    #[inline(always)]
    fn runs_in(self, rows: Range<usize>) -> impl Iterator<Item = Run> {
        let Grid { rows: per_image, columns, .. } = self.grid;
        let first = self.rows().start;
        rows.map(move |row| {
            let base = row * columns;
            let tiles = self.start.max(base)..self.end.min(base + columns);
            Run {
                image: row / per_image,
                row: row % per_image,
                columns: tiles.start - base..tiles.end - base,
                offset: tiles.start - self.start,
                index: row - first,
            }
        })
    }

    /// The tiles row by row.
    #[inline(always)]
    pub(super) fn runs(self) -> impl Iterator<Item = Run> {
        self.runs_in(self.rows())
    }

    /// The tiles of a part row by row.
    #[inline(always)]
    pub(super) fn runs_of(self, part: &Part) -> impl Iterator<Item = Run> + use<> {
        let base = part.image * self.grid.rows;
        self.runs_in(base + part.rows.start..base + part.rows.end)
    }

    /// The parts, image by image.
    #[inline(always)]
    pub(super) fn parts(self) -> impl Iterator<Item = Part> {
        let (Grid { rows: per_image, columns, .. }, rows) = (self.grid, self.rows());
        (rows.start / per_image..rows.end.div_ceil(per_image)).map(move |image| {
            let base = image * per_image;
            let own = rows.start.max(base)..rows.end.min(base + per_image);
            let columns = match self.runs_in(own.clone()).next() {
                Some(run) if own.len() == 1 => run.columns,
                _ => 0..columns,
            };
            Part { image, rows: own.start - base..own.end - base, columns }
        })
    }
}

impl Extent {
    /// Inputs: tiles overlap.
    pub(super) fn inputs(tile: Tile) -> Self {
        Self { step: tile.outputs(), taps: tile.inputs() }
    }

    /// Outputs: tiles lie side by side.
    pub(super) fn outputs(tile: Tile) -> Self {
        Self { step: tile.outputs(), taps: tile.outputs() }
    }

    /// Pixels under `tiles` neighboring tiles.
    #[inline(always)]
    pub(super) fn pixels(self, tiles: usize) -> usize {
        (tiles - 1) * self.step + self.taps
    }

    /// Pixels of the runs of a block before `run`. Each of them has the overlap of its last tile besides.
    #[inline(always)]
    pub(super) fn pixels_before(self, run: &Run) -> usize {
        run.offset * self.step + run.index * (self.taps - self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any cut into blocks visits every tile once, in order, with consecutive numbers inside each block.
    #[test]
    fn blocks_cover_all_tiles_once() {
        for (images, height, width, step) in [(1, 35, 35, 4), (3, 7, 13, 6), (2, 4, 4, 4), (5, 1, 9, 4)] {
            let grid = Grid::new(images, [height, width], step);
            for size in [1, 2, 5, 7, 50, 1000] {
                let mut seen = Vec::new();
                let mut block = grid.block(0, size);
                while block.len() > 0 {
                    let (mut next, mut index) = (0, 0);
                    assert!(block.parts().flat_map(|part| block.runs_of(&part)).eq(block.runs()));
                    for part in block.parts() {
                        for run in block.runs_of(&part) {
                            assert_eq!((run.image, run.offset, run.index), (part.image, next, index));
                            assert!(part.rows.contains(&run.row));
                            assert!(
                                run.columns.start >= part.columns.start
                                    && run.columns.end <= part.columns.end
                            );
                            next += run.columns.len();
                            index += 1;
                            seen.extend(run.columns.map(|column| (part.image, run.row, column)));
                        }
                    }
                    assert_eq!(next, block.len());
                    block = block.next(size);
                }
                let mut expected = Vec::new();
                for image in 0..images {
                    for row in 0..height.div_ceil(step) {
                        expected.extend((0..width.div_ceil(step)).map(|column| (image, row, column)));
                    }
                }
                assert_eq!(seen, expected);
            }
        }
    }
}
