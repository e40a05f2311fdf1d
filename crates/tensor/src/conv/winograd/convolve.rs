//! The forward pass and the input gradient: the same walk over blocks of tiles.

use std::sync::Arc;

use super::channel_lanes::Images;
use super::from_domain::FromDomain;
use super::into_domain::{IntoDomain, Side, scratch_len};
use super::lanes::dispatch;
use super::layout::Planes;
use super::multiply::{Left, MultiplyPlanes};
use super::prepared::PreparedWeights;
use super::tiling::Grid;
use super::{ConvGeometry, Direction};
use crate::buffer_pool::BufferPool;

/// Bytes of transformed inputs and products of a block of tiles, at least: about twice the second-level cache, each
/// plane of which is then used while it is there.
const BLOCK_BYTES: usize = 4 << 20;

/// What is added to the products and done to the sum.
#[derive(Clone, Copy)]
struct Epilogue<'a> {
    bias: Option<&'a [f32]>,
    relu: bool,
}

/// The output of a convolution, overwritten: `y` (N x O x OH x OW) from `x` (N x C x H x W), transformed weights and a bias of O
/// elements; with ReLU if `relu`. Serial. Scratch comes from `pool`.
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
    y: &mut [f32],
) {
    check(weights, Direction::Forward, g);
    assert_eq!([x.len(), y.len()], [g.input_len(), g.output_len()]);
    assert!(bias.is_none_or(|bias| bias.len() == g.c_out));
    let images = Images { data: x, mask: None, channels: g.c_in, height: g.h, width: g.w };
    convolve(
        pool,
        weights,
        images,
        g.padding,
        Epilogue { bias, relu },
        g.n,
        [g.c_out, g.out_h(), g.out_w()],
        y,
    );
}

/// The gradient with respect to the input, overwritten: `dx` (N x C x H x W) from `dy` (N x O x OH x OW) and transformed weights.
/// With `mask`, the saved output of ReLU, `dy` counts only where the output is positive. Serial. Scratch comes from `pool`.
///
/// # Panics
/// If the weights were prepared for another direction or other channels, or a slice does not have the geometry's length.
pub fn input_gradient(
    pool: &Arc<BufferPool>,
    weights: &PreparedWeights,
    g: &ConvGeometry,
    dy: &[f32],
    mask: Option<&[f32]>,
    dx: &mut [f32],
) {
    check(weights, Direction::InputGradient, g);
    assert_eq!([dy.len(), dx.len()], [g.output_len(), g.input_len()]);
    assert!(mask.is_none_or(|mask| mask.len() == dy.len()));
    let images = Images { data: dy, mask, channels: g.c_out, height: g.out_h(), width: g.out_w() };
    // Each input pixel lies under r x r outputs: the correlation of the output gradient with the turned kernel.
    let padding = g.padding.map(|p| weights.tile.kernel() - 1 - p);
    convolve(
        pool,
        weights,
        images,
        padding,
        Epilogue { bias: None, relu: false },
        g.n,
        [g.c_in, g.h, g.w],
        dx,
    );
}

fn check(weights: &PreparedWeights, direction: Direction, g: &ConvGeometry) {
    assert!(weights.tile.supports(g), "{:?} does not support {g:?}", weights.tile);
    assert_eq!(weights.direction, direction, "weights were prepared for the other direction");
    assert_eq!(weights.channels, [g.c_out, g.c_in], "weights were prepared for other channels");
}

/// Tiles of a block: as many as fit [`BLOCK_BYTES`] or a third of the transformed weights, which stream past once per block;
/// a multiple of the micro-kernels' rows (6, 8 and 12), or all tiles if they are few.
pub(super) fn block_tiles(total: usize, bytes_per_tile: usize, weight_bytes: usize) -> usize {
    let most = (BLOCK_BYTES.max(weight_bytes / 3) / bytes_per_tile).clamp(24, 192);
    let blocks = total.div_ceil(most);
    // Blocks of equal size, so that the last one is not a small rest.
    total.div_ceil(blocks.max(1)).next_multiple_of(24).min(total.max(1))
}

fn convolve(
    pool: &Arc<BufferPool>,
    weights: &PreparedWeights,
    images: Images<'_>,
    padding: [usize; 2],
    epilogue: Epilogue<'_>,
    count: usize,
    shape: [usize; 3],
    out: &mut [f32],
) {
    let (tile, isa, panels) = (weights.tile, weights.isa, weights.layout);
    let [channels, height, width] = shape;
    let grid = Grid::new(count, height, width, tile.outputs());
    let planes = tile.inputs() * tile.inputs();
    let per_tile = planes * size_of::<f32>() * (images.channels + panels.width);
    let size = block_tiles(grid.total(), per_tile, weights.bytes());
    let inputs = Planes::single(size, images.channels);
    let products = Planes::new(size, panels.width, 1);
    let mut transformed = pool.take::<f32>(inputs.len(tile));
    let mut product = pool.take::<f32>(products.len(tile));
    let mut scratch = pool.take::<f32>(scratch_len(tile, &grid, size));
    for start in (0..grid.total()).step_by(size) {
        let block = start..(start + size).min(grid.total());
        let job = IntoDomain {
            tile,
            side: Side::Input { padding },
            images,
            grid,
            block: block.clone(),
            layout: inputs,
            out: &mut transformed,
            scratch: &mut scratch,
            sums: None,
        };
        dispatch(isa, job);
        for first in (0..channels).step_by(panels.width) {
            let job = MultiplyPlanes {
                planes,
                rows: block.len(),
                depth: images.channels,
                width: panels.width,
                left: &transformed,
                left_layout: Left::Rows { stride: inputs.width },
                left_stride: inputs.stride,
                right: &weights.planes[panels.column(first)..],
                right_stride: panels.stride,
                product: &mut product,
                product_stride: products.stride,
                add: false,
            };
            dispatch(isa, job);
            let job = FromDomain {
                tile,
                products: &product,
                layout: products,
                grid,
                block: block.clone(),
                channels: first..channels.min(first + panels.width),
                bias: epilogue.bias,
                relu: epilogue.relu,
                out,
                shape,
                scratch: &mut scratch,
            };
            dispatch(isa, job);
        }
    }
}
