//! Between pixels and the Winograd domain: `B^T d B` of input tiles, `A dY A^T` of output-gradient tiles, and back `A^T M A` of
//! products. On the way in first down the columns, into partially transformed tiles, then, one row of planes at a time, along
//! the rows; on the way out along the rows first.

use std::sync::Arc;

use super::Tile;
use super::blocks::Blocks;
use super::factored::{GradientSide, InputSide, OutputSide, Transform};
use super::images::{Images, channels_to_rows};
use super::layout::{PartialTiles, Planes};
use super::tiles::{Block, Extent};
use crate::buffer_pool::BufferPool;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// A kernel that is compiled for each tile size: `M` outputs, `R` taps and `N` inputs along each axis.
pub(super) trait TileKernel {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S);
}

/// Runs a kernel for `tile` with the vector unit of `isa`.
pub(super) fn dispatch_tile<K: TileKernel>(isa: Isa, tile: Tile, kernel: K) {
    struct Sized<K>(Tile, K);
    impl<K: TileKernel> Kernel for Sized<K> {
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            match self.0 {
                Tile::F5x5K5x5 => self.1.run::<S, 5, 5, 9>(s),
                Tile::F4x4K5x5 => self.1.run::<S, 4, 5, 8>(s),
                Tile::F6x6K3x3 => self.1.run::<S, 6, 3, 8>(s),
                Tile::F4x4K3x3 => self.1.run::<S, 4, 3, 6>(s),
            }
        }
    }
    dispatch(isa, Sized(tile, kernel));
}

/// Applies `T` `count` times. The vectors that it reads and writes are `stride` values apart, and so many `step` values further for
/// each turn: `[step, stride]`. With an epilogue, (bias, ReLU), what is written gets a bias and passes through ReLU.
#[inline(always)]
fn transform_line<S: Simd, T: Transform<FROM, TO>, const FROM: usize, const TO: usize>(
    s: S,
    count: usize,
    (from, [from_step, from_stride]): (&[f32], [usize; 2]),
    (to, [to_step, to_stride]): (&mut [f32], [usize; 2]),
    epilogue: Option<(S::Vector, bool)>,
) {
    for i in 0..count {
        let mut values = T::apply(s, s.load_strided(&from[i * from_step..], from_stride));
        if let Some((bias, relu)) = epilogue {
            for value in &mut values {
                *value = s.add(*value, bias);
                if relu {
                    // The second operand is what the maximum with a NaN is, so that it stays one and shows.
                    *value = s.max(s.splat(0.0), *value);
                }
            }
        }
        s.store_strided(values, &mut to[i * to_step..], to_stride);
    }
}

/// Images on their way into the domain, a block of tiles at a time: inputs, whose tiles overlap, or output gradients, whose tiles
/// lie side by side.
pub(super) struct Source<'a> {
    pub(super) images: Images<'a>,
    blocks: Blocks,
    partial: PartialTiles,
    /// The planes of one row. Columns past the last channel are zero, or unspecified where nobody multiplies them.
    pub(super) planes: Planes,
}

impl<'a> Source<'a> {
    /// Images whose planes have such panels, `[width, number]`.
    pub(super) fn new(
        pool: &Arc<BufferPool>,
        blocks: Blocks,
        images: Images<'a>,
        panels: [usize; 2],
    ) -> Self {
        let partial = blocks.partial(pool, images.extent, images.shape[0]);
        let mut planes = Planes::new(pool, blocks.tile.inputs(), blocks.size, panels);
        if planes.columns() > images.shape[0] {
            planes.values.fill(0.0);
        }
        Self { images, blocks, partial, planes }
    }

    /// Transforms the columns of a block's tiles. Adds the sum of their pixels to `sums`, if given, channel by channel: tiles must
    /// then lie side by side.
    pub(super) fn load_block(&mut self, block: Block, scratch: &mut [f32], sums: Option<&mut [f32]>) {
        let Blocks { isa, tile, .. } = self.blocks;
        dispatch_tile(isa, tile, LoadBlock { source: self, block, scratch, sums });
    }

    /// Transforms row `row` of the block's tiles into the planes.
    pub(super) fn row_into_planes(&mut self, block: Block, row: usize) {
        let Blocks { isa, tile, .. } = self.blocks;
        dispatch_tile(isa, tile, RowIntoPlanes { source: self, block, row });
    }
}

/// [`Source::load_block`].
struct LoadBlock<'s, 'a> {
    source: &'s mut Source<'a>,
    block: Block,
    scratch: &'s mut [f32],
    sums: Option<&'s mut [f32]>,
}

impl TileKernel for LoadBlock<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        if self.source.images.extent.taps == N {
            self.transform::<S, InputSide, N, N, M>(s);
        } else {
            self.transform::<S, GradientSide, M, N, M>(s);
        }
    }
}

