//! How the outputs of a convolution are cut into tiles, and tiles are numbered and blocked.
//!
//! Tiles are numbered over the whole call: image by image, then row by row. A block is any range of those numbers; it may
//! start in the middle of a row and span images, so that its size can be chosen for the caches and the micro-kernel alone.

use std::ops::Range;

/// The tiles of all images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    /// Images.
    pub(super) images: usize,
    /// Tile rows of an image.
    pub(super) rows: usize,
    /// Tiles in a row.
    pub(super) columns: usize,
}

/// The tiles of a block that lie in one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The image.
    pub(super) image: usize,
    /// Tiles, numbered inside the image.
    tiles: Range<usize>,
    /// Number of the first of them inside the block.
    offset: usize,
    /// Tiles in a row of the image.
    columns: usize,
}

/// Neighbouring tiles of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// Tile row.
    pub(super) row: usize,
    /// Tile columns.
    pub(super) columns: Range<usize>,
    /// Number of the first tile inside the block.
    pub(super) offset: usize,
}

impl Grid {
    /// Tiles with `step` x `step` outputs over images of `height` x `width` outputs; the last ones may hang over the edge.
    pub(super) fn new(images: usize, height: usize, width: usize, step: usize) -> Self {
        Self { images, rows: height.div_ceil(step), columns: width.div_ceil(step) }
    }

    /// Tiles of all images.
    pub(super) fn total(&self) -> usize {
        self.images * self.rows * self.columns
    }

    /// The images that the tiles `block` lie in, each with its share.
    pub(super) fn parts(&self, block: Range<usize>) -> impl Iterator<Item = Part> + use<> {
        let (per_image, columns) = (self.rows * self.columns, self.columns);
        let images = block.start / per_image..block.end.div_ceil(per_image);
        images.map(move |image| {
            let base = image * per_image;
            let tiles = block.start.max(base)..block.end.min(base + per_image);
            let offset = tiles.start - block.start;
            Part { image, tiles: tiles.start - base..tiles.end - base, offset, columns }
        })
    }
}

impl Part {
    /// Tile rows.
    pub(super) fn rows(&self) -> Range<usize> {
        self.tiles.start / self.columns..self.tiles.end.div_ceil(self.columns)
    }

    /// The tile columns that any of the rows reaches.
    pub(super) fn columns(&self) -> Range<usize> {
        let rows = self.rows();
        if rows.len() == 1 {
            let base = rows.start * self.columns;
            self.tiles.start - base..self.tiles.end - base
        } else {
            0..self.columns
        }
    }

    /// The tiles row by row.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + use<> {
        let (tiles, columns, offset) = (self.tiles.clone(), self.columns, self.offset);
        self.rows().map(move |row| {
            let base = row * columns;
            let run = tiles.start.max(base)..tiles.end.min(base + columns);
            Run { row, columns: run.start - base..run.end - base, offset: offset + run.start - tiles.start }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any cut into blocks visits every tile once, in order, with consecutive numbers inside each block.
    #[test]
    fn blocks_cover_all_tiles_once() {
        for (images, height, width, step) in [(1, 35, 35, 4), (3, 7, 13, 6), (2, 4, 4, 4), (5, 1, 9, 4)] {
            let grid = Grid::new(images, height, width, step);
            for size in [1, 2, 5, 7, 50, 1000] {
                let mut seen = Vec::new();
                for start in (0..grid.total()).step_by(size) {
                    let block = start..(start + size).min(grid.total());
                    let mut next = 0;
                    for part in grid.parts(block.clone()) {
                        for run in part.runs() {
                            assert_eq!(run.offset, next);
                            assert!(part.rows().contains(&run.row));
                            assert!(
                                run.columns.start >= part.columns().start
                                    && run.columns.end <= part.columns().end
                            );
                            next += run.columns.len();
                            seen.extend(run.columns.map(|column| (part.image, run.row, column)));
                        }
                    }
                    assert_eq!(next, block.len());
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
