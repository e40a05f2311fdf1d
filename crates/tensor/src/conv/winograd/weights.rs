//! Weights into the Winograd domain (`G g G^T`), shared by all micro-batches and threads of a step.

use std::sync::Arc;

use super::factored::{KernelSide, transform_square};
use super::images::MAX_KERNEL;
use super::layout::{Planes, panels};
use super::transforms::{TileKernel, dispatch_tile};
use super::{ConvGeometry, Pass, Tile};
use crate::buffer_pool::BufferPool;
use crate::simd::transpose::{Rows, transpose};
use crate::simd::{Isa, Simd};

/// Weights in the Winograd domain, `G g G^T`, laid out for the multiplication of one instruction set.
#[derive(Debug)]
pub(in crate::conv) struct PreparedWeights {
    pub(super) tile: Tile,
    pass: Pass,
    pub(super) isa: Isa,
    groups: usize,
    /// Channels of a group that the pass sums over, and that come out of it: rows and columns of a plane.
    channels: [usize; 2],
    /// The `n * n` planes of each group.
    pub(super) planes: Planes,
}

impl PreparedWeights {
    /// Transforms `weights` (O x C/groups x r x r) for a pass of the convolution, into memory of `pool`. Sizes of images do not
    /// matter.
    ///
    /// # Panics
    /// If `tile` does not support the geometry or `weights` does not have its length.
    pub(in crate::conv) fn new(
        pool: &Arc<BufferPool>,
        tile: Tile,
        pass: Pass,
        g: &ConvGeometry,
        weights: &[f32],
        isa: Isa,
    ) -> Self {
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        let groups = g.groups;
        let channels = match pass {
            Pass::Forward => [g.c_in / groups, g.c_out / groups],
            Pass::InputGradient => [g.c_out / groups, g.c_in / groups],
        };
        let count = groups * tile.inputs() * tile.inputs();
        let planes = Planes::new(pool, count, channels[0], panels(channels[1], isa));
        let mut prepared = Self { tile, pass, isa, groups, channels, planes };
        prepared.refill(weights);
        prepared
    }

    /// Transforms the weights of the next step in place, without allocating.
    ///
    /// # Panics
    /// If `weights` does not have the length of the first ones.
    pub(in crate::conv) fn refill(&mut self, weights: &[f32]) {
        let taps = self.tile.kernel() * self.tile.kernel();
        assert_eq!(weights.len(), self.groups * self.channels[0] * self.channels[1] * taps);
        dispatch_tile(self.isa, self.tile, Refill { prepared: self, weights });
    }

    /// Checks that these are the weights of a convolution.
    pub(super) fn check(&self, g: &ConvGeometry) {
        assert!(self.tile.supports(g), "{:?} does not support {g:?}", self.tile);
        let channels = [g.c_in, g.c_out].map(|channels| channels / g.groups);
        assert_eq!((self.groups, self.channels), (g.groups, channels), "the weights are for other channels");
    }
}

/// [`PreparedWeights::refill`].
struct Refill<'a> {
    prepared: &'a mut PreparedWeights,
    /// `[O, C/groups, r, r]`.
    weights: &'a [f32],
}

impl TileKernel for Refill<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let PreparedWeights { pass, channels: [rows, columns], ref mut planes, .. } = *self.prepared;
        let stride = planes.stride;
        // Strides of the weights along the planes' columns and rows.
        let (column_stride, row_stride) = match pass {
            Pass::Forward => (rows * R * R, R * R),
            Pass::InputGradient => (R * R, columns * R * R),
        };
        let mut scratch = [0.0; MAX_KERNEL];
        let kernels = &mut scratch[..R * R * S::LANES];
        for (group, weights) in self.weights.chunks_exact((rows * columns * R * R).max(1)).enumerate() {
            let group = planes.panel(group * N * N, 0);
            for (row, first, place) in planes.vectors(planes.columns(), S::LANES) {
                let count = columns.saturating_sub(first).min(S::LANES);
                let start = row * row_stride + first.min(columns) * column_stride;
                let data = &weights[start.min(weights.len())..];
                let taps = Rows { data, mask: None, stride: column_stride, rows: count, columns: R * R };
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
