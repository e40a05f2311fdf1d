//! The weight gradient, summed over tiles, images and micro-batches in the Winograd domain.

use std::sync::Arc;

use super::factored::{GradientSide, InputSide, KernelGradientSide, transform_square};
use super::images::{Images, MAX_KERNEL, channels_to_rows};
use super::layout::{CHANNEL_ALIGNMENT, Planes, panels};
use super::multiply::{MultiplyPanel, Prefetch};
use super::tiles::{Extent, Grid};
use super::transforms::{Source, TileKernel, dispatch_tile};
use super::{ConvGeometry, Masked, Tile};
use crate::buffer_pool::BufferPool;
use crate::shape::Shape;
use crate::simd::{Isa, Simd};
use crate::sink::Deferred;

/// Bytes of the planes of one row, inputs and output gradients, of a block of tiles, at most: half of the second-level cache.
/// More than in the other passes, since not only read but written are the sums that stream past.
const ROW_BYTES: usize = 1 << 20;

/// The sum of `(B^T d B) . (A dY A^T)` over everything seen since the last [`finish`](Self::finish).
///
/// The way back, `G^T S G`, is linear, so that it can wait until all micro-batches of a group have been added up: one transform for
/// each kernel instead of one for each micro-batch.
#[derive(Debug)]
pub(in crate::conv) struct WeightGradientAccumulator {
    tile: Tile,
    isa: Isa,
    groups: usize,
    /// `[O, C]` of a group's weights.
    channels: [usize; 2],
    /// The `n * n` planes of each group. Rows are input channels, columns output channels.
    planes: Planes,
    /// Nothing was added yet: the planes hold old sums, which the first block overwrites.
    empty: bool,
}

impl WeightGradientAccumulator {
    /// An empty sum for the geometry's weights, in memory of `pool`. Sizes of images do not matter.
    ///
    /// # Panics
    /// If `tile` does not support the geometry.
    pub(in crate::conv) fn new(pool: &Arc<BufferPool>, tile: Tile, g: &ConvGeometry, isa: Isa) -> Self {
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        let (groups, channels) = (g.groups, [g.c_out / g.groups, g.c_in / g.groups]);
        // The first block overwrites the planes.
        let count = groups * tile.inputs() * tile.inputs();
        let planes = Planes::new(pool, count, channels[1], panels(channels[0], isa));
        Self { tile, isa, groups, channels, planes, empty: true }
    }

    /// Adds the images of a micro-batch: `x` (N x C x H x W) and `dy` (N x O x OH x OW), which with a mask, the saved output of ReLU,
    /// counts only where the output is positive. The bias gradient of these images, if asked for, is overwritten. Serial. Scratch
    /// comes from `pool`.
    ///
    /// # Panics
    /// If the geometry is not supported or has other channels, or a slice does not have its length.
    pub(in crate::conv) fn accumulate(
        &mut self,
        pool: &Arc<BufferPool>,
        g: &ConvGeometry,
        x: &[f32],
        dy: Masked<'_>,
        mut db: Option<&mut [f32]>,
    ) {
        let tile = self.tile;
        assert!(tile.supports(g) && self.fits(tile, g), "the sum is for other weights than those of {g:?}");
        assert_eq!([x.len(), dy.0.len()], [g.input_len(), g.output_len()]);
        assert!(dy.1.is_none_or(|mask| mask.len() == dy.0.len()));
        if let Some(db) = &mut db {
            db.fill(0.0);
        }
        if dy.0.is_empty() {
            return;
        }
        let outputs = self.channels[0];
        for group in 0..self.groups {
            let db = db.as_deref_mut().map(|db| &mut db[group * outputs..][..outputs]);
            let (at, inputs, outputs) =
                ([group, g.groups], [g.c_in, g.h, g.w], [g.c_out, g.out_h(), g.out_w()]);
            let x = Images::of_group((x, None), g.n, inputs, at, Extent::inputs(tile), g.padding);
            let dy = Images::of_group(dy, g.n, outputs, at, Extent::outputs(tile), [0; 2]);
            dispatch_tile(self.isa, tile, Accumulate { sums: self, pool, group, x, dy, db });
        }
        self.empty = false;
    }

