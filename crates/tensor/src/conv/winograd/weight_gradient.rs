//! The weight gradient, summed over tiles, images and shards in the Winograd domain.

use std::sync::Arc;

use super::ahead::Ahead;
use super::bands::Bands;
use super::channel_lanes::Images;
use super::convolve::block_tiles;
use super::into_domain::{BandIntoPlanes, IntoBands, Side, scratch_len};
use super::layout::Planes;
use super::multiply::{Left, MultiplyPlanes};
use super::tiling::Grid;
use super::weight_transform::WeightGradientFromDomain;
use super::{ConvGeometry, Tile};
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::Isa;
use crate::simd::dispatch;

/// Bytes of the planes of one row, inputs and output gradients, of a block of tiles, at most: half of the second-level cache.
/// More than in the other passes, since not only read but written are the sums that stream past.
const ROW_BYTES: usize = 1 << 20;

/// The sum of `(B^T d B) . (A dY A^T)` over everything seen since the last [`finish`](Self::finish), and of the output
/// gradients for the bias.
///
/// The way back, `G^T S G`, is linear, so that it can wait until a whole lane has been added up: one transform for each kernel
/// instead of one for each shard.
#[derive(Debug)]
pub struct WeightGradientAccumulator {
    tile: Tile,
    isa: Isa,
    /// `[O, C]` of the weights.
    channels: [usize; 2],
    layout: Planes,
    planes: Buffer<f32>,
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
        let layout = Planes::panelled(g.c_in, g.c_out, isa);
        // The first block overwrites the planes.
        let planes = pool.take(layout.len(tile));
        let bias = pool.zeros(g.c_out);
        Self { tile, isa, channels: [g.c_out, g.c_in], layout, planes, bias, empty: true }
    }

    /// Adds the images of a shard: `x` (N x C x H x W) and `dy` (N x O x OH x OW), which with `mask`, the saved output of ReLU,
    /// counts only where the output is positive. Serial. Scratch comes from `pool`.
    ///
    /// # Panics
    /// If the geometry is not supported or has other channels, or a slice does not have its length.
    pub fn accumulate(
        &mut self,
        pool: &Arc<BufferPool>,
        g: &ConvGeometry,
        x: &[f32],
        dy: &[f32],
        mask: Option<&[f32]>,
    ) {
        let (tile, isa, panels) = (self.tile, self.isa, self.layout);
        assert!(tile.supports(g), "{tile:?} does not support {g:?}");
        assert_eq!(self.channels, [g.c_out, g.c_in], "the sum is for other channels");
        assert_eq!([x.len(), dy.len()], [g.input_len(), g.output_len()]);
        assert!(mask.is_none_or(|mask| mask.len() == dy.len()));
        let (out_h, out_w) = (g.out_h(), g.out_w());
        let input = Images { data: x, mask: None, channels: g.c_in, height: g.h, width: g.w };
        let gradient = Images { data: dy, mask, channels: g.c_out, height: out_h, width: out_w };
        let grid = Grid::new(g.n, out_h, out_w, tile.outputs());
        let n = tile.inputs();
        let size = block_tiles(tile, grid.total(), g.c_in + g.c_out, ROW_BYTES, 1);
        let sides = [Side::Input { padding: g.padding }, Side::Gradient];
        let input_bands = Bands::new(&grid, size, sides[0].extent(tile), g.c_in);
        let gradient_bands = Bands::new(&grid, size, sides[1].extent(tile), g.c_out);
        let inputs = Planes::single(size, g.c_in);
        let gradients = Planes::new(size, panels.width, panels.panels);
        let mut input_band = pool.take::<f32>(input_bands.len(tile));
        let mut gradient_band = pool.take::<f32>(gradient_bands.len(tile));
        let mut transformed = pool.take::<f32>(inputs.row_len(tile));
        let mut transformed_gradient = pool.take::<f32>(gradients.row_len(tile));
        let mut scratch = pool.take::<f32>(scratch_len(tile, &grid, size));
        for start in (0..grid.total()).step_by(size.max(1)) {
            let block = start..(start + size).min(grid.total());
            let job = IntoBands {
                tile,
                side: sides[0],
                images: input,
                grid,
                block: block.clone(),
                bands: input_bands,
                out: &mut input_band,
                scratch: &mut scratch,
                sums: None,
            };
            dispatch(isa, job);
            let job = IntoBands {
                tile,
                side: sides[1],
                images: gradient,
                grid,
                block: block.clone(),
                bands: gradient_bands,
                out: &mut gradient_band,
                scratch: &mut scratch,
                sums: Some(&mut self.bias),
            };
            dispatch(isa, job);
            let next = block.end..(block.end + size).min(grid.total());
            let more = !next.is_empty();
            for row in 0..n {
                let job = BandIntoPlanes {
                    tile,
                    side: sides[0],
                    grid,
                    block: block.clone(),
                    bands: input_bands,
                    band: &input_band[row * input_bands.stride()..][..input_bands.stride()],
                    channels: g.c_in,
                    layout: inputs,
                    out: &mut transformed,
                };
                dispatch(isa, job);
                let job = BandIntoPlanes {
                    tile,
                    side: sides[1],
                    grid,
                    block: block.clone(),
                    bands: gradient_bands,
                    band: &gradient_band[row * gradient_bands.stride()..][..gradient_bands.stride()],
                    channels: g.c_out,
                    layout: gradients,
                    out: &mut transformed_gradient,
                };
                dispatch(isa, job);
                for (panel, first) in (0..g.c_out).step_by(panels.width).enumerate() {
                    let ahead = |data, mask, shape, before, extent| Ahead {
                        data,
                        mask,
                        shape,
                        channels: 0..shape[0],
                        grid,
                        tiles: next.clone(),
                        step: tile.outputs(),
                        before,
                        extent,
                        first: (row * panels.panels + panel) * n,
                        shares: n * n * panels.panels,
                    };
                    let input = ahead(x, None, [g.c_in, g.h, g.w], g.padding[0], n);
                    let gradient = ahead(dy, mask, [g.c_out, out_h, out_w], 0, tile.outputs());
                    let job = MultiplyPlanes {
                        planes: n,
                        rows: g.c_in,
                        depth: block.len(),
                        width: panels.width,
                        left: &transformed,
                        left_layout: Left::Columns { stride: inputs.width },
                        left_stride: inputs.stride,
                        right: &transformed_gradient[gradients.column(first)..],
                        right_stride: gradients.stride,
                        product: &mut self.planes[row * n * panels.stride + panels.column(first)..],
                        product_stride: panels.stride,
                        add: !self.empty,
                        then: &transformed_gradient,
                        ahead: [more.then_some(input), more.then_some(gradient)],
                    };
                    dispatch(isa, job);
                }
            }
            self.empty = false;
        }
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
        let (sums, channels) = (&self.planes, self.channels);
        let job =
            WeightGradientFromDomain { tile: self.tile, sums, layout: self.layout, channels, out: dw, add };
        dispatch(self.isa, job);
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
    #[must_use]
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// Bytes of the sums.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.planes)
    }
}
