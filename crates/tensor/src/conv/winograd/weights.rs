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
pub struct PreparedWeights {
    tile: Tile,
    pass: Pass,
    isa: Isa,
    /// `[O, C]` of the weights.
    channels: [usize; 2],
    /// Rows are the channels summed over, columns the channels that come out.
    pub(super) planes: Planes,
}

impl PreparedWeights {
    /// Transforms `weights` (O x C x r x r) for a pass of the convolution, into memory of `pool`. Sizes of images do not matter.
    ///
    /// # Panics
    /// If `tile` does not support the geometry or `weights` does not have its length.
    pub fn new(
        pool: &Arc<BufferPool>,
        tile: Tile,
        pass: Pass,
        g: &ConvGeometry,
        weights: &[f32],
        isa: Isa,
    ) -> Self {
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        let (rows, columns) = match pass {
            Pass::Forward => (g.c_in, g.c_out),
            Pass::InputGradient => (g.c_out, g.c_in),
        };
        let planes = Planes::new(pool, tile.inputs() * tile.inputs(), rows, panels(columns, isa));
        let mut prepared = Self { tile, pass, isa, channels: [g.c_out, g.c_in], planes };
        prepared.refill(weights);
        prepared
    }

    /// Transforms the weights of the next step in place, without allocating.
    ///
    /// # Panics
    /// If `weights` does not have the length of the first ones.
    pub fn refill(&mut self, weights: &[f32]) {
        let taps = self.tile.kernel() * self.tile.kernel();
        assert_eq!(weights.len(), self.channels[0] * self.channels[1] * taps);
        dispatch_tile(self.isa, self.tile, Refill { prepared: self, weights });
    }

    /// Checks that these are weights for a pass of a convolution.
    pub(super) fn check(&self, g: &ConvGeometry, pass: Pass) {
        assert!(self.tile.supports(g), "{:?} does not support {g:?}", self.tile);
        assert_eq!(self.pass, pass, "weights were prepared for the other pass");
        assert_eq!(self.channels, [g.c_out, g.c_in], "weights were prepared for other channels");
    }

    /// The tile size.
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// The instruction set that multiplies them.
    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes of the transformed weights.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.planes.values)
    }
}

/// [`PreparedWeights::refill`].
struct Refill<'a> {
    prepared: &'a mut PreparedWeights,
    /// `[O, C, r, r]`.
    weights: &'a [f32],
}

impl TileKernel for Refill<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let PreparedWeights { pass, channels: [outputs, inputs], ref mut planes, .. } = *self.prepared;
        let stride = planes.stride;
        // Strides of the weights along the planes' columns and rows.
        let (columns, column_stride, row_stride) = match pass {
            Pass::Forward => (outputs, inputs * R * R, R * R),
            Pass::InputGradient => (inputs, R * R, inputs * R * R),
        };
        let mut scratch = [0.0; MAX_KERNEL];
        let kernels = &mut scratch[..R * R * S::LANES];
        for (row, first, place) in planes.vectors(planes.columns(), S::LANES) {
            let count = columns.saturating_sub(first).min(S::LANES);
            let start = row * row_stride + first.min(columns) * column_stride;
            let data = &self.weights[start.min(self.weights.len())..];
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
            let into = (&mut planes.values[place..], [N * stride, stride]);
            transform_square::<S, KernelSide, R, N>(s, (kernels, [R * S::LANES, S::LANES]), into);
        }
    }
}
