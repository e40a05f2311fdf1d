//! Products out of the Winograd domain: `A^T M A`, bias, ReLU, and back to NCHW. First along the rows, one row of planes at a
//! time, into bands; then down the columns.

use super::Tile;
use super::bands::{Bands, Extent};
use super::channel_lanes::channels_to_rows;
use super::factored::{OutputSide, Transform};
use super::layout::Planes;
use super::tiling::Grid;
use crate::simd::{Kernel, Simd};
use std::ops::Range;

/// A step out of the domain, for tiles of `M` outputs from `N` products along each axis.
trait Step {
    /// Does the work. Implementations are `#[inline(always)]`.
    fn transform<S: Simd, const N: usize, const M: usize>(self, s: S);
}

/// Runs `step` with the sizes of `tile`.
#[inline(always)]
fn sized<S: Simd, P: Step>(tile: Tile, step: P, s: S) {
    match tile {
        Tile::F5x5K5x5 => step.transform::<S, 9, 5>(s),
        Tile::F4x4K5x5 => step.transform::<S, 8, 4>(s),
        Tile::F6x6K3x3 => step.transform::<S, 8, 6>(s),
        Tile::F4x4K3x3 => step.transform::<S, 6, 4>(s),
    }
}

/// The bands of outputs: tiles lie side by side.
pub(super) fn output_extent(tile: Tile) -> Extent {
    Extent { step: tile.outputs(), taps: tile.outputs() }
}

/// Transforms the products in the planes of one row along the rows of the tiles, into a band.
pub(super) struct PlanesIntoBand<'a> {
    pub(super) tile: Tile,
    /// `n` planes. Rows are the tiles of a block; a single panel.
    pub(super) products: &'a [f32],
    pub(super) layout: Planes,
    /// Tiles.
    pub(super) tiles: usize,
    /// The channels of the panel that exist.
    pub(super) channels: Range<usize>,
    pub(super) bands: Bands,
    /// The band: as long as the distance to the next.
    pub(super) band: &'a mut [f32],
}

impl Kernel for PlanesIntoBand<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        sized(self.tile, self, s);
    }
}

impl Step for PlanesIntoBand<'_> {
    #[inline(always)]
    fn transform<S: Simd, const N: usize, const M: usize>(self, s: S) {
        for first in self.channels.clone().step_by(S::LANES) {
            let products = &self.products[first - self.channels.start..];
            let line = &mut self.band[self.bands.at(first, 0, S::LANES)..][..self.tiles * M * S::LANES];
            for (t, tile) in line.chunks_exact_mut(M * S::LANES).enumerate() {
                let values = s.load_strided(&products[t * self.layout.width..], self.layout.stride);
                let outputs: [S::Vector; M] = <OutputSide as Transform<N, M>>::apply(s, values);
                s.store_strided(outputs, tile, S::LANES);
            }
        }
    }
}

/// Transforms bands down the columns and writes the outputs of the tiles `block`.
pub(super) struct FromBands<'a> {
    pub(super) tile: Tile,
    pub(super) bands: Bands,
    pub(super) products: &'a [f32],
    pub(super) grid: Grid,
    pub(super) block: Range<usize>,
    /// From a multiple of 16 on.
    pub(super) channels: Range<usize>,
    /// One per channel of the output.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) relu: bool,
    /// `[N, C, H, W]`.
    pub(super) out: &'a mut [f32],
    /// `[C, H, W]`.
    pub(super) shape: [usize; 3],
    /// Scratch of at least [`super::into_domain::scratch_len`].
    pub(super) scratch: &'a mut [f32],
}

impl Kernel for FromBands<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        sized(self.tile, self, s);
    }
}

impl Step for FromBands<'_> {
    #[inline(always)]
    fn transform<S: Simd, const N: usize, const M: usize>(self, s: S) {
        let [channels, height, width] = self.shape;
        for first in self.channels.clone().step_by(S::LANES) {
            let count = (self.channels.end - first).min(S::LANES);
            let bias = self.bias.map_or(s.splat(0.0), |bias| s.load_partial(&bias[first..first + count]));
            for part in self.grid.parts(self.block.clone()) {
                for run in part.runs() {
                    let columns = run.columns.start * M..(run.columns.end * M).min(width);
                    let rows = run.row * M..((run.row + 1) * M).min(height);
                    let line = columns.len() * S::LANES;
                    let band = &self.products[self.bands.at(first, run.offset * M, S::LANES)..];
                    let lines = &mut self.scratch[..M * line];
                    vertical::<S, N, M>(s, band, self.bands.stride(), bias, self.relu, lines);
                    let plane = (part.image * channels + first) * height * width;
                    let start = plane + rows.start * width + columns.start;
                    if columns.len() == width {
                        // Whole rows follow each other in the image, too.
                        let pixels = &lines[..rows.len() * line];
                        channels_to_rows::<S, false>(
                            s,
                            pixels,
                            &mut self.out[start..],
                            height * width,
                            count,
                        );
                        continue;
                    }
                    for (y, line) in lines.chunks_exact(line).take(rows.len()).enumerate() {
                        let start = start + y * width;
                        channels_to_rows::<S, false>(s, line, &mut self.out[start..], height * width, count);
                    }
                }
            }
        }
    }
}

/// Transforms the columns of the bands, `stride` apart, into `lines`: `[M][columns][LANES]`, with bias and ReLU.
#[inline(always)]
fn vertical<S: Simd, const N: usize, const M: usize>(
    s: S,
    bands: &[f32],
    stride: usize,
    bias: S::Vector,
    relu: bool,
    lines: &mut [f32],
) {
    let line = lines.len() / M;
    for x in (0..line).step_by(S::LANES) {
        let values: [S::Vector; N] = s.load_strided(&bands[x..], stride);
        let mut outputs: [S::Vector; M] = OutputSide::apply(s, values);
        for output in &mut outputs {
            *output = s.add(*output, bias);
            if relu {
                // The larger of the two, so that a NaN stays one and shows.
                *output = s.max(s.splat(0.0), *output);
            }
        }
        s.store_strided(outputs, &mut lines[x..], line);
    }
}
