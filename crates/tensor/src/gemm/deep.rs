//! Products for a weight gradient: a small C and a sum over all pixels of all images.
//!
//! The left operand, the masked output gradient, is copied a block of pixels at a time, and what else is to be done with
//! it is done while the block is in the second-level cache: the sum of its rows (the bias's gradient), and for a pointwise
//! convolution the product with the weights (the input's gradient).
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::blocked::{Block, columns_of, tile};
use super::microkernel::{BLOCK_ROW_STRIDE, MicroKernel, with_kernel};
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{MAX_DEPTH, PackedA, Split, depth_blocks};
use super::planes::Planes;
use crate::buffer_pool::BufferPool;
use crate::simd::Isa;

/// A second product of [`gemm_deep`]'s left operand, as its right one: `out = w A`.
#[derive(Debug, Clone, Copy)]
pub struct Also<'a> {
    /// w, with a depth per channel of A.
    pub weights: &'a PackedA,
    /// A row per row of w, a column per (image, pixel) of A. Overwritten.
    pub out: &'a Output<'a>,
}

/// `C (+)= A B` for a small C and a long sum, as in a weight gradient: A has a row per channel and a depth per
/// (image, pixel), perhaps masked; B has the same depth. C is row-major `channels x b.lanes()`. If `row_sums` is given, the
/// sums of the rows of A are written (or added) there: the bias's gradient. With `also`, its product is made on the way,
/// with the bits that [`gemm`](super::gemm) would give it.
///
/// # Panics
/// If rows, columns or depths do not fit together.
pub fn gemm_deep<B: Operand>(
    pool: &Arc<BufferPool>,
    isa: Isa,
    a: &Planes<'_>,
    b: &B,
    accumulate: bool,
    c: &mut [f32],
    row_sums: Option<&mut [f32]>,
    also: Option<Also<'_>>,
) {
    let (m, n, k) = (a.channels, b.lanes(), a.images * a.pixels);
    assert_eq!(k, b.depth(), "depths of A and B");
    assert_eq!(c.len(), m * n, "C is {m} x {n}");
    if m == 0 {
        return;
    }
    if let Some(Also { weights, out }) = also {
        assert_eq!((weights.isa(), weights.depth()), (isa, m), "instruction set and depth of w");
        assert_eq!((weights.rows(), k), (out.rows(), out.columns()), "rows and columns of w A");
    }
    let c = Output::matrix(c, m, n, n);
    with_kernel!(isa, kernel => multiply_blocks(kernel, pool, isa, a, b, accumulate, &c, row_sums, also));
}

fn multiply_blocks<K: MicroKernel, B: Operand>(
    kernel: K,
    pool: &Arc<BufferPool>,
    isa: Isa,
    a: &Planes<'_>,
    b: &B,
    accumulate: bool,
    c: &Output<'_>,
    mut row_sums: Option<&mut [f32]>,
    also: Option<Also<'_>>,
) {
    let m = a.channels;
    if let Some(sums) = &mut row_sums {
        assert_eq!(sums.len(), m, "one sum per row");
        if !accumulate {
            sums.fill(0.0);
        }
    }
    let row_stride = BLOCK_ROW_STRIDE;
    let mut a_block = pool.take::<f32>(m * row_stride);
    let mut scratch = pool.take::<f32>(MAX_DEPTH * K::NR);
    let columns = columns_of(kernel, b.lanes());
    let rows = Split::new(m, 1, K::MR);
    for (index, depths) in depth_blocks(a.images * a.pixels).enumerate() {
        a.copy_rows(isa, 0..m, depths.clone(), row_stride, &mut a_block);
        if let Some(sums) = &mut row_sums {
            for (sum, row) in sums.iter_mut().zip(a_block.chunks_exact(row_stride)) {
                *sum += sum_of(&row[..depths.len()]);
            }
        }
        if let Some(also) = also {
            multiply_also(kernel, also, &depths, &a_block);
        }
        let epilogue = Epilogue { accumulate: accumulate || index > 0, ..Epilogue::default() };
        for columns in columns.ranges() {
            let output = c.columns_at(columns.clone());
            let width = columns.len().next_multiple_of(K::LANES);
            let panel = &mut scratch[..depths.len() * width];
            b.pack(isa, columns.clone(), depths.clone(), width, panel);
            for rows in rows.ranges() {
                let a = &a_block[rows.start * row_stride..rows.end * row_stride];
                let tile = tile(a.as_ptr(), row_stride, 1, panel.as_ptr(), width, (&rows, &columns, &depths));
                // SAFETY: A's rows have room for `MAX_DEPTH` elements and the panel for the tile's depth and columns; rows
                // and columns lie inside C, whose sizes were compared; there is one thread.
                unsafe { output.run(kernel, tile, rows, epilogue) };
            }
        }
    }
}

/// The columns `pixels` of the second product from a block of A, a row for each channel.
fn multiply_also<K: MicroKernel>(
    kernel: K,
    Also { weights, out }: Also<'_>,
    pixels: &Range<usize>,
    block: &[f32],
) {
    for (index, depths) in depth_blocks(weights.depth()).enumerate() {
        let data = &block[depths.start * BLOCK_ROW_STRIDE..];
        let epilogue = Epilogue { accumulate: index > 0, ..Epilogue::default() };
        let block = Block { data, width: BLOCK_ROW_STRIDE, columns: pixels.clone(), depths };
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