impl LoadBlock<'_, '_> {
    #[inline(always)]
    fn transform<S, T, const TAPS: usize, const N: usize, const STEP: usize>(mut self, s: S)
    where
        S: Simd,
        T: Transform<TAPS, N>,
    {
        let Source { images, partial, .. } = self.source;
        let extent = Extent { step: STEP, taps: TAPS };
        for part in self.block.parts() {
            let (rows, columns) = (images.pixels(0, &part.rows), images.pixels(1, &part.columns));
            let line = columns.len() * S::LANES;
            let gathered = &mut self.scratch[..rows.len() * line];
            for first in (0..images.shape[0]).step_by(S::LANES) {
                images.gather(s, (part.image, first), [rows.clone(), columns.clone()], gathered);
                for run in self.block.runs_of(&part) {
                    let x = (run.columns.start - part.columns.start) * STEP;
                    let lines = &gathered[(run.row - part.rows.start) * STEP * line + x * S::LANES..];
                    let at = partial.at(first, &run, S::LANES);
                    let into = (&mut partial.values[at..], [S::LANES, partial.stride]);
                    let pixels = extent.pixels(run.columns.len());
                    transform_line::<S, T, TAPS, N>(s, pixels, (lines, [S::LANES, line]), into, None);
                    if let Some(sums) = &mut self.sums {
                        // What hangs over the edge is zero.
                        let mut total = s.splat(0.0);
                        for y in 0..STEP {
                            for pixel in lines[y * line..][..pixels * S::LANES].chunks_exact(S::LANES) {
                                total = s.add(total, s.load(pixel));
                            }
                        }
                        let end = sums.len().min(first + S::LANES);
                        let sums = &mut sums[first..end];
                        s.store_partial(s.add(total, s.load_partial(sums)), sums);
                    }
                }
            }
        }
    }
}

/// [`Source::row_into_planes`].
struct RowIntoPlanes<'s, 'a> {
    source: &'s mut Source<'a>,
    block: Block,
    row: usize,
}

impl TileKernel for RowIntoPlanes<'_, '_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        if self.source.images.extent.taps == N {
            self.transform::<S, InputSide, N, N, M>(s);
        } else {
            self.transform::<S, GradientSide, M, N, M>(s);
        }
    }
}

impl RowIntoPlanes<'_, '_> {
    #[inline(always)]
    fn transform<S, T, const TAPS: usize, const N: usize, const STEP: usize>(self, s: S)
    where
        S: Simd,
        T: Transform<TAPS, N>,
    {
        let Source { images, partial, planes, .. } = self.source;
        let (width, stride) = (planes.width, planes.stride);
        let row = &partial.values[self.row * partial.stride..][..partial.stride];
        for first in (0..images.shape[0]).step_by(S::LANES) {
            let column = planes.column(first);
            for run in self.block.runs() {
                let tiles = (&row[partial.at(first, &run, S::LANES)..], [STEP * S::LANES, S::LANES]);
                let into = (&mut planes.values[column + run.offset * width..], [width, stride]);
                transform_line::<S, T, TAPS, N>(s, run.columns.len(), tiles, into, None);
            }
        }
    }
}

/// Transforms row `row` of products, the channels from `first` on, along the rows of a block's tiles.
pub(super) struct PanelIntoPartial<'a> {
    /// The planes of a row: a panel, with the channels from `first` on, as far as the output has them.
    pub(super) products: &'a Planes,
    pub(super) partial: &'a mut PartialTiles,
    pub(super) block: Block,
    pub(super) row: usize,
    pub(super) first: usize,
    /// Channels of the output.
    pub(super) channels: usize,
}

impl TileKernel for PanelIntoPartial<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let Self { products, partial, block, row, first: panel, channels } = self;
        let (width, stride) = (products.width, products.stride);
        let row = &mut partial.values[row * partial.stride..][..partial.stride];
        // Tiles lie side by side, in all runs.
        for first in (panel..channels.min(panel + width)).step_by(S::LANES) {
            let tiles = (&products.values[first - panel..], [width, stride]);
            let into = (&mut row[first * partial.pixels..], [M * S::LANES, S::LANES]);
            transform_line::<S, OutputSide, N, M>(s, block.len(), tiles, into, None);
        }
    }
}

/// Transforms the columns of a block's products and writes its outputs.
pub(super) struct StoreBlock<'a> {
    pub(super) partial: &'a PartialTiles,
    pub(super) block: Block,
    /// One per channel, and whether ReLU follows.
    pub(super) epilogue: (Option<&'a [f32]>, bool),
    /// `[N, C, H, W]`.
    pub(super) out: &'a mut [f32],
    /// `[C, H, W]`.
    pub(super) shape: [usize; 3],
    pub(super) scratch: &'a mut [f32],
}

impl TileKernel for StoreBlock<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let Self { partial, block, epilogue: (bias, relu), out, shape, scratch } = self;
        let [channels, height, width] = shape;
        for first in (0..channels).step_by(S::LANES) {
            let count = (channels - first).min(S::LANES);
            let bias = bias.map_or(s.splat(0.0), |bias| s.load_partial(&bias[first..first + count]));
            for run in block.runs() {
                let columns = run.columns.start * M..(run.columns.end * M).min(width);
                let rows = run.row * M..((run.row + 1) * M).min(height);
                let line = columns.len() * S::LANES;
                let lines = &mut scratch[..M * line];
                let tiles = &partial.values[partial.at(first, &run, S::LANES)..];
                transform_line::<S, OutputSide, N, M>(
                    s,
                    columns.len(),
                    (tiles, [S::LANES, partial.stride]),
                    (lines, [S::LANES, line]),
                    Some((bias, relu)),
                );
                let start = ((run.image * channels + first) * height + rows.start) * width + columns.start;
                // Whole rows follow each other in the image, too.
                let at_once = if columns.len() == width { rows.len() } else { 1 };
                for y in (0..rows.len()).step_by(at_once) {
                    let (lines, out) = (&lines[y * line..][..at_once * line], &mut out[start + y * width..]);
                    channels_to_rows::<S, false>(s, lines, out, height * width, count);
                }
            }
        }
    }
}
