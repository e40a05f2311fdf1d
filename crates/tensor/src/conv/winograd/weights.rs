//! Weights into the Winograd domain (`G g G^T`), shared by all micro-batches and threads of a step, and their gradients out of it
//! (`G^T S G`).

use std::sync::Arc;

use super::factored::{KernelGradientSide, KernelSide, transform_square};
use super::images::{MAX_KERNEL, channels_to_rows};
use super::layout::{Planes, panels};
use super::transforms::{TileKernel, dispatch_tile};
use super::{ConvGeometry, Pass, Tile};
use crate::buffer_pool::BufferPool;
use crate::simd::transpose::{Rows, transpose};
use crate::simd::{Isa, Simd};

/// Weights in the Winograd domain, or the sum of their gradients, laid out for the multiplication of one instruction set.
#[derive(Debug)]
pub(in crate::conv) struct DomainWeights {
    pub(super) tile: Tile,
    pub(super) isa: Isa,
    pub(super) groups: usize,
    /// Channels of a group that are summed over, and that come out: rows and columns of a plane.
    pub(super) channels: [usize; 2],
    /// The `n * n` planes of each group.
    pub(super) planes: Planes,
}

impl DomainWeights {
    /// Room for the weights of the convolution `g`, in memory of `pool`. The contents are unspecified at first, and sizes of
    /// images do not matter.
    ///
    /// # Panics
    /// If `tile` does not support the geometry.
    pub(in crate::conv) fn new(pool: &Arc<BufferPool>, tile: Tile, g: &ConvGeometry, isa: Isa) -> Self {
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        let (count, groups) = (g.groups * tile.inputs() * tile.inputs(), g.groups);
        let channels = [g.c_in, g.c_out].map(|channels| channels / groups);
        let planes = Planes::new(pool, count, channels[0], panels(channels[1], isa));
        Self { tile, isa, groups, channels, planes }
    }

    /// Tells whether these are the weights of a convolution, in tiles of this size.
    pub(in crate::conv) fn fits(&self, tile: Tile, g: &ConvGeometry) -> bool {
        let channels = [g.c_in, g.c_out].map(|channels| channels / g.groups);
        tile.supports(g) && (self.tile, self.groups, self.channels) == (tile, g.groups, channels)
    }

    fn len(&self) -> usize {
        self.groups * self.channels[0] * self.channels[1] * self.tile.kernel() * self.tile.kernel()
    }

    /// Transforms a layer's weights, O x C/groups x r x r, for the convolution that is this pass of it.
    ///
    /// # Panics
    /// If there are more or fewer.
    pub(in crate::conv) fn transform(&mut self, pass: Pass, weights: &[f32]) {
        assert_eq!(weights.len(), self.len(), "weights to transform");
        dispatch_tile(self.isa, self.tile, TransformWeights { domain: self, pass, weights });
    }

    /// Writes the gradient of a layer's weights, O x C/groups x r x r, from its sums in the domain, or adds it if `add`.
    ///
    /// # Panics
    /// If there is room for more or fewer.
    pub(super) fn transform_gradient(&self, gradient: &mut [f32], add: bool) {
        assert_eq!(gradient.len(), self.len(), "gradients of the weights");
        dispatch_tile(self.isa, self.tile, TransformGradient { domain: self, gradient, add });
    }
}

/// [`DomainWeights::transform`].
struct TransformWeights<'a> {
    domain: &'a mut DomainWeights,
    pass: Pass,
    weights: &'a [f32],
}

impl TileKernel for TransformWeights<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let Self { domain: DomainWeights { channels: [rows, columns], planes, .. }, pass, weights } = self;
        let (rows, columns, stride) = (*rows, *columns, planes.stride);
        // Strides of the weights along the planes' columns and rows.
        let (column_stride, row_stride) = match pass {
            Pass::Forward => (rows * R * R, R * R),
            Pass::InputGradient => (R * R, columns * R * R),
        };
        let mut scratch = [0.0; MAX_KERNEL];
        let kernels = &mut scratch[..R * R * S::LANES];
        for (group, weights) in weights.chunks_exact((rows * columns * R * R).max(1)).enumerate() {
            let group = planes.panel(group * N * N, 0);
            for (row, first, place) in planes.vectors(planes.columns(), S::LANES) {
                let count = columns.saturating_sub(first).min(S::LANES);
                let start = row * row_stride + first.min(columns) * column_stride;
                let data = &weights[start.min(weights.len())..];
                let taps = Rows { data, stride: column_stride, rows: count, columns: R * R };
                transpose::<S, false>(s, taps, kernels, S::LANES, S::LANES);
                if pass == Pass::InputGradient {
                    // The flipped kernel: its taps in the opposite order.
                    for (i, j) in (0..R * R / 2).map(|i| (i * S::LANES, (R * R - 1 - i) * S::LANES)) {
                        let (a, b) = (s.load(&kernels[i..]), s.load(&kernels[j..]));
                        s.store(b, &mut kernels[i..]);
                        s.store(a, &mut kernels[j..]);
                    }
                }
                let into = (&mut planes.values[group + place..], [N * stride, stride]);
                transform_square::<S, KernelSide, R, N>(s, (kernels, [R * S::LANES, S::LANES]), into);
            }
        }
    }
}

/// [`DomainWeights::transform_gradient`].
struct TransformGradient<'a> {
    domain: &'a DomainWeights,
    gradient: &'a mut [f32],
    add: bool,
}

impl TileKernel for TransformGradient<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let DomainWeights { channels: [inputs, outputs], ref planes, .. } = *self.domain;
        let stride = planes.stride;
        let mut scratch = [0.0; MAX_KERNEL];
        let kernels = &mut scratch[..R * R * S::LANES];
        for (group, dw) in self.gradient.chunks_exact_mut((outputs * inputs * R * R).max(1)).enumerate() {
            let group = planes.panel(group * N * N, 0);
            for (row, first, place) in planes.vectors(outputs, S::LANES) {
                let taps = (&mut *kernels, [R * S::LANES, S::LANES]);
                let from = (&planes.values[group + place..], [N * stride, stride]);
                transform_square::<S, KernelGradientSide, N, R>(s, from, taps);
                let dw = &mut dw[(first * inputs + row) * R * R..];
                let (stride, count) = (inputs * R * R, (outputs - first).min(S::LANES));
                if self.add {
                    channels_to_rows::<S, true>(s, kernels, dw, stride, count);
                } else {
                    channels_to_rows::<S, false>(s, kernels, dw, stride, count);
                }
            }
        }
    }
}
