//! Products for a weight gradient: a small C and a sum over all pixels of all images.
//!
//! The left operand, the masked output gradient, is copied a block of pixels at a time, and all that is to be done with
//! it is done while the block is in the second-level cache: the sum of its rows (the bias's gradient), and for a pointwise
//! convolution the product with the weights, the input's gradient. Where the layer below is a convolution too, that
//! gradient is its block, and so the walk goes on, [`Link`] by link, before the next pixels have their turn.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::blocked::{Block, columns_of, tile};
use super::microkernel::{BLOCK_ROW_STRIDE, MicroKernel, with_kernel};
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{MAX_DEPTH, PackedA, Split, depth_blocks};
use super::planes::Planes;
use super::sparse::Sparse;
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::Isa;

/// One layer of a walk backward: `dw (+)= A B`, and on to the next layer with `w A`.
#[expect(missing_debug_implementations, reason = "an operand need not have one")]
pub struct Link<'a> {
    /// B, the layer's input, with a lane per column of the weight gradient and the depth of A.
    pub input: &'a dyn Operand,
    /// Row-major, a row per channel of A and a column per lane of the input.
    pub dw: &'a mut [f32],
    /// The sums of A's rows, if they are wanted.
    pub db: Option<&'a mut [f32]>,
    /// w, a depth per channel of A; `None` where the walk ends.
    pub weights: Option<&'a PackedA>,
    /// `w A` counts as zero where this is not above zero: the output of the layer below, if that has a ReLU.
    pub rectified: Option<Planes<'a>>,
}

