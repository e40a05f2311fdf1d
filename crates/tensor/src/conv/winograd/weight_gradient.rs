//! The weight gradient, summed over tiles, images and micro-batches in the Winograd domain.

use std::sync::Arc;

use super::factored::{GradientSide, InputSide, KernelGradientSide, transform_square};
use super::images::{Images, MAX_KERNEL, channels_to_rows};
use super::layout::{CHANNEL_ALIGNMENT, Planes, panels};
use super::multiply::{MultiplyPanel, Prefetch};
use super::tiles::{Extent, Grid};
use super::transforms::{Source, TileKernel, dispatch_tile};
use super::{ConvGeometry, Masked, Tile};
use crate::buffer_pool::{Buffer, BufferPool};
use crate::shape::Shape;
use crate::simd::{Isa, Simd};
use crate::sink::Deferred;

/// Bytes of the planes of one row, inputs and output gradients, of a block of tiles, at most: half of the second-level cache.
/// More than in the other passes, since not only read but written are the sums that stream past.
const ROW_BYTES: usize = 1 << 20;

/// The sum of `(B^T d B) . (A dY A^T)` over everything seen since the last [`finish`](Self::finish), and of the output
/// gradients for the bias.
///
/// The way back, `G^T S G`, is linear, so that it can wait until all micro-batches of a group have been added up: one transform for
/// each kernel instead of one for each micro-batch.
#[derive(Debug)]
pub struct WeightGradientAccumulator {
    tile: Tile,
    isa: Isa,
    /// `[O, C]` of the weights.
    channels: [usize; 2],
    /// Rows are input channels, columns output channels.
    planes: Planes,
    bias: Buffer<f32>,
    /// Nothing was added yet: the planes hold old sums, which the first block overwrites.
    empty: bool,
}

impl WeightGradientAccumulator {
    /// An empty sum for the geometry's weights, in memory of `pool`. Sizes of images do not matter.
    ///
    /// # Panics
    /// If `tile` does not support the geometry.
    pub fn new(pool: &Arc<BufferPool>, tile: Tile, g: &ConvGeometry, isa: Isa) -> Self {
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        // The first block overwrites the planes.
        let planes = Planes::new(pool, tile.inputs() * tile.inputs(), g.c_in, panels(g.c_out, isa));
        let bias = pool.zeros(g.c_out);
        Self { tile, isa, channels: [g.c_out, g.c_in], planes, bias, empty: true }
    }

    /// Adds the images of a micro-batch: `x` (N x C x H x W) and `dy` (N x O x OH x OW), which with a mask, the saved output of ReLU,
    /// counts only where the output is positive. Serial. Scratch comes from `pool`.
    ///
    /// # Panics
    /// If the geometry is not supported or has other channels, or a slice does not have its length.
    pub fn accumulate(
        &mut self,
        pool: &Arc<BufferPool>,
        g: &ConvGeometry,
        x: &[f32],
        (dy, mask): Masked<'_>,
    ) {
        let (tile, isa) = (self.tile, self.isa);
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        assert_eq!(self.channels, [g.c_out, g.c_in], "the sum is for other channels");
        assert_eq!([x.len(), dy.len()], [g.input_len(), g.output_len()]);
        assert!(mask.is_none_or(|mask| mask.len() == dy.len()));
        dispatch_tile(isa, tile, Accumulate { sums: self, pool, g, x, dy: (dy, mask) });
    }

    /// Writes the weight gradient `dw` (O x C x r x r), or adds it if `add`, and starts again from nothing. Without any image the
    /// gradient is zero.
    ///
    /// # Panics
    /// If the slice does not have the weights' length.
    pub fn finish(&mut self, dw: &mut [f32], add: bool) {
        assert_eq!(dw.len(), self.shape().elements());
        self.bias.fill(0.0);
        if self.empty {
            if !add {
                dw.fill(0.0);
            }
            return;
        }
        dispatch_tile(self.isa, self.tile, Finish { sums: self, dw, add });
        self.empty = true;
    }

    /// Writes the bias gradient, if asked for, and starts it again from nothing.
    ///
    /// # Panics
    /// If the slice does not have O elements.
    pub fn finish_bias(&mut self, db: Option<&mut [f32]>) {
        if let Some(db) = db {
            db.copy_from_slice(&self.bias);
        }
        self.bias.fill(0.0);
    }

