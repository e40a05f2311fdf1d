//! The forward pass and the input gradient: the same walk over blocks of tiles.

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::ahead::Ahead;
use super::bands::Bands;
use super::channel_lanes::Images;
use super::from_domain::{FromBands, PlanesIntoBand, output_extent};
use super::into_domain::{BandIntoPlanes, IntoBands, Side, scratch_len};
use super::layout::{Planes, kernel_rows};
use super::multiply::{Left, MultiplyPlanes};
use super::prepared::PreparedWeights;
use super::tiling::Grid;
use super::{ConvGeometry, Pass, Tile};
use crate::buffer_pool::BufferPool;
use crate::simd::dispatch;

/// The output of a convolution, overwritten: `y` (N x O x OH x OW) from `x` (N x C x H x W), transformed weights and a bias of O
/// elements; with ReLU if `relu`. With `parallel` on rayon's threads, with the same bits. Scratch comes from `pool`.
///
/// # Panics
/// If the weights were prepared for another direction or other channels, or a slice does not have the geometry's length.
pub fn forward(
    pool: &Arc<BufferPool>,
    weights: &PreparedWeights,
    g: &ConvGeometry,
    x: &[f32],
    bias: Option<&[f32]>,
    relu: bool,
    parallel: bool,
    y: &mut [f32],
) {
    check(weights, Pass::Forward, g);
    assert_eq!([x.len(), y.len()], [g.input_len(), g.output_len()]);
    assert!(bias.is_none_or(|bias| bias.len() == g.c_out));
    let images = Images { data: x, mask: None, channels: g.c_in, height: g.h, width: g.w };
    let walk = Walk {
        weights,
        images,
        padding: g.padding,
        bias,
        relu,
        shape: [g.c_out, g.out_h(), g.out_w()],
        first: 0,
    };
    walk.run(pool, g.n, parallel, y);
}

/// The gradient with respect to the input, overwritten: `dx` (N x C x H x W) from `dy` (N x O x OH x OW) and transformed weights.
/// With `mask`, the saved output of ReLU, `dy` counts only where the output is positive. With `parallel` on rayon's
/// threads, with the same bits. Scratch comes from `pool`.
///
/// # Panics
/// If the weights were prepared for another direction or other channels, or a slice does not have the geometry's length.
pub fn input_gradient(
    pool: &Arc<BufferPool>,
    weights: &PreparedWeights,
    g: &ConvGeometry,
    dy: &[f32],
    mask: Option<&[f32]>,
    parallel: bool,
    dx: &mut [f32],
) {
    check(weights, Pass::InputGradient, g);
    assert_eq!([dy.len(), dx.len()], [g.output_len(), g.input_len()]);
    assert!(mask.is_none_or(|mask| mask.len() == dy.len()));
    let images = Images { data: dy, mask, channels: g.c_out, height: g.out_h(), width: g.out_w() };
    // Each input pixel lies under r x r outputs: the correlation of the output gradient with the turned kernel.
    let padding = g.padding.map(|p| weights.tile.kernel() - 1 - p);
    let walk =
        Walk { weights, images, padding, bias: None, relu: false, shape: [g.c_in, g.h, g.w], first: 0 };
    walk.run(pool, g.n, parallel, dx);
}

fn check(weights: &PreparedWeights, direction: Pass, g: &ConvGeometry) {
    assert!(weights.tile.supports(g), "{:?} does not support {g:?}", weights.tile);
    assert_eq!(weights.direction, direction, "weights were prepared for the other direction");
    assert_eq!(weights.channels, [g.c_out, g.c_in], "weights were prepared for other channels");
}

/// Bytes of the planes of one row, inputs and products, of a block of tiles, at most: a third of the second-level cache, through
/// which the weights stream meanwhile.
const ROW_BYTES: usize = 640 << 10;

/// Tiles of a block: as many as fit `row_bytes` with `values` values in each plane of a row; a multiple of the micro-kernel's
/// `rows`, or all tiles if they are few. The more there are, the fewer times the weights, or their sums, stream past.
pub(super) fn block_tiles(tile: Tile, total: usize, values: usize, row_bytes: usize, rows: usize) -> usize {
    let most = (row_bytes / (tile.inputs() * values * size_of::<f32>())).max(24);
    let blocks = total.div_ceil(most);
    // Blocks of equal size, so that the last one is not a small rest.
    total.div_ceil(blocks.max(1)).next_multiple_of(rows).min(total.max(1))
}

/// A correlation, of the channels from `first` on.
#[derive(Clone, Copy)]
struct Walk<'a> {
    weights: &'a PreparedWeights,
    images: Images<'a>,
    padding: [usize; 2],
    /// One per channel from `first` on.
    bias: Option<&'a [f32]>,
    relu: bool,
    /// `[C, H, W]` of the output; only the channels from `first` on.
    shape: [usize; 3],
    first: usize,
}

