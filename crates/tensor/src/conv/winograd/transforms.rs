//! Between pixels and the Winograd domain: `B^T d B` of input tiles, `A dY A^T` of output-gradient tiles, and back `A^T M A` of
//! products. On the way in first down the columns, into partially transformed tiles, then, one row of planes at a time, along
//! the rows; on the way out along the rows first.

use std::sync::Arc;

use super::Tile;
use super::factored::{OutputSide, Transform};
use super::images::{Images, channels_to_rows};
use super::layout::{PartialTiles, Planes};
use super::tiles::{Block, Extent, Grid};
use crate::buffer_pool::BufferPool;
use crate::gemm::{self, Epilogue};
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// A kernel that is compiled for each tile size: `M` outputs, `R` taps and `N` inputs along each axis.
pub(super) trait TileKernel {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S);
}

/// Runs a kernel for `tile` with the vector unit of `isa`.
pub(super) fn dispatch_tile<K: TileKernel>(isa: Isa, tile: Tile, kernel: K) {
    struct ForTile<K, const M: usize, const R: usize, const N: usize>(K);
    impl<K: TileKernel, const M: usize, const R: usize, const N: usize> Kernel for ForTile<K, M, R, N> {
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            self.0.run::<S, M, R, N>(s);
        }
    }
    match tile {
        Tile::F5x5K5x5 => dispatch(isa, ForTile::<K, 5, 5, 9>(kernel)),
        Tile::F4x4K5x5 => dispatch(isa, ForTile::<K, 4, 5, 8>(kernel)),
        Tile::F6x6K3x3 => dispatch(isa, ForTile::<K, 6, 3, 8>(kernel)),
        Tile::F4x4K3x3 => dispatch(isa, ForTile::<K, 4, 3, 6>(kernel)),
    }
}

/// Applies `T` `count` times. The vectors that it reads and writes are `stride` values apart, and so many `step` values further
/// for each turn: `[step, stride]`. With an epilogue, (bias, ReLU), what is written gets a bias and passes through ReLU.
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
                    *value = s.relu(*value);
                }
            }
        }
        s.store_strided(values, &mut to[i * to_step..], to_stride);
    }
}

/// Images on their way into the domain, a block of tiles at a time: inputs, whose tiles overlap, or output gradients, whose tiles
/// lie side by side.
pub(super) struct InputTransform<'a> {
    pub(super) images: Images<'a>,
    partial: PartialTiles,
    /// The `n` planes of one row. Columns past the last channel are zero.
    pub(super) planes: Planes,
}

impl<'a> InputTransform<'a> {
    /// Images whose planes have such panels, `[width, number]`.
    pub(super) fn new(pool: &Arc<BufferPool>, grid: Grid, images: Images<'a>, panels: [usize; 2]) -> Self {
        let partial = PartialTiles::new(pool, grid, images.extent, images.planes.channels);
        let mut planes = Planes::new(pool, grid.tile.inputs(), grid.size, panels);
        if planes.columns() > images.planes.channels {
            planes.values.fill(0.0);
        }
        Self { images, partial, planes }
    }

