//! Transformed weights, shared by all shards and threads of a step.

use super::layout::Planes;
use super::weight_transform::WeightsIntoDomain;
use super::{ConvGeometry, Pass, Tile};
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::Isa;
use crate::simd::dispatch;
use std::sync::Arc;

/// Weights in the Winograd domain, `G g G^T`, laid out for the multiplication of one instruction set.
#[derive(Debug)]
pub struct PreparedWeights {
    pub(super) tile: Tile,
    pub(super) direction: Pass,
    pub(super) isa: Isa,
    /// `[O, C]` of the weights.
    pub(super) channels: [usize; 2],
    pub(super) layout: Planes,
    pub(super) planes: Buffer<f32>,
}

impl PreparedWeights {
    /// Transforms `weights` (O x C x r x r) for the convolution's `direction`, into memory of `pool`. Sizes of images do not
    /// matter.
    ///
    /// # Panics
    /// If `tile` does not support the geometry or `weights` does not have its length.
    #[must_use]
    pub fn new(
        pool: &Arc<BufferPool>,
        tile: Tile,
        direction: Pass,
        g: &ConvGeometry,
        weights: &[f32],
        isa: Isa,
    ) -> Self {
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        let (rows, columns) = match direction {
            Pass::Forward => (g.c_in, g.c_out),
            Pass::InputGradient => (g.c_out, g.c_in),
        };
        let layout = Planes::panelled(rows, columns, isa);
        let planes = pool.zeros(layout.len(tile));
        let mut prepared = Self { tile, direction, isa, channels: [g.c_out, g.c_in], layout, planes };
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
        let job = WeightsIntoDomain {
            tile: self.tile,
            direction: self.direction,
            weights,
            channels: self.channels,
            layout: self.layout,
            out: &mut self.planes,
        };
        dispatch(self.isa, job);
    }

    /// The tile size.
    #[must_use]
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// The direction.
    #[must_use]
    pub fn direction(&self) -> Pass {
        self.direction
    }

    /// Bytes of the transformed weights.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.planes)
    }
}