impl Walk<'_> {
    /// Convolves `count` images, on several threads if `parallel` and there are several.
    ///
    /// Each output value is the same sum whichever thread makes it, so that the cut decides nothing but the time.
    fn run(self, pool: &Arc<BufferPool>, count: usize, parallel: bool, out: &mut [f32]) {
        let threads = if parallel { rayon::current_num_threads() } else { 1 };
        let [channels, height, width] = self.shape;
        let volume = channels * height * width;
        if threads == 1 {
            self.serial(pool, 0..count, out);
        } else if count >= threads {
            let share = count.div_ceil(threads);
            out.par_chunks_mut(share * volume).enumerate().for_each(|(chunk, out)| {
                let start = chunk * share;
                self.serial(pool, start..count.min(start + share), out);
            });
        } else {
            // Few images: each thread takes some panels of channels, and with them its part of the weights, which are more to
            // read than the inputs that every thread transforms for itself.
            let panels = channels.div_ceil(self.weights.layout.width);
            let share = panels.div_ceil(threads) * self.weights.layout.width;
            for (image, out) in out.chunks_exact_mut(volume).enumerate() {
                out.par_chunks_mut(share * height * width).enumerate().for_each(|(chunk, out)| {
                    let first = chunk * share;
                    let channels = (channels - first).min(share);
                    let bias = self.bias.map(|bias| &bias[first..first + channels]);
                    let part = Walk { bias, shape: [channels, height, width], first, ..self };
                    part.serial(pool, image..image + 1, out);
                });
            }
        }
    }

    /// Convolves the images `range` into `out`.
    fn serial(self, pool: &Arc<BufferPool>, range: Range<usize>, out: &mut [f32]) {
        let (tile, isa, panels) = (self.weights.tile, self.weights.isa, self.weights.layout);
        let [channels, height, width] = self.shape;
        let images = self.images.range(&range);
        let grid = Grid::new(range.len(), height, width, tile.outputs());
        let n = tile.inputs();
        let side = Side::Input { padding: self.padding };
        let values = images.channels + panels.width;
        let size = block_tiles(tile, grid.total(), values, ROW_BYTES, kernel_rows(panels.width, isa));
        let input_bands = Bands::new(&grid, size, side.extent(tile), images.channels);
        let output_bands = Bands::new(&grid, size, output_extent(tile), channels);
        let inputs = Planes::single(size, images.channels);
        let products = Planes::new(size, panels.width, 1);
        let mut input_band = pool.take::<f32>(input_bands.len(tile));
        let mut output_band = pool.take::<f32>(output_bands.len(tile));
        let mut transformed = pool.take::<f32>(inputs.row_len(tile));
        let mut product = pool.take::<f32>(products.row_len(tile));
        let mut scratch = pool.take::<f32>(scratch_len(tile, &grid, size));
        let weights = |row: usize, first: usize| {
            &self.weights.planes[row * n * panels.stride + panels.column(self.first + first)..]
        };
        let panel_count = channels.div_ceil(panels.width);
        let shares = n * n * panel_count;
        // The outputs are fetched during the second half of the rows of planes, so that they are still there when they are written.
        let late = n / 2;
        for start in (0..grid.total()).step_by(size.max(1)) {
            let block = start..(start + size).min(grid.total());
            let job = IntoBands {
                tile,
                side,
                images,
                grid,
                block: block.clone(),
                bands: input_bands,
                out: &mut input_band,
                scratch: &mut scratch,
                sums: None,
            };
            dispatch(isa, job);
            let next = block.end..(block.end + size).min(grid.total());
            for row in 0..n {
                let job = BandIntoPlanes {
                    tile,
                    side,
                    grid,
                    block: block.clone(),
                    bands: input_bands,
                    band: &input_band[row * input_bands.stride()..][..input_bands.stride()],
                    channels: images.channels,
                    layout: inputs,
                    out: &mut transformed,
                };
                dispatch(isa, job);
                for (panel, first) in (0..channels).step_by(panels.width).enumerate() {
                    let input = Ahead {
                        data: images.data,
                        mask: images.mask,
                        shape: [images.channels, images.height, images.width],
                        channels: 0..images.channels,
                        grid,
                        tiles: next.clone(),
                        step: tile.outputs(),
                        before: self.padding[0],
                        extent: n,
                        first: (row * panel_count + panel) * n,
                        shares,
                    };
                    let output = Ahead {
                        data: out,
                        mask: None,
                        shape: self.shape,
                        channels: 0..channels,
                        grid,
                        tiles: block.clone(),
                        step: tile.outputs(),
                        before: 0,
                        extent: tile.outputs(),
                        first: (row.saturating_sub(late) * panel_count + panel) * n,
                        shares: shares - late * panel_count * n,
                    };
                    let then = if first + panels.width < channels {
                        weights(row, first + panels.width)
                    } else {
                        weights((row + 1) % n, 0)
                    };
                    let job = MultiplyPlanes {
                        planes: n,
                        rows: block.len(),
                        depth: images.channels,
                        width: panels.width,
                        left: &transformed,
                        left_layout: Left::Rows { stride: inputs.width },
                        left_stride: inputs.stride,
                        right: weights(row, first),
                        right_stride: panels.stride,
                        product: &mut product,
                        product_stride: products.stride,
                        add: false,
                        then,
                        ahead: [(row >= late).then_some(output), (!next.is_empty()).then_some(input)],
                    };
                    dispatch(isa, job);
                    let job = PlanesIntoBand {
                        tile,
                        products: &product,
                        layout: products,
                        tiles: block.len(),
                        channels: first..channels.min(first + panels.width),
                        bands: output_bands,
                        band: &mut output_band[row * output_bands.stride()..][..output_bands.stride()],
                    };
                    dispatch(isa, job);
                }
            }
            let job = FromBands {
                tile,
                bands: output_bands,
                products: &output_band,
                grid,
                block: block.clone(),
                channels: 0..channels,
                bias: self.bias,
                relu: self.relu,
                out,
                shape: self.shape,
                scratch: &mut scratch,
            };
            dispatch(isa, job);
        }
    }
}
