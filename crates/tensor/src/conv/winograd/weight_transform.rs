//! Weights into the Winograd domain (`G g G^T`), and the weight gradient out of it (`G^T S G`).

use super::Tile;
use super::channel_lanes::{transpose_rows, transpose_to_rows};
use super::factored::{KernelGradientSide, KernelSide, Transform};
use super::lanes::{Job, Lanes, Vector};
use super::layout::Planes;
use super::strided::{load_strided, store_strided};

/// Which convolution the weights are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Inputs to outputs, with the weights as they are.
    Forward,
    /// Output gradients to input gradients: the kernels turned by half a turn, input and output channels exchanged.
    InputGradient,
}

/// Transforms all kernels. Rows of the planes are the channels summed over, columns the channels that come out.
pub(super) struct WeightsIntoDomain<'a> {
    pub(super) tile: Tile,
    pub(super) direction: Direction,
    /// `[O, C, r, r]`.
    pub(super) weights: &'a [f32],
    /// `[O, C]`.
    pub(super) channels: [usize; 2],
    pub(super) layout: Planes,
    pub(super) out: &'a mut [f32],
}

/// The most values of a kernel, in vectors of the widest unit.
const KERNEL_SCRATCH: usize = 25 * 16;

impl Job for WeightsIntoDomain<'_> {
    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) {
        match self.tile {
            Tile::F5x5K5x5 => self.transform::<S, 5, 9>(lanes),
            Tile::F4x4K5x5 => self.transform::<S, 5, 8>(lanes),
            Tile::F6x6K3x3 => self.transform::<S, 3, 8>(lanes),
            Tile::F4x4K3x3 => self.transform::<S, 3, 6>(lanes),
        }
    }
}

impl WeightsIntoDomain<'_> {
    #[inline(always)]
    fn transform<S: Lanes, const R: usize, const N: usize>(self, lanes: S) {
        let [outputs, inputs] = self.channels;
        // Strides of the weights along the planes' columns and rows.
        let (columns, column_stride, rows, row_stride) = match self.direction {
            Direction::Forward => (outputs, inputs * R * R, inputs, R * R),
            Direction::InputGradient => (inputs, R * R, outputs, inputs * R * R),
        };
        let mut scratch = [0.0; KERNEL_SCRATCH];
        let kernels = &mut scratch[..R * R * S::LANES];
        for panel in (0..self.layout.columns()).step_by(self.layout.width) {
            for row in 0..rows {
                for first in (panel..panel + self.layout.width).step_by(S::LANES) {
                    let count = columns.saturating_sub(first).min(S::LANES);
                    let start = row * row_stride + first.min(columns) * column_stride;
                    transpose_rows::<S, false>(
                        lanes,
                        self.weights,
                        &[],
                        start,
                        column_stride,
                        count,
                        kernels,
                    );
                    let tap = |i: usize, j: usize| {
                        let at = match self.direction {
                            Direction::Forward => i * R + j,
                            Direction::InputGradient => R * R - 1 - (i * R + j),
                        };
                        lanes.load(&kernels[at * S::LANES..])
                    };
                    let mut half = [[lanes.splat(0.0); R]; N];
                    for j in 0..R {
                        let mut taps = [lanes.splat(0.0); R];
                        for i in 0..R {
                            taps[i] = tap(i, j);
                        }
                        let values: [S::Vector; N] = KernelSide::apply(lanes, taps);
                        for i in 0..N {
                            half[i][j] = values[i];
                        }
                    }
                    let out = &mut self.out[self.layout.column(first) + row * self.layout.width..];
                    for i in 0..N {
                        let values: [S::Vector; N] = KernelSide::apply(lanes, half[i]);
                        store_strided(
                            lanes,
                            values,
                            &mut out[i * N * self.layout.stride..],
                            self.layout.stride,
                        );
                    }
                }
            }
        }
    }
}

/// Transforms a weight gradient back. Rows of the planes are input channels, columns output channels.
pub(super) struct WeightGradientFromDomain<'a> {
    pub(super) tile: Tile,
    pub(super) sums: &'a [f32],
    pub(super) layout: Planes,
    /// `[O, C]`.
    pub(super) channels: [usize; 2],
    /// `[O, C, r, r]`.
    pub(super) out: &'a mut [f32],
    /// Adds to `out` instead of overwriting it.
    pub(super) add: bool,
}

impl Job for WeightGradientFromDomain<'_> {
    #[inline(always)]
    fn run<S: Lanes>(self, lanes: S) {
        match self.tile {
            Tile::F5x5K5x5 => self.transform::<S, 9, 5>(lanes),
            Tile::F4x4K5x5 => self.transform::<S, 8, 5>(lanes),
            Tile::F6x6K3x3 => self.transform::<S, 8, 3>(lanes),
            Tile::F4x4K3x3 => self.transform::<S, 6, 3>(lanes),
        }
    }
}

impl WeightGradientFromDomain<'_> {
    #[inline(always)]
    fn transform<S: Lanes, const N: usize, const R: usize>(self, lanes: S) {
        let [outputs, inputs] = self.channels;
        let mut scratch = [0.0; KERNEL_SCRATCH];
        let kernels = &mut scratch[..R * R * S::LANES];
        for panel in (0..outputs).step_by(self.layout.width) {
            for row in 0..inputs {
                for first in (panel..outputs.min(panel + self.layout.width)).step_by(S::LANES) {
                    let sums = &self.sums[self.layout.column(first) + row * self.layout.width..];
                    let mut half = [[lanes.splat(0.0); N]; R];
                    for j in 0..N {
                        let stride = self.layout.stride;
                        let values: [S::Vector; N] = load_strided(lanes, &sums[j * stride..], N * stride);
                        let taps: [S::Vector; R] = KernelGradientSide::apply(lanes, values);
                        for i in 0..R {
                            half[i][j] = taps[i];
                        }
                    }
                    for i in 0..R {
                        let taps: [S::Vector; R] = KernelGradientSide::apply(lanes, half[i]);
                        for j in 0..R {
                            taps[j].store(&mut kernels[(i * R + j) * S::LANES..]);
                        }
                    }
                    let start = (first * inputs + row) * R * R;
                    let count = (outputs - first).min(S::LANES);
                    let stride = inputs * R * R;
                    if self.add {
                        transpose_to_rows::<S, true>(lanes, kernels, self.out, start, stride, count);
                    } else {
                        transpose_to_rows::<S, false>(lanes, kernels, self.out, start, stride, count);
                    }
                }
            }
        }
    }
}