    /// Tells whether gradients of such weights, in tiles of this size, can be added.
    pub(crate) fn fits(&self, tile: Tile, g: &ConvGeometry) -> bool {
        (self.tile, self.channels) == (tile, [g.c_out, g.c_in])
    }

    /// The tile size.
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// Bytes of the sums.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.planes.values)
    }
}

impl Deferred<f32> for WeightGradientAccumulator {
    fn shape(&self) -> Shape {
        let ([outputs, inputs], r) = (self.channels, self.tile.kernel());
        [outputs, inputs, r, r].into()
    }

    fn finish(&mut self, gradient: &mut [f32], add: bool) {
        self.finish(gradient, add);
    }
}

/// [`WeightGradientAccumulator::accumulate`].
struct Accumulate<'a> {
    sums: &'a mut WeightGradientAccumulator,
    pool: &'a Arc<BufferPool>,
    g: &'a ConvGeometry,
    x: &'a [f32],
    dy: Masked<'a>,
}

impl TileKernel for Accumulate<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const R: usize, const N: usize>(self, s: S) {
        let Self { sums, pool, g, x, dy: (dy, mask) } = self;
        let (tile, count, panels) = (sums.tile, g.n, sums.planes.panels);
        let (shape, extent) = ([g.c_in, g.h, g.w], Extent::inputs(tile));
        let x = Images { count, data: x, mask: None, shape, extent, padding: g.padding };
        let (shape, extent) = ([g.c_out, g.out_h(), g.out_w()], Extent::outputs(tile));
        let dy = Images { count, data: dy, mask, shape, extent, padding: [0; 2] };
        let most = ROW_BYTES / (N * (g.c_in + g.c_out) * size_of::<f32>());
        let grid = Grid::new(tile, count, [shape[1], shape[2]], most, 1);
        let mut inputs = Source::new(pool, grid, x, [g.c_in.next_multiple_of(CHANNEL_ALIGNMENT), 1]);
        let mut gradients = Source::new(pool, grid, dy, [sums.planes.width, panels]);
        let mut scratch = pool.take(grid.pixels() * S::LANES);
        for block in grid.blocks() {
            inputs.load_block::<S, InputSide, N, N>(s, block, &mut scratch, None);
            gradients.load_block::<S, GradientSide, M, N>(s, block, &mut scratch, Some(&mut sums.bias));
            for row in 0..N {
                inputs.row_into_planes::<S, InputSide, N, N>(s, block, row);
                gradients.row_into_planes::<S, GradientSide, M, N>(s, block, row);
                for panel in 0..panels {
                    let share = [row * panels + panel, N * panels];
                    let c_place = sums.planes.panel(row * N, panel);
                    s.call(MultiplyPanel {
                        planes: N,
                        m: g.c_in,
                        k: block.len(),
                        a: &inputs.planes,
                        // Its rows are tiles, which are summed over.
                        a_transposed: true,
                        b: &gradients.planes,
                        b_places: [panel, (panel + 1) % panels].map(|panel| gradients.planes.panel(0, panel)),
                        c: &mut sums.planes,
                        c_place,
                        accumulate: !sums.empty,
                        prefetch: [x, dy]
                            .map(|images| block.next().map(|next| Prefetch(images, next, share))),
                    });
                }
            }
            sums.empty = false;
        }
    }
}

/// [`WeightGradientAccumulator::finish`].
struct Finish<'a> {
    sums: &'a WeightGradientAccumulator,
    /// `[O, C, r, r]`.
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
        for (row, first, place) in planes.vectors(outputs, S::LANES) {
            let taps = (&mut *kernels, [R * S::LANES, S::LANES]);
            let from = (&planes.values[place..], [N * stride, stride]);
            transform_square::<S, KernelGradientSide, N, R>(s, from, taps);
            let dw = &mut self.dw[(first * inputs + row) * R * R..];
            let (stride, count) = (inputs * R * R, (outputs - first).min(S::LANES));
            if self.add {
                channels_to_rows::<S, true>(s, kernels, dw, stride, count);
            } else {
                channels_to_rows::<S, false>(s, kernels, dw, stride, count);
            }
        }
    }
}
