//! Pixels into the Winograd domain: `B^T d B` of input tiles, `A dY A^T` of output-gradient tiles.

use super::Tile;
use super::channel_lanes::Images;
use super::factored::{GradientSide, InputSide, Transform};
use super::lanes::{Job, Lanes, Vector};
use super::layout::Planes;
use super::strided::{load_strided, store_strided};
use super::tiling::{Grid, Run};
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

/// Transforms the tiles `block` of all channels, as rows of the planes of `out`.
pub(super) struct IntoDomain<'a> {
    pub(super) tile: Tile,
    pub(super) side: Side,
    pub(super) images: Images<'a>,
    pub(super) grid: Grid,
    pub(super) block: Range<usize>,
    pub(super) layout: Planes,
    pub(super) out: &'a mut [f32],
    /// Scratch of at least [`scratch_len`].
    pub(super) scratch: &'a mut [f32],
    /// If given, the sum of all pixels of the tiles is added, channel by channel.
    pub(super) sums: Option<&'a mut [f32]>,
}

/// Scratch that [`IntoDomain`] and [`super::from_domain::FromDomain`] need for blocks of up to `block` tiles.
pub(super) fn scratch_len(tile: Tile, grid: &Grid, block: usize) -> usize {
    let (n, m) = (tile.inputs(), tile.outputs());
    let rows = grid.rows.min(block.div_ceil(grid.columns) + 1);
    let width = grid.columns * m + n;
    (rows * m + n + n) * width * 16
}

impl Job for IntoDomain<'_> {
    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) {
        match (self.side, self.tile) {
            (Side::Input { .. }, Tile::F5x5K5x5) => self.transform::<S, InputSide, 9, 9, 5>(lanes),
            (Side::Input { .. }, Tile::F4x4K5x5) => self.transform::<S, InputSide, 8, 8, 4>(lanes),
            (Side::Input { .. }, Tile::F6x6K3x3) => self.transform::<S, InputSide, 8, 8, 6>(lanes),
            (Side::Input { .. }, Tile::F4x4K3x3) => self.transform::<S, InputSide, 6, 6, 4>(lanes),
            (Side::Gradient, Tile::F5x5K5x5) => self.transform::<S, GradientSide, 5, 9, 5>(lanes),
            (Side::Gradient, Tile::F4x4K5x5) => self.transform::<S, GradientSide, 4, 8, 4>(lanes),
            (Side::Gradient, Tile::F6x6K3x3) => self.transform::<S, GradientSide, 6, 8, 6>(lanes),
            (Side::Gradient, Tile::F4x4K3x3) => self.transform::<S, GradientSide, 4, 6, 4>(lanes),
        }
    }
}

impl IntoDomain<'_> {
    /// Tiles of `TAPS` pixels along each axis, `STEP` apart.
    #[inline(always)]
    fn transform<S, T, const TAPS: usize, const N: usize, const STEP: usize>(mut self, lanes: S)
    where
        S: Lanes,
        T: Transform<TAPS, N>,
    {
        let origin = match self.side {
            Side::Input { padding } => padding.map(|p| p as isize),
            Side::Gradient => [0; 2],
        };
        let pixels = |tiles: &Range<usize>, axis: usize| {
            let start = (tiles.start * STEP) as isize - origin[axis];
            start..start + ((tiles.len() - 1) * STEP + TAPS) as isize
        };
        for part in self.grid.parts(self.block.clone()) {
            let (part_rows, part_columns) = (part.rows(), part.columns());
            let (rows, columns) = (pixels(&part_rows, 0), pixels(&part_columns, 1));
            let width = columns.len();
            let (gathered, band) = self.scratch.split_at_mut(rows.len() * width * S::LANES);
            for first in (0..self.layout.columns()).step_by(S::LANES) {
                self.images.gather(lanes, part.image, first, rows.clone(), columns.clone(), gathered);
                let out = &mut self.out[self.layout.column(first)..];
                for run in part.runs() {
                    let at = (run.row - part_rows.start) * STEP * width
                        + (run.columns.start - part_columns.start) * STEP;
                    let lines = &gathered[at * S::LANES..];
                    vertical::<S, T, TAPS, N>(
                        lanes,
                        lines,
                        width,
                        (run.columns.len() - 1) * STEP + TAPS,
                        band,
                    );
                    horizontal::<S, T, TAPS, N, STEP>(lanes, band, &run, &self.layout, out);
                    if let Some(sums) = &mut self.sums {
                        // Gradient tiles lie side by side, and what hangs over the edge is zero.
                        let size = run.columns.len() * STEP;
                        let mut total = lanes.splat(0.0);
                        for line in 0..STEP {
                            for pixel in
                                lines[line * width * S::LANES..][..size * S::LANES].chunks_exact(S::LANES)
                            {
                                total = total + lanes.load(pixel);
                            }
                        }
                        let end = sums.len().min(first + S::LANES);
                        let sums = &mut sums[first.min(end)..end];
                        (total + lanes.load_partial(sums)).store_partial(sums);
                    }
                }
            }
        }
    }
}

/// Transforms `columns` columns of `TAPS` pixels, the lines `width` apart, into `band`: `[N][columns][LANES]`.
///
/// Done before the horizontal direction, this part is shared by tiles whose columns overlap.
#[inline(always)]
fn vertical<S: Lanes, T: Transform<TAPS, N>, const TAPS: usize, const N: usize>(
    lanes: S,
    lines: &[f32],
    width: usize,
    columns: usize,
    band: &mut [f32],
) {
    for x in 0..columns {
        let pixels = load_strided(lanes, &lines[x * S::LANES..], width * S::LANES);
        store_strided(lanes, T::apply(lanes, pixels), &mut band[x * S::LANES..], columns * S::LANES);
    }
}

/// Transforms the lines of `band` tile by tile and stores each result in its plane.
///
/// One line at a time, so that only `N` planes are written at once: the processor keeps the addresses of few pages at hand.
#[inline(always)]
fn horizontal<S: Lanes, T: Transform<TAPS, N>, const TAPS: usize, const N: usize, const STEP: usize>(
    lanes: S,
    band: &[f32],
    run: &Run,
    layout: &Planes,
    out: &mut [f32],
) {
    let columns = (run.columns.len() - 1) * STEP + TAPS;
    for i in 0..N {
        let line = &band[i * columns * S::LANES..][..columns * S::LANES];
        let planes = &mut out[i * N * layout.stride..];
        for t in 0..run.columns.len() {
            let pixels = load_strided(lanes, &line[t * STEP * S::LANES..], S::LANES);
            let row = (run.offset + t) * layout.width;
            store_strided(lanes, T::apply(lanes, pixels), &mut planes[row..], layout.stride);
        }
    }
}
