//! The weight gradient, summed over tiles, images and micro-batches in the Winograd domain.

use std::sync::Arc;

use super::blocks::{Blocks, PanelPass, Turn};
use super::factored::{KernelGradientSide, transform_square};
use super::images::{Images, MAX_KERNEL, channels_to_rows};
use super::layout::{Planes, panels};
use super::multiply::MultiplyPanel;
use super::tiles::{Block, Extent, Grid};
use super::transforms::{Source, TileKernel, dispatch_tile};
use super::{ConvGeometry, Masked, Tile};
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::{Isa, Simd, dispatch};

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
    #[must_use]
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
        let (size, padding) = ([g.out_h(), g.out_w()], g.padding);
        let grid = Grid::new(g.n, size, tile.outputs());
        let blocks = Blocks::new((tile, isa), grid, g.c_in + g.c_out, ROW_BYTES, 1);
        let (shape, extent) = ([g.c_in, g.h, g.w], Extent::inputs(tile));
        let inputs = Images { data: x, mask: None, shape, extent, padding };
        let (shape, extent) = ([g.c_out, size[0], size[1]], Extent::outputs(tile));
        let gradients = Images { data: dy, mask, shape, extent, padding: [0; 2] };
        let panels = [self.planes.width, self.planes.panels];
        let gradients = Source::new(pool, blocks, gradients, panels);
        blocks.run(pool, inputs, panels[1], &mut Products { sums: self, gradients });
    }

    /// Writes the weight gradient `dw` (O x C x r x r) and, if given, the bias gradient `db` (O), or adds them if `add`, and
    /// starts again from nothing. Without any image the gradients are zero.
    ///
    /// # Panics
    /// If a slice does not have the weights' length.
    pub fn finish(&mut self, dw: &mut [f32], db: Option<&mut [f32]>, add: bool) {
        let [outputs, inputs] = self.channels;
        assert_eq!(dw.len(), outputs * inputs * self.tile.kernel() * self.tile.kernel());
        if let Some(db) = db {
            assert_eq!(db.len(), outputs);
            for (db, &sum) in db.iter_mut().zip(&*self.bias) {
                *db = if add { *db + sum } else { sum };
            }
        }
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

    /// Writes the bias gradient alone, if asked for, and starts it again from nothing.
    ///
    /// # Panics
    /// If the slice does not have O elements.
    pub fn finish_bias(&mut self, db: Option<&mut [f32]>) {
        if let Some(db) = db {
            db.copy_from_slice(&self.bias);
        }
        self.bias.fill(0.0);
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

/// The products of inputs and output gradients on their way into the sums.
struct Products<'s, 'a> {
    sums: &'s mut WeightGradientAccumulator,
    gradients: Source<'a>,
}

impl PanelPass for Products<'_, '_> {
    fn begin_block(&mut self, block: Block, scratch: &mut [f32]) {
        self.gradients.load_block(block, scratch, Some(&mut self.sums.bias));
    }

    fn begin_row(&mut self, block: Block, row: usize) {
        self.gradients.row_into_planes(block, row);
    }

    fn multiply(&mut self, inputs: &Source<'_>, turn: Turn) {
        let Self { sums: WeightGradientAccumulator { tile, isa, planes: sums, empty, .. }, gradients } = self;
        let (n, Turn { block, row, panel, .. }) = (tile.inputs(), turn);
        let (factors, c_at) = (&gradients.planes, sums.panel(row * n, panel));
        let product = MultiplyPanel {
            planes: n,
            m: inputs.images.shape[0],
            k: block.len(),
            width: factors.width,
            a: (&inputs.planes.values, inputs.planes.stride),
            // A transposed: rows of the planes are tiles, which are summed over.
            a_strides: [1, inputs.planes.width],
            b: (&factors.values[factors.panel(0, panel)..], factors.stride),
            c: (&mut sums.values[c_at..], sums.stride),
            accumulate: !*empty,
            next: &factors.values,
            prefetch: [turn.prefetch(&inputs.images), turn.prefetch(&gradients.images)],
        };
        dispatch(*isa, product);
    }

    fn end_block(&mut self, _: Block, _: &mut [f32]) {
        self.sums.empty = false;
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
        let (width, stride) = (planes.width, planes.stride);
        let mut scratch = [0.0; MAX_KERNEL];
        let kernels = &mut scratch[..R * R * S::LANES];
        for panel in (0..outputs).step_by(width) {
            for row in 0..inputs {
                for first in (panel..outputs.min(panel + width)).step_by(S::LANES) {
                    let sums = (&planes.values[planes.column(first) + row * width..], [N * stride, stride]);
                    let taps = (&mut *kernels, [R * S::LANES, S::LANES]);
                    transform_square::<S, KernelGradientSide, N, R>(s, sums, taps);
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
    }
}
