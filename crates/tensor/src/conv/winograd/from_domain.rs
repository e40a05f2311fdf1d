//! Products out of the Winograd domain: `A^T M A`, bias, ReLU, and back to NCHW.

use super::Tile;
use super::channel_lanes::transpose_to_rows;
use super::factored::{OutputSide, Transform};
use super::lanes::{Job, Lanes, Vector};
use super::layout::Planes;
use super::strided::{load_strided, store_strided};
use super::tiling::{Grid, Run};
use std::ops::Range;

/// Transforms one panel of products of the tiles `block` back and writes the outputs they cover.
pub(super) struct FromDomain<'a> {
    pub(super) tile: Tile,
    /// Rows are tiles; a single panel.
    pub(super) products: &'a [f32],
    pub(super) layout: Planes,
    pub(super) grid: Grid,
    pub(super) block: Range<usize>,
    /// The channels of the panel that exist.
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

impl Job for FromDomain<'_> {
    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) {
        match self.tile {
            Tile::F5x5K5x5 => self.transform::<S, 9, 5>(lanes),
            Tile::F4x4K5x5 => self.transform::<S, 8, 4>(lanes),
            Tile::F6x6K3x3 => self.transform::<S, 8, 6>(lanes),
            Tile::F4x4K3x3 => self.transform::<S, 6, 4>(lanes),
        }
    }
}

impl FromDomain<'_> {
    #[inline(always)]
    fn transform<S: Lanes, const N: usize, const M: usize>(self, lanes: S) {
        let [channels, height, width] = self.shape;
        for part in self.grid.parts(self.block.clone()) {
            for first in self.channels.clone().step_by(S::LANES) {
                let products = &self.products[first - self.channels.start..];
                let count = (self.channels.end - first).min(S::LANES);
                let bias = self
                    .bias
                    .map_or(lanes.splat(0.0), |bias| lanes.load_partial(&bias[first..first + count]));
                for run in part.runs() {
                    let padded = run.columns.len() * M;
                    let (band, lines) = self.scratch.split_at_mut(N * padded * S::LANES);
                    horizontal::<S, N, M>(lanes, products, &self.layout, &run, band);
                    let columns = run.columns.start * M..(run.columns.end * M).min(width);
                    vertical::<S, N, M>(lanes, band, padded, columns.len(), bias, self.relu, lines);
                    let rows = run.row * M..((run.row + 1) * M).min(height);
                    let line = columns.len() * S::LANES;
                    for (y, line) in rows.zip(lines.chunks_exact(line)) {
                        let start = ((part.image * channels + first) * height + y) * width + columns.start;
                        transpose_to_rows::<S, false>(lanes, line, self.out, start, height * width, count);
                    }
                }
            }
        }
    }
}

/// Transforms the rows of each tile into `band`: `[N][tiles * M][LANES]`; one line of planes at a time, as on the way in.
#[inline(always)]
fn horizontal<S: Lanes, const N: usize, const M: usize>(
    lanes: S,
    products: &[f32],
    layout: &Planes,
    run: &Run,
    band: &mut [f32],
) {
    let line = run.columns.len() * M * S::LANES;
    for (i, band) in band.chunks_exact_mut(line).enumerate() {
        let planes = &products[i * N * layout.stride..];
        for (t, band) in band.chunks_exact_mut(M * S::LANES).enumerate() {
            let row = (run.offset + t) * layout.width;
            let values: [S::Vector; N] = load_strided(lanes, &planes[row..], layout.stride);
            let outputs: [S::Vector; M] = OutputSide::apply(lanes, values);
            store_strided(lanes, outputs, band, S::LANES);
        }
    }
}

/// Transforms the columns of `band` into `lines`: `[M][columns][LANES]`, with bias and ReLU.
#[inline(always)]
fn vertical<S: Lanes, const N: usize, const M: usize>(
    lanes: S,
    band: &[f32],
    width: usize,
    columns: usize,
    bias: S::Vector,
    relu: bool,
    lines: &mut [f32],
) {
    for x in 0..columns {
        let values: [S::Vector; N] = load_strided(lanes, &band[x * S::LANES..], width * S::LANES);
        let mut outputs: [S::Vector; M] = OutputSide::apply(lanes, values);
        for output in &mut outputs {
            *output = *output + bias;
            if relu {
                // The larger of the two, so that a NaN stays one and shows.
                *output = lanes.splat(0.0).max(*output);
            }
        }
        store_strided(lanes, outputs, &mut lines[x * S::LANES..], columns * S::LANES);
    }
}