    /// Transforms the columns of a block's tiles. Adds the sum of their pixels to `sums`, if given, channel by channel: tiles
    /// must then lie side by side.
    #[inline(always)]
    pub(super) fn load_block<S: Simd, T: Transform<TAPS, N>, const TAPS: usize, const N: usize>(
        &mut self,
        s: S,
        block: Block,
        scratch: &mut [f32],
        mut sums: Option<&mut [f32]>,
    ) {
        let Self { images, partial, .. } = self;
        let Extent { step, .. } = images.extent;
        for part in block.image_rows() {
            let (rows, columns) = (images.pixels(0, &part.rows), images.pixels(1, &(0..block.columns())));
            let line = columns.len() * S::LANES;
            let gathered = &mut scratch[..rows.len() * line];
            for first in (0..images.planes.channels).step_by(S::LANES) {
                images.gather(s, (part.image, first), [rows.clone(), columns.clone()], gathered);
                for run in block.runs_of(&part) {
                    let x = run.columns.start * step * S::LANES;
                    let lines = &gathered[(run.row - part.rows.start) * step * line + x..];
                    let at = partial.at(first, &run, S::LANES);
                    let into = (&mut partial.values[at..], [S::LANES, partial.stride]);
                    let pixels = images.extent.pixels(run.columns.len());
                    transform_line::<S, T, TAPS, N>(s, pixels, (lines, [S::LANES, line]), into, None);
                    if let Some(sums) = &mut sums {
                        // What hangs over the edge is zero.
                        let mut total = s.splat(0.0);
                        for y in 0..step {
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

    /// Transforms row `row` of the block's tiles into the planes.
    #[inline(always)]
    pub(super) fn row_into_planes<S: Simd, T: Transform<TAPS, N>, const TAPS: usize, const N: usize>(
        &mut self,
        s: S,
        block: Block,
        row: usize,
    ) {
        let Self { images, partial, planes } = self;
        let (step, width, stride) = (images.extent.step, planes.width, planes.stride);
        let row = &partial.values[row * partial.stride..][..partial.stride];
        for first in (0..images.planes.channels).step_by(S::LANES) {
            let column = planes.column(first);
            for run in block.runs() {
                let tiles = (&row[partial.at(first, &run, S::LANES)..], [step * S::LANES, S::LANES]);
                let into = (&mut planes.values[column + run.offset * width..], [width, stride]);
                transform_line::<S, T, TAPS, N>(s, run.columns.len(), tiles, into, None);
            }
        }
    }
}

/// Products on their way out of the domain, to maps in memory.
pub(super) struct OutputTransform<'a> {
    pub(super) maps: Maps<'a>,
    partial: PartialTiles,
}

/// Feature maps that are written: some channels of images.
pub(super) struct Maps<'a> {
    /// From the first of the channels of the first image on.
    pub(super) data: &'a mut [f32],
    pub(super) channels: usize,
    /// `[H, W]`.
    pub(super) size: [usize; 2],
    pub(super) image_stride: usize,
}

impl Maps<'_> {
    /// The same as images to read, under the tiles of `grid`.
    pub(super) fn as_images(&self, grid: Grid) -> Images<'_> {
        let Self { ref data, channels, size, image_stride } = *self;
        let pixels = size[0] * size[1];
        let planes = gemm::ChannelPlanes { data, images: grid.images, channels, pixels, image_stride };
        Images { planes, size, extent: Extent::outputs(grid.tile), padding: [0; 2] }
    }
}

impl<'a> OutputTransform<'a> {
    /// A way out to `maps`.
    pub(super) fn new(pool: &Arc<BufferPool>, grid: Grid, maps: Maps<'a>) -> Self {
        let partial = PartialTiles::new(pool, grid, Extent::outputs(grid.tile), maps.channels);
        Self { maps, partial }
    }

    /// Transforms the products of a row of planes, the channels from `first` on, along the rows of the tiles.
    #[inline(always)]
    pub(super) fn store_panel<S: Simd, const N: usize, const M: usize>(
        &mut self,
        s: S,
        products: &Planes,
        (block, row, first): (Block, usize, usize),
    ) {
        let Self { partial, maps } = self;
        let (width, stride) = (products.width, products.stride);
        let row = &mut partial.values[row * partial.stride..][..partial.stride];
        // Tiles lie side by side, in all runs.
        for channel in (first..(first + width).min(maps.channels)).step_by(S::LANES) {
            let tiles = (&products.values[channel - first..], [width, stride]);
            let into = (&mut row[channel * partial.pixels..], [M * S::LANES, S::LANES]);
            transform_line::<S, OutputSide, N, M>(s, block.len(), tiles, into, None);
        }
    }

    /// Transforms the columns of a block's products and writes its outputs, with a bias, one per channel, and ReLU if asked for.
    #[inline(always)]
    pub(super) fn store_block<S: Simd, const N: usize, const M: usize>(
        &mut self,
        s: S,
        block: Block,
        Epilogue { bias, relu }: Epilogue<'_>,
        scratch: &mut [f32],
    ) {
        let Self { maps, partial } = self;
        let (channels, [height, width]) = (maps.channels, maps.size);
        for first in (0..channels).step_by(S::LANES) {
            let count = (channels - first).min(S::LANES);
            let bias = bias.map_or(s.splat(0.0), |bias| s.load_partial(&bias[first..first + count]));
            for run in block.runs() {
                let columns = run.columns.start * M..(run.columns.end * M).min(width);
                let rows = run.row * M..((run.row + 1) * M).min(height);
                let line = columns.len() * S::LANES;
                let lines = &mut scratch[..M * line];
                let tiles =
                    (&partial.values[partial.at(first, &run, S::LANES)..], [S::LANES, partial.stride]);
                let (into, epilogue) = ((&mut *lines, [S::LANES, line]), Some((bias, relu)));
                transform_line::<S, OutputSide, N, M>(s, columns.len(), tiles, into, epilogue);
                let start =
                    run.image * maps.image_stride + (first * height + rows.start) * width + columns.start;
                // Whole rows follow each other in the image, too.
                let at_once = if columns.len() == width { rows.len() } else { 1 };
                for y in (0..rows.len()).step_by(at_once) {
                    let lines = &lines[y * line..][..at_once * line];
                    let out = &mut maps.data[start + y * width..];
                    channels_to_rows::<S, false>(s, lines, out, height * width, count);
                }
            }
        }
    }
}
