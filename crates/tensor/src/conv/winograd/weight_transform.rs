//! Weights into the Winograd domain (`G g G^T`), and the weight gradient out of it (`G^T S G`).

use super::channel_lanes::channels_to_rows;
use super::factored::{KernelGradientSide, KernelSide, Transform};
use super::layout::Planes;
use super::{Pass, Tile};
use crate::simd::transpose::{Rows, transpose};
use crate::simd::{Kernel, Simd};

/// Transforms all kernels. Rows of the planes are the channels summed over, columns the channels that come out.
pub(super) struct WeightsIntoDomain<'a> {
    pub(super) tile: Tile,
    pub(super) direction: Pass,
    /// `[O, C, r, r]`.
    pub(super) weights: &'a [f32],
    /// `[O, C]`.
    pub(super) channels: [usize; 2],
    pub(super) layout: Planes,
    pub(super) out: &'a mut [f32],
}

/// The most values of a kernel, in vectors of the widest unit.
const KERNEL_SCRATCH: usize = 25 * 16;

impl Kernel for WeightsIntoDomain<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.tile {
            Tile::F5x5K5x5 => self.transform::<S, 5, 9>(s),
            Tile::F4x4K5x5 => self.transform::<S, 5, 8>(s),
            Tile::F6x6K3x3 => self.transform::<S, 3, 8>(s),
            Tile::F4x4K3x3 => self.transform::<S, 3, 6>(s),
        }
    }
}

impl WeightsIntoDomain<'_> {
    #[inline(always)]
    fn transform<S: Simd, const R: usize, const N: usize>(self, s: S) {
        let [outputs, inputs] = self.channels;
        // Strides of the weights along the planes' columns and rows.
        let (columns, column_stride, rows, row_stride) = match self.direction {
            Pass::Forward => (outputs, inputs * R * R, inputs, R * R),
            Pass::InputGradient => (inputs, R * R, outputs, inputs * R * R),
        };
        let mut scratch = [0.0; KERNEL_SCRATCH];
        let kernels = &mut scratch[..R * R * S::LANES];
        for panel in (0..self.layout.columns()).step_by(self.layout.width) {
            for row in 0..rows {
                for first in (panel..panel + self.layout.width).step_by(S::LANES) {
                    let count = columns.saturating_sub(first).min(S::LANES);
                    let start = row * row_stride + first.min(columns) * column_stride;
                    let data = &self.weights[start.min(self.weights.len())..];
                    let taps = Rows { data, mask: None, stride: column_stride, rows: count, columns: R * R };
                    transpose::<S, false>(s, taps, kernels, S::LANES, S::LANES);
                    let tap = |i: usize, j: usize| {
                        let at = match self.direction {
                            Pass::Forward => i * R + j,
                            Pass::InputGradient => R * R - 1 - (i * R + j),
                        };
                        s.load(&kernels[at * S::LANES..])
                    };
                    let mut half = [[s.splat(0.0); R]; N];
                    for j in 0..R {
                        let mut taps = [s.splat(0.0); R];
                        for i in 0..R {
                            taps[i] = tap(i, j);
                        }
                        let values: [S::Vector; N] = KernelSide::apply(s, taps);
                        for i in 0..N {
                            half[i][j] = values[i];
                        }
                    }
                    let out = &mut self.out[self.layout.column(first) + row * self.layout.width..];
                    for i in 0..N {
                        let values: [S::Vector; N] = KernelSide::apply(s, half[i]);
                        s.store_strided(values, &mut out[i * N * self.layout.stride..], self.layout.stride);
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

impl Kernel for WeightGradientFromDomain<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.tile {
            Tile::F5x5K5x5 => self.transform::<S, 9, 5>(s),
            Tile::F4x4K5x5 => self.transform::<S, 8, 5>(s),
            Tile::F6x6K3x3 => self.transform::<S, 8, 3>(s),
            Tile::F4x4K3x3 => self.transform::<S, 6, 3>(s),
        }
    }
}

impl WeightGradientFromDomain<'_> {
    #[inline(always)]
    fn transform<S: Simd, const N: usize, const R: usize>(self, s: S) {
        let [outputs, inputs] = self.channels;
        let mut scratch = [0.0; KERNEL_SCRATCH];
        let kernels = &mut scratch[..R * R * S::LANES];
        for panel in (0..outputs).step_by(self.layout.width) {
            for row in 0..inputs {
                for first in (panel..outputs.min(panel + self.layout.width)).step_by(S::LANES) {
                    let sums = &self.sums[self.layout.column(first) + row * self.layout.width..];
                    let mut half = [[s.splat(0.0); N]; R];
                    for j in 0..N {
                        let stride = self.layout.stride;
                        let values: [S::Vector; N] = s.load_strided(&sums[j * stride..], N * stride);
                        let taps: [S::Vector; R] = KernelGradientSide::apply(s, values);
                        for i in 0..R {
                            half[i][j] = taps[i];
                        }
                    }
                    for i in 0..R {
                        let taps: [S::Vector; R] = KernelGradientSide::apply(s, half[i]);
                        for j in 0..R {
                            s.store(taps[j], &mut kernels[(i * R + j) * S::LANES..]);
                        }
                    }
                    let start = (first * inputs + row) * R * R;
                    let count = (outputs - first).min(S::LANES);
                    let stride = inputs * R * R;
                    if self.add {
                        channels_to_rows::<S, true>(s, kernels, &mut self.out[start..], stride, count);
                    } else {
                        channels_to_rows::<S, false>(s, kernels, &mut self.out[start..], stride, count);
                    }
                }
            }
        }
    }
}