/// Walks backward through `links`, a block of pixels at a time. A of the first has a row per channel and a depth per
/// (image, pixel), perhaps masked; A of each other is `w A` of the one before it, masked. The last link's `w A`, without a
/// mask, goes to `out` (a column per pixel), with the bits that [`gemm`](super::gemm) would give it; there is an `out` if and only if the
/// last link has weights.
///
/// All gradients are overwritten, or added to if `accumulate`. A gradient has the same bits whatever links come after it.
///
/// # Panics
/// If rows, columns or depths do not fit together.
pub fn gemm_deep(
    pool: &Arc<BufferPool>,
    isa: Isa,
    a: &Planes<'_>,
    links: &mut [Link<'_>],
    accumulate: bool,
    out: Option<&Output<'_>>,
) {
    let (mut channels, depth) = (a.channels, a.images * a.pixels);
    let count = links.len();
    for (index, link) in links.iter_mut().enumerate() {
        let (lanes, last) = (link.input.lanes(), index + 1 == count);
        assert_eq!(link.input.depth(), depth, "depths of A and B");
        assert_eq!(link.dw.len(), channels * lanes, "dw is {channels} x {lanes}");
        assert!(link.db.as_ref().is_none_or(|db| db.len() == channels), "one sum per row of {channels}");
        assert_eq!(link.weights.is_some(), !last || out.is_some(), "weights where the walk goes on");
        if let (false, Some(db)) = (accumulate, &mut link.db) {
            db.fill(0.0);
        }
        let Some(weights) = link.weights else { break };
        assert_eq!((weights.isa(), weights.depth()), (isa, channels), "instruction set and depth of w");
        if let Some(mask) = &link.rectified {
            assert!(!last, "the last gradient is not masked");
            let sizes = (mask.channels, mask.images * mask.pixels);
            assert_eq!(sizes, (weights.rows(), depth), "rows and columns of the mask");
        }
        channels = weights.rows();
    }
    if let Some(out) = out {
        assert_eq!((out.rows(), out.columns()), (channels, depth), "rows and columns of w A");
    }
    with_kernel!(isa, kernel => walk(kernel, pool, isa, a, links, accumulate, out));
}

fn walk<K: MicroKernel>(
    kernel: K,
    pool: &Arc<BufferPool>,
    isa: Isa,
    a: &Planes<'_>,
    links: &mut [Link<'_>],
    accumulate: bool,
    out: Option<&Output<'_>>,
) {
    let rows = links.iter().filter_map(|link| Some(link.weights?.rows())).chain([a.channels]).max();
    let block = || pool.take::<f32>(rows.unwrap_or(0) * BLOCK_ROW_STRIDE);
    let mut block: [Buffer<f32>; 2] = [block(), block()];
    let mut scratch = pool.take::<f32>(MAX_DEPTH * K::NR);
    let mut sparse = Sparse::new(pool, isa, a.channels);
    for (index, pixels) in depth_blocks(a.images * a.pixels).enumerate() {
        let [a_block, next] = &mut block;
        let (mut a_block, mut next) = (&mut **a_block, &mut **next);
        a.copy_rows(isa, 0..a.channels, pixels.clone(), BLOCK_ROW_STRIDE, a_block);
        let count = links.len();
        let mut channels = a.channels;
        for (number, link) in links.iter_mut().enumerate() {
            if let Some(db) = &mut link.db {
                for (sum, row) in db.iter_mut().zip(a_block.chunks_exact(BLOCK_ROW_STRIDE)) {
                    *sum += sum_of(&row[..pixels.len()]);
                }
            }
            // Only what comes from above may be mostly zeros: what a layer hands on is not.
            let mut sparse = sparse.as_mut().filter(|_| number == 0);
            let mut sparse = sparse.take_if(|sparse| sparse.takes(a_block, channels, pixels.len()));
            let accumulate = accumulate || index > 0;
            let lists = sparse.as_deref();
            add_product(kernel, isa, link, channels, &pixels, (a_block, lists), accumulate, &mut scratch);
            let Some(weights) = link.weights else { break };
            let last = number + 1 == count;
            channels = weights.rows();
            match (&mut sparse, out) {
                (Some(sparse), _) => sparse.multiply_weights(pool, weights, a_block, pixels.len(), next),
                (None, Some(out)) if last => {
                    multiply_weights(kernel, weights, pixels.clone(), a_block, out);
                }
                (None, _) => {
                    let out = Output::matrix(next, channels, pixels.len(), BLOCK_ROW_STRIDE);
                    multiply_weights(kernel, weights, 0..pixels.len(), a_block, &out);
                }
            }
            if last {
                if let (Some(_), Some(out)) = (sparse, out) {
                    // SAFETY: one thread walks, and the output is the walk's.
                    unsafe { out.copy_rows(pixels.clone(), BLOCK_ROW_STRIDE, next) };
                }
                break;
            }
            if let Some(mask) = &link.rectified {
                mask.mask_rows(pixels.clone(), BLOCK_ROW_STRIDE, next);
            }
            std::mem::swap(&mut a_block, &mut next);
        }
    }
}

/// Adds the product of a block of A, a row for each channel, with the input's pixels to the weight gradient. With `sparse`, its
/// rows have been listed there.
fn add_product<K: MicroKernel>(
    kernel: K,
    isa: Isa,
    link: &mut Link<'_>,
    channels: usize,
    pixels: &Range<usize>,
    (a_block, sparse): (&[f32], Option<&Sparse>),
    accumulate: bool,
    scratch: &mut [f32],
) {
    let b = link.input;
    let epilogue = Epilogue { accumulate, ..Epilogue::default() };
    for columns in columns_of(kernel, b.lanes()).ranges() {
        let width = columns.len().next_multiple_of(K::LANES);
        let panel = &mut scratch[..pixels.len() * width];
        b.pack(isa, columns.clone(), pixels.clone(), width, panel);
        if let Some(sparse) = sparse {
            let c = &mut link.dw[columns.start..];
            sparse.multiply(panel, columns.len(), accumulate, c, b.lanes());
            continue;
        }
        let c = Output::matrix(link.dw, channels, b.lanes(), b.lanes());
        let output = c.columns_at(columns.clone());
        for rows in Split::new(channels, 1, K::MR).ranges() {
            let a = &a_block[rows.start * BLOCK_ROW_STRIDE..rows.end * BLOCK_ROW_STRIDE];
            let tile =
                tile(a.as_ptr(), BLOCK_ROW_STRIDE, 1, panel.as_ptr(), width, (&rows, &columns, pixels));
            // SAFETY: A's rows have room for `MAX_DEPTH` elements and the panel for the tile's depth and columns; rows and
            // columns lie inside C, whose sizes were compared; there is one thread.
            unsafe { output.run(kernel, tile, rows, epilogue) };
        }
    }
}

/// The columns `columns` of the product of weights with a block of A, a row for each channel.
fn multiply_weights<K: MicroKernel>(
    kernel: K,
    weights: &PackedA,
    columns: Range<usize>,
    block: &[f32],
    out: &Output<'_>,
) {
    for (index, depths) in depth_blocks(weights.depth()).enumerate() {
        let data = &block[depths.start * BLOCK_ROW_STRIDE..];
        let epilogue = Epilogue { accumulate: index > 0, ..Epilogue::default() };
        let block = Block { data, width: BLOCK_ROW_STRIDE, columns: columns.clone(), depths };
        block.multiply(kernel, weights, 0..weights.split().count, epilogue, out);
    }
}

/// The sum of a slice in sixteen interleaved parts, which the compiler turns into vectors.
fn sum_of(values: &[f32]) -> f32 {
    let mut parts = [0.0f32; 16];
    let chunks = values.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        for (part, &value) in parts.iter_mut().zip(chunk) {
            *part += value;
        }
    }
    parts.iter().sum::<f32>() + rest
}
