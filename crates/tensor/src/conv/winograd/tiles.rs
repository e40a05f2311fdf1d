//! Tiles of the outputs of a convolution, their numbers, and blocks of them.
//!
//! Tiles are numbered over the whole call: image by image, then row by row. A block is any range of those numbers; it may
//! start in the middle of a row and span images, so that its size can be chosen for the caches and the micro-kernel alone.

use std::ops::Range;

use super::Tile;

/// The tiles of all images, and the blocks that they are cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grid {
    pub(super) tile: Tile,
    pub(super) images: usize,
    /// Tile rows of an image.
    rows: usize,
    /// Tiles in a row.
    columns: usize,
    /// Tiles of a block.
    pub(super) size: usize,
}

/// Neighboring tiles of a grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    grid: Grid,
    start: usize,
    end: usize,
}

/// A product in the Winograd domain: of one row of the planes of a block of tiles, all columns of that row, with one panel of the
/// other operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) block: Block,
    /// The row of planes.
    pub(super) row: usize,
    pub(super) panel: usize,
    /// The number of this product among those of the block, and how many these are.
    pub(super) share: [usize; 2],
}

/// The tile rows of a block in one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageRows {
    pub(super) image: usize,
    pub(super) rows: Range<usize>,
}

/// The tiles of a block in one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TileRun {
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) columns: Range<usize>,
    /// Tiles of the block in the runs before this one.
    pub(super) offset: usize,
    /// Runs of the block before this one.
    index: usize,
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
    /// The tiles of images with such outputs, `[height, width]`; the last ones may hang over the edge. A block of them has at
    /// most `most` tiles, or 24, rounded up to a multiple of `multiple`: the more there are, the fewer times the weights, or
    /// their sums, stream past.
    pub(super) fn new(tile: Tile, images: usize, outputs: [usize; 2], most: usize, multiple: usize) -> Self {
        let [rows, columns] = outputs.map(|outputs| outputs.div_ceil(tile.outputs()));
        let total = images * rows * columns;
        // Blocks of equal size, so that the last one is not a small rest.
        let size = total.div_ceil(total.div_ceil(most.max(24)).max(1)).next_multiple_of(multiple);
        Self { tile, images, rows, columns, size: size.min(total) }
    }

    pub(super) fn blocks(self) -> impl Iterator<Item = Block> {
        let total = self.images * self.rows * self.columns;
        (0..total).step_by(self.size.max(1)).map(move |start| self.block(start))
    }

    /// The products of a convolution, in the order of the loops of both passes: block by block, the pixels of which are
    /// transformed along their columns when it begins; row by row of `rows` rows of planes, which the transform along rows makes
    /// when the row begins, so that no more than one is in the cache; panel by panel.
    pub(super) fn steps(self, rows: usize, panels: usize) -> impl Iterator<Item = Step> {
        let count = rows * panels;
        self.blocks().flat_map(move |block| {
            (0..count).map(move |step| Step {
                block,
                row: step / panels,
                panel: step % panels,
                share: [step, count],
            })
        })
    }

    /// The block that begins with tile `start`.
    fn block(self, start: usize) -> Block {
        Block { grid: self, start, end: (start + self.size).min(self.images * self.rows * self.columns) }
    }

    /// Runs of a block at most: a block touches one row more than it fills if it starts inside a row.
    pub(super) fn runs(self) -> usize {
        self.size.saturating_sub(1).div_ceil(self.columns.max(1)) + 1
    }

    /// Pixels of all tiles that a block has in an image.
    pub(super) fn pixels(self) -> usize {
        let [rows, columns] = [self.runs().min(self.rows), self.columns].map(|tiles| tiles.max(1));
        Extent::inputs(self.tile).pixels(rows) * Extent::inputs(self.tile).pixels(columns)
    }
}

impl Step {
    pub(super) fn begins_block(self) -> bool {
        self.share[0] == 0
    }

    pub(super) fn begins_row(self) -> bool {
        self.panel == 0
    }

    pub(super) fn ends_block(self) -> bool {
        self.share[0] + 1 == self.share[1]
    }
}

impl Block {
    pub(super) fn len(self) -> usize {
        self.end - self.start
    }

    /// Tiles in a row of an image.
    pub(super) fn columns(self) -> usize {
        self.grid.columns
    }

    /// The tiles behind these, if there are any.
    pub(super) fn next(self) -> Option<Self> {
        Some(self.grid.block(self.end)).filter(|next| next.len() > 0)
    }

    /// Tile rows, numbered over all images.
    fn rows(self) -> Range<usize> {
        self.start / self.grid.columns..self.end.div_ceil(self.grid.columns)
    }

    /// The tiles row by row.
    #[inline(always)]
    pub(super) fn runs(self) -> impl Iterator<Item = TileRun> {
        self.runs_in(self.rows())
    }

    /// The tiles of such rows, row by row.
    #[inline(always)]
    pub(super) fn runs_of(self, part: &ImageRows) -> impl Iterator<Item = TileRun> + use<> {
        let base = part.image * self.grid.rows;
        self.runs_in(base + part.rows.start..base + part.rows.end)
    }

    #[inline(always)]
    fn runs_in(self, rows: Range<usize>) -> impl Iterator<Item = TileRun> {
        let Grid { rows: per_image, columns: width, .. } = self.grid;
        let first = self.rows().start;
        rows.map(move |row| {
            let base = row * width;
            let (start, end) = (self.start.max(base), self.end.min(base + width));
            let columns = start - base..end - base;
            let (image, row, index) = (row / per_image, row % per_image, row - first);
            TileRun { image, row, columns, offset: start - self.start, index }
        })
    }

    /// The tile rows, image by image.
    #[inline(always)]
    pub(super) fn image_rows(self) -> impl Iterator<Item = ImageRows> {
        let (per_image, rows) = (self.grid.rows, self.rows());
        (rows.start / per_image..rows.end.div_ceil(per_image)).map(move |image| {
            let base = image * per_image;
            let (start, end) = (rows.start.max(base), rows.end.min(base + per_image));
            ImageRows { image, rows: start - base..end - base }
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
    pub(super) fn pixels_before(self, run: &TileRun) -> usize {
        run.offset * self.step + run.index * (self.taps - self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Any cut into blocks visits every tile once, in order, with consecutive numbers inside each block.
    #[test]
    fn blocks_cover_all_tiles_once() {
        let tiles = [Tile::F4x4K5x5, Tile::F6x6K3x3, Tile::F4x4K3x3, Tile::F5x5K5x5];
        let sizes = [(1, 35, 35), (3, 7, 13), (2, 4, 4), (5, 1, 9)];
        for (tile, (images, height, width)) in tiles.into_iter().zip(sizes) {
            let step = tile.outputs();
            for size in [1, 2, 5, 7, 50, 1000] {
                let grid = Grid { size, ..Grid::new(tile, images, [height, width], 1, 1) };
                let mut seen = Vec::new();
                for block in grid.blocks() {
                    let (mut next, mut index) = (0, 0);
                    assert!(block.image_rows().flat_map(|part| block.runs_of(&part)).eq(block.runs()));
                    for part in block.image_rows() {
                        for run in block.runs_of(&part) {
                            assert_eq!((run.image, run.offset, run.index), (part.image, next, index));
                            assert!(part.rows.contains(&run.row));
                            next += run.columns.len();
                            index += 1;
                            seen.extend(run.columns.map(|column| (part.image, run.row, column)));
                        }
                    }
                    assert_eq!(next, block.len());
                    assert!(index <= grid.runs());
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
