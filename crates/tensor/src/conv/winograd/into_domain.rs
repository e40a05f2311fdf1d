//! Pixels into the Winograd domain: `B^T d B` of input tiles, `A dY A^T` of output-gradient tiles. First down the columns, into
//! bands; then, one row of planes at a time, along the rows.

use super::Tile;
use super::bands::{Bands, Extent};
use super::channel_lanes::Images;
use super::factored::{GradientSide, InputSide, Transform};
use super::layout::Planes;
use super::tiling::Grid;
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// What a tile of pixels is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// `n x n` inputs that overlap their neighbours', starting `padding` before the first output: `B^T d B`.
    Input {
        /// Zeros before the first row and column.
        padding: [usize; 2],
    },
    /// `m x m` output gradients, side by side: `A dY A^T`.
    Gradient,
}

impl Side {
    /// Pixels of a tile along an axis, and from one tile to the next.
    pub(super) fn extent(self, tile: Tile) -> Extent {
        let taps = match self {
            Self::Input { .. } => tile.inputs(),
            Self::Gradient => tile.outputs(),
        };
        Extent { step: tile.outputs(), taps }
    }
}

/// A step into the domain, for tiles of `TAPS` pixels along each axis that lie `STEP` apart.
trait Step {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn transform<S, T, const TAPS: usize, const N: usize, const STEP: usize>(self, s: S)
    where
        S: Simd,
        T: Transform<TAPS, N>;
}

/// Runs `step` with the transform and the sizes of `side` and `tile`.
#[inline(always)]
fn sized<S: Simd, P: Step>(side: Side, tile: Tile, step: P, s: S) {
    match (side, tile) {
        (Side::Input { .. }, Tile::F5x5K5x5) => step.transform::<S, InputSide, 9, 9, 5>(s),
        (Side::Input { .. }, Tile::F4x4K5x5) => step.transform::<S, InputSide, 8, 8, 4>(s),
        (Side::Input { .. }, Tile::F6x6K3x3) => step.transform::<S, InputSide, 8, 8, 6>(s),
        (Side::Input { .. }, Tile::F4x4K3x3) => step.transform::<S, InputSide, 6, 6, 4>(s),
        (Side::Gradient, Tile::F5x5K5x5) => step.transform::<S, GradientSide, 5, 9, 5>(s),
        (Side::Gradient, Tile::F4x4K5x5) => step.transform::<S, GradientSide, 4, 8, 4>(s),
        (Side::Gradient, Tile::F6x6K3x3) => step.transform::<S, GradientSide, 6, 8, 6>(s),
        (Side::Gradient, Tile::F4x4K3x3) => step.transform::<S, GradientSide, 4, 6, 4>(s),
    }
}

/// Transforms the columns under the tiles `block` of all channels, into bands.
pub(super) struct IntoBands<'a> {
    pub(super) tile: Tile,
    pub(super) side: Side,
    pub(super) images: Images<'a>,
    pub(super) grid: Grid,
    pub(super) block: Range<usize>,
    pub(super) bands: Bands,
    pub(super) out: &'a mut [f32],
    /// Scratch of at least [`scratch_len`].
    pub(super) scratch: &'a mut [f32],
    /// If given, the sum of all pixels of the tiles is added, channel by channel.
    pub(super) sums: Option<&'a mut [f32]>,
}

/// Scratch that [`IntoBands`] and [`super::from_domain::FromBands`] need for blocks of up to `block` tiles.
pub(super) fn scratch_len(tile: Tile, grid: &Grid, block: usize) -> usize {
    let (n, m) = (tile.inputs(), tile.outputs());
    let rows = grid.rows.min(block.div_ceil(grid.columns.max(1)) + 1);
    let width = grid.columns * m + n;
    (rows * m + n) * width * 16
}

impl Kernel for IntoBands<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        sized(self.side, self.tile, self, s);
    }
}