    /// Writes the weight gradient `dw` (O x C/groups x r x r), or adds it if `add`, and starts again from nothing. Without any image
    /// the gradient is zero.
    ///
    /// # Panics
    /// If the slice does not have the weights' length.
    pub(in crate::conv) fn finish(&mut self, dw: &mut [f32], add: bool) {
        assert_eq!(dw.len(), self.shape().elements());
        if self.empty {
            if !add {
                dw.fill(0.0);
            }
            return;
        }
        dispatch_tile(self.isa, self.tile, Finish { sums: self, dw, add });
        self.empty = true;
    }

    /// Tells whether gradients of such weights, in tiles of this size, can be added.
    pub(crate) fn fits(&self, tile: Tile, g: &ConvGeometry) -> bool {
        let channels = [g.c_out, g.c_in].map(|channels| channels / g.groups);
        (self.tile, self.groups, self.channels) == (tile, g.groups, channels)
    }
}

impl Deferred<f32> for WeightGradientAccumulator {
    fn shape(&self) -> Shape {
        let ([outputs, inputs], r) = (self.channels, self.tile.kernel());
        [self.groups * outputs, inputs, r, r].into()
    }

    fn finish(&mut self, gradient: &mut [f32], add: bool) {
        self.finish(gradient, add);
    }
}

/// [`WeightGradientAccumulator::accumulate`] for one group.
struct Accumulate<'a> {
    sums: &'a mut WeightGradientAccumulator,
    pool: &'a Arc<BufferPool>,
    group: usize,
    x: Images<'a>,
    dy: Images<'a>,
    db: Option<&'a mut [f32]>,
}

impl TileKernel for Accumulate<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let Self { sums, pool, group, x, dy, mut db } = self;
        let ([outputs, inputs], panels, mut empty) = (sums.channels, sums.planes.panels, sums.empty);
        let most = ROW_BYTES / (N * (inputs + outputs) * size_of::<f32>());
        let grid = Grid::new(sums.tile, dy.planes.images, dy.size, most, 1);
        let width = inputs.next_multiple_of(CHANNEL_ALIGNMENT);
        let mut sources = Source::new(pool, grid, x, [width, 1]);
        let mut gradients = Source::new(pool, grid, dy, [sums.planes.width, panels]);
        let mut scratch = pool.take(grid.pixels() * S::LANES);
        for block in grid.blocks() {
            sources.load_block::<S, InputSide, N, N>(s, block, &mut scratch, None);
            gradients.load_block::<S, GradientSide, M, N>(s, block, &mut scratch, db.as_deref_mut());
            for row in 0..N {
                sources.row_into_planes::<S, InputSide, N, N>(s, block, row);
                gradients.row_into_planes::<S, GradientSide, M, N>(s, block, row);
                for panel in 0..panels {
                    let share = [row * panels + panel, N * panels];
                    let c_place = sums.planes.panel((group * N + row) * N, panel);
                    s.call(MultiplyPanel {
                        planes: N,
                        m: inputs,
                        k: block.len(),
                        a: &sources.planes,
                        // Its rows are tiles, which are summed over.
                        a_transposed: true,
                        b: &gradients.planes,
                        b_places: [panel, (panel + 1) % panels].map(|panel| gradients.planes.panel(0, panel)),
                        c: &mut sums.planes,
                        c_place,
                        accumulate: !empty,
                        prefetch: [x, dy]
                            .map(|images| block.next().map(|next| Prefetch(images, next, share))),
                    });
                }
            }
            empty = false;
        }
    }
}

/// [`WeightGradientAccumulator::finish`].
struct Finish<'a> {
    sums: &'a WeightGradientAccumulator,
    /// `[O, C/groups, r, r]`.
    dw: &'a mut [f32],
    /// Adds to `dw` instead of overwriting it.
    add: bool,
}

impl TileKernel for Finish<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let WeightGradientAccumulator { channels: [outputs, inputs], ref planes, .. } = *self.sums;
        let stride = planes.stride;
        let mut scratch = [0.0; MAX_KERNEL];
        let kernels = &mut scratch[..R * R * S::LANES];
        for (group, dw) in self.dw.chunks_exact_mut((outputs * inputs * R * R).max(1)).enumerate() {
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
