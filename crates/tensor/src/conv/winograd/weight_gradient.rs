//! The weight gradient, summed over tiles, images and micro-batches in the Winograd domain.

use std::sync::Arc;

use super::factored::{GradientSide, InputSide};
use super::images::Images;
use super::layout::CHANNEL_ALIGNMENT;
use super::multiply::{MultiplyPanel, PixelPrefetch};
use super::tiles::{Extent, Grid, Step};
use super::transforms::{InputTransform, TileKernel, dispatch_tile};
use super::weights::DomainWeights;
use super::{ConvGeometry, Tile};
use crate::buffer_pool::BufferPool;
use crate::shape::Shape;
use crate::simd::{Isa, Simd};
use crate::sink::Deferred;

/// Bytes of the planes of one row, inputs and output gradients, of a block of tiles, at most: half of the second-level cache.
/// More than in the other passes, since not only read but written are the sums that stream past.
const ROW_BYTES: usize = 1 << 20;

/// Tiles of a block at most, for so many input and output channels.
fn most(tile: Tile, [inputs, outputs]: [usize; 2]) -> usize {
    ROW_BYTES / (tile.inputs() * (inputs + outputs) * size_of::<f32>())
}

/// Blocks that the tiles of one group's images make: each reads and writes the sums once.
pub(super) fn blocks(tile: Tile, g: &ConvGeometry) -> usize {
    let channels = [g.c_in / g.groups, g.c_out / g.groups];
    Grid::new(tile, g.n, g.output(), most(tile, channels), 1).blocks().count()
}

/// The sum of `(B^T d B) . (A dY A^T)` over everything seen since it was finished.
///
/// The way back, `G^T S G`, is linear, so that it can wait until all micro-batches of a group have been added up: one transform
/// for each kernel instead of one for each micro-batch.
#[derive(Debug)]
pub(in crate::conv) struct WeightGradientAccumulator {
    /// Rows are input channels, columns output channels.
    sums: DomainWeights,
    /// Says that nothing was added yet: the planes hold anything, which the first block overwrites.
    empty: bool,
}

impl WeightGradientAccumulator {
    /// An empty sum for the geometry's weights, in memory of `pool`. Sizes of images do not matter.
    ///
    /// # Panics
    /// If `tile` does not support the geometry.
    pub(in crate::conv) fn new(pool: &Arc<BufferPool>, tile: Tile, g: &ConvGeometry, isa: Isa) -> Self {
        Self { sums: DomainWeights::new(pool, tile, g, isa), empty: true }
    }

    /// Tells whether gradients of such weights, in tiles of this size, can be added.
    pub(in crate::conv) fn fits(&self, tile: Tile, g: &ConvGeometry) -> bool {
        self.sums.fits(tile, g)
    }

    /// Adds the images of a micro-batch: `x` (N x C x H x W) and `dy` (N x O x OH x OW). The bias gradient of these images, if
    /// asked for, is overwritten. Serial. Scratch comes from `pool`.
    ///
    /// # Panics
    /// If the geometry is not supported or has other channels, or a slice does not have its length.
    pub(in crate::conv) fn accumulate(
        &mut self,
        pool: &Arc<BufferPool>,
        g: &ConvGeometry,
        x: &[f32],
        dy: &[f32],
        mut db: Option<&mut [f32]>,
    ) {
        let (tile, isa, [_, outputs]) = (self.sums.tile, self.sums.isa, self.sums.channels);
        assert!(self.fits(tile, g), "the sum is for other weights than those of {g:?}");
        assert_eq!([x.len(), dy.len()], [g.input_len(), g.output_len()]);
        if let Some(db) = &mut db {
            db.fill(0.0);
        }
        if dy.is_empty() {
            return;
        }
        for group in 0..g.groups {
            let db = db.as_deref_mut().map(|db| &mut db[group * outputs..][..outputs]);
            let at = [group, g.groups];
            let x = Images::of_group(x, g.n, (g.c_in, g.input), at, Extent::inputs(tile), g.padding);
            let dy = Images::of_group(dy, g.n, (g.c_out, g.output()), at, Extent::outputs(tile), [0; 2]);
            dispatch_tile(isa, tile, Accumulate { to: self, pool, group, x, dy, db });
        }
        self.empty = false;
    }
}

impl Deferred<f32> for WeightGradientAccumulator {
    fn shape(&self) -> Shape {
        let ([inputs, outputs], r) = (self.sums.channels, self.sums.tile.kernel());
        [self.sums.groups * outputs, inputs, r, r].into()
    }

    fn finish(&mut self, gradient: &mut [f32], add: bool) {
        if !self.empty {
            self.sums.transform_gradient(gradient, add);
        } else if !add {
            gradient.fill(0.0);
        }
        self.empty = true;
    }
}

/// [`WeightGradientAccumulator::accumulate`] for one group.
struct Accumulate<'a> {
    to: &'a mut WeightGradientAccumulator,
    pool: &'a Arc<BufferPool>,
    group: usize,
    x: Images<'a>,
    dy: Images<'a>,
    db: Option<&'a mut [f32]>,
}

impl TileKernel for Accumulate<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let Self { to: WeightGradientAccumulator { sums, empty }, pool, group, x, dy, mut db } = self;
        let ([inputs, _], panels, mut empty) = (sums.channels, sums.planes.panels, *empty);
        let grid = Grid::new(sums.tile, dy.planes.images, dy.size, most(sums.tile, sums.channels), 1);
        let width = inputs.next_multiple_of(CHANNEL_ALIGNMENT);
        let mut x_transform = InputTransform::new(pool, grid, x, [width, 1]);
        let mut dy_transform = InputTransform::new(pool, grid, dy, [sums.planes.width, panels]);
        let mut scratch = pool.take(grid.pixels() * S::LANES);
        for step in grid.steps(N, panels) {
            let Step { block, row, panel, .. } = step;
            if step.begins_block() {
                x_transform.load_block::<S, InputSide, N, N>(s, block, &mut scratch, None);
                dy_transform.load_block::<S, GradientSide, M, N>(s, block, &mut scratch, db.as_deref_mut());
            }
            if step.begins_row() {
                x_transform.row_into_planes::<S, InputSide, N, N>(s, block, row);
                dy_transform.row_into_planes::<S, GradientSide, M, N>(s, block, row);
            }
            let c_place = sums.planes.panel((group * N + row) * N, panel);
            s.call(MultiplyPanel {
                planes: N,
                m: inputs,
                k: block.len(),
                a: &x_transform.planes,
                // Its rows are tiles, which are summed over.
                a_transposed: true,
                b: &dy_transform.planes,
                b_places: [panel, (panel + 1) % panels].map(|panel| dy_transform.planes.panel(0, panel)),
                c: &mut sums.planes,
                c_place,
                accumulate: !empty,
                prefetch: [x, dy]
                    .map(|images| block.next().map(|next| PixelPrefetch(images, next, step.share))),
            });
            empty &= !step.ends_block();
        }
    }
}