impl Step for IntoBands<'_> {
    #[inline(always)]
    fn transform<S, T, const TAPS: usize, const N: usize, const STEP: usize>(mut self, s: S)
    where
        S: Simd,
        T: Transform<TAPS, N>,
    {
        let extent = Extent { step: STEP, taps: TAPS };
        let origin = match self.side {
            Side::Input { padding } => padding.map(|p| p as isize),
            Side::Gradient => [0; 2],
        };
        let pixels = |tiles: &Range<usize>, axis: usize| {
            let start = (tiles.start * STEP) as isize - origin[axis];
            start..start + extent.pixels(tiles.len()) as isize
        };
        let channels = self.images.channels.next_multiple_of(S::LANES);
        for part in self.grid.parts(self.block.clone()) {
            let (part_rows, part_columns) = (part.rows(), part.columns());
            let (rows, columns) = (pixels(&part_rows, 0), pixels(&part_columns, 1));
            let width = columns.len();
            let gathered = &mut self.scratch[..rows.len() * width * S::LANES];
            for first in (0..channels).step_by(S::LANES) {
                self.images.gather(s, part.image, first, rows.clone(), columns.clone(), gathered);
                for run in part.runs() {
                    let at = (run.row - part_rows.start) * STEP * width
                        + (run.columns.start - part_columns.start) * STEP;
                    let lines = &gathered[at * S::LANES..];
                    let start = extent.start(&self.grid, &self.block, part.image, &run);
                    let band = &mut self.out[self.bands.at(first, start, S::LANES)..];
                    for x in 0..extent.pixels(run.columns.len()) {
                        let pixels = s.load_strided(&lines[x * S::LANES..], width * S::LANES);
                        let values = T::apply(s, pixels);
                        s.store_strided(values, &mut band[x * S::LANES..], self.bands.stride());
                    }
                    if let Some(sums) = &mut self.sums {
                        // Gradient tiles lie side by side, and what hangs over the edge is zero.
                        let size = run.columns.len() * STEP;
                        let mut total = s.splat(0.0);
                        for line in 0..STEP {
                            for pixel in
                                lines[line * width * S::LANES..][..size * S::LANES].chunks_exact(S::LANES)
                            {
                                total = s.add(total, s.load(pixel));
                            }
                        }
                        let end = sums.len().min(first + S::LANES);
                        let sums = &mut sums[first.min(end)..end];
                        s.store_partial(s.add(total, s.load_partial(sums)), sums);
                    }
                }
            }
        }
    }
}

/// Transforms a band along the rows of its tiles: the planes of one row, all channels.
pub(super) struct BandIntoPlanes<'a> {
    pub(super) tile: Tile,
    pub(super) side: Side,
    pub(super) grid: Grid,
    pub(super) block: Range<usize>,
    pub(super) bands: Bands,
    /// The band: as long as the distance to the next.
    pub(super) band: &'a [f32],
    pub(super) channels: usize,
    pub(super) layout: Planes,
    /// `n` planes.
    pub(super) out: &'a mut [f32],
}

impl Kernel for BandIntoPlanes<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        sized(self.side, self.tile, self, s);
    }
}

impl Step for BandIntoPlanes<'_> {
    #[inline(always)]
    fn transform<S, T, const TAPS: usize, const N: usize, const STEP: usize>(self, s: S)
    where
        S: Simd,
        T: Transform<TAPS, N>,
    {
        let extent = Extent { step: STEP, taps: TAPS };
        // The planes' columns, zeros where there is no channel: as many as the bands have at least.
        for first in (0..self.layout.columns()).step_by(S::LANES) {
            let out = &mut self.out[self.layout.column(first)..];
            let exists = first < self.channels;
            for part in self.grid.parts(self.block.clone()) {
                for run in part.runs() {
                    let start = extent.start(&self.grid, &self.block, part.image, &run);
                    for t in 0..run.columns.len() {
                        let values: [S::Vector; N] = if exists {
                            let at = self.bands.at(first, start + t * STEP, S::LANES);
                            T::apply(s, s.load_strided(&self.band[at..], S::LANES))
                        } else {
                            [s.splat(0.0); N]
                        };
                        let row = (run.offset + t) * self.layout.width;
                        s.store_strided(values, &mut out[row..], self.layout.stride);
                    }
                }
            }
        }
    }
}
