//! Products for the gradients of layers that look at one pixel: a small C and a sum over all pixels of all images.
//!
//! A, the output gradient, is copied a block of pixels at a time, and all that is to be done with it is done while the
//! block is in the second-level cache: the sum of its rows (the bias's gradient), the product with the input's pixels (the
//! weight's), and for a pointwise convolution the product with the weights (the input's). Where the layer below is a convolution
//! too, that is its block, and so it goes on, [`Stage`] by stage, before the next pixels have their turn.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::KC;
use super::blocked::{ColumnsOfB, Product, columns_of};
use super::kernel::BLOCK_STRIDE;
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{PackedA, blocks_of_k};
use super::planes::ChannelPlanes;
use super::sparse::{Lists, Multiply, Sparse};
use super::strided::gemm_strided;
use crate::buffer_pool::BufferPool;
use crate::simd::{Isa, Registers, compiled, dispatch};
use crate::sum_slice::{PARTS, sum_slice};

/// One layer of a pass backward: `dw (+)= A B`, and on to the next layer with `w A`.
pub(crate) struct Stage<'a> {
    /// B, the layer's input, with a column for each column of the weight gradient and the k of A.
    pub(crate) input: &'a dyn Operand,
    /// Row-major, a row per channel of A and a column per column of the input.
    pub(crate) dw: &'a mut [f32],
    /// The sums of A's rows, if they are wanted.
    pub(crate) db: Option<&'a mut [f32]>,
    /// w, a k per channel of A: packed, and as it lies in memory, row-major with a row per channel of A. `None` where the pass
    /// ends.
    pub(crate) weights: Option<(&'a PackedA, &'a [f32])>,
    /// `w A` counts as zero where this is not above zero: the output of the layer below, if that has a ReLU.
    pub(crate) relu_mask: Option<ChannelPlanes<'a>>,
}

/// Goes backward through `stages`, a block of pixels at a time. A of the first has a row per channel and a k per
/// (image, pixel); A of each other is `w A` of the one before it, masked. The last stage's `w A`, without a
/// mask, goes to `out` (a column per pixel), with the bits that [`gemm`](super::gemm) would give it; there is an `out` if and
/// only if the last stage has weights.
///
/// All gradients are overwritten, or added to if `accumulate`. A gradient has the same bits whatever stages come after it.
///
/// # Panics
/// If rows, columns or k do not fit together.
pub(crate) fn gemm_backward(
    pool: &Arc<BufferPool>,
    isa: Isa,
    a: &ChannelPlanes<'_>,
    stages: &mut [Stage<'_>],
    accumulate: bool,
    mut out: Option<&mut Output<'_>>,
) {
    let rows = check(isa, a, stages, out.as_deref());
    if !accumulate {
        stages.iter_mut().filter_map(|stage| stage.db.as_deref_mut()).for_each(|db| db.fill(0.0));
    }
    let [mut a_block, mut next] = [0; 2].map(|_| pool.take::<f32>(rows * BLOCK_STRIDE));
    let mut scratch = pool.take::<f32>(KC * Registers::of(isa).nr());
    let mut sparse = Sparse::new(pool, isa, a.channels, rows);
    let count = stages.len();
    for (index, pixels) in blocks_of_k(a.positions()).enumerate() {
        a.copy_rows(isa, 0..a.channels, pixels.clone(), BLOCK_STRIDE, &mut a_block);
        let mut channels = a.channels;
        for (number, stage) in stages.iter_mut().enumerate() {
            if let Some(db) = &mut stage.db {
                let (db, block, pixels) = (&mut **db, &*a_block, pixels.len());
                compiled!(isa, {
                    for (sum, row) in db.iter_mut().zip(block.chunks_exact(BLOCK_STRIDE)) {
                        // What is left of whole parts comes last: the order that every network's sums have had.
                        let (parts, rest) = row[..pixels].split_at(pixels / PARTS * PARTS);
                        *sum += sum_slice(parts) + sum_slice(rest);
                    }
                });
            }
            // Only what comes from above may be mostly zeros: what a layer hands on is not.
            let lists = number == 0 && sparse.takes(&a_block, channels, pixels.len());
            let block = (&*a_block, lists.then_some(&sparse.lists));
            add_product(isa, stage, channels, &pixels, block, accumulate || index > 0, &mut scratch);
            let Some((weights, w)) = stage.weights else { break };
            channels = weights.rows;
            let out = out.as_deref_mut().filter(|_| number + 1 == count);
            if lists {
                sparse.multiply_weights(w, &a_block, pixels.len(), (&mut next, &mut scratch));
                if let Some(out) = out {
                    // SAFETY: `out` is borrowed mutably, and there is one thread.
                    unsafe { out.copy_rows(0..channels, pixels.clone(), BLOCK_STRIDE, &next) };
                }
            } else {
                let block = &Output::matrix(&mut next, channels, pixels.len(), BLOCK_STRIDE);
                let (c, columns) = out.map_or((block, 0..pixels.len()), |out| (&*out, pixels.clone()));
                let (panels, b) = (0..weights.panels.count, ColumnsOfB::Block(&a_block));
                let product = Product { a: weights, panels, b, epilogue: Epilogue::default(), columns };
                // SAFETY: `out` and the block are borrowed mutably, and there is one thread.
                unsafe { product.write_to(pool, c) };
            }
            if let Some(mask) = &stage.relu_mask {
                mask.mask_rows(isa, pixels.clone(), BLOCK_STRIDE, &mut next);
            }
            std::mem::swap(&mut a_block, &mut next);
        }
    }
}

/// Checks the arguments of [`gemm_backward`] and returns the most rows that a block has.
fn check(isa: Isa, a: &ChannelPlanes<'_>, stages: &[Stage<'_>], out: Option<&Output<'_>>) -> usize {
    let (mut channels, k) = (a.channels, a.positions());
    let mut most = channels;
    for (index, stage) in stages.iter().enumerate() {
        let last = index + 1 == stages.len();
        assert_eq!(stage.input.k(), k, "k of A and B");
        assert_eq!(stage.dw.len(), channels * stage.input.extent(), "elements of dw");
        assert!(stage.db.as_ref().is_none_or(|db| db.len() == channels), "one sum per row of {channels}");
        assert_eq!(stage.weights.is_some(), !last || out.is_some(), "weights where the pass goes on");
        assert!(stage.relu_mask.is_none() || !last, "the last gradient is not masked");
        let Some((weights, w)) = stage.weights else { break };
        assert_eq!(w.len(), weights.k * weights.rows, "elements of w");
        assert_eq!((weights.isa, weights.k), (isa, channels), "instruction set and k of w");
        if let Some(mask) = &stage.relu_mask {
            assert_eq!((mask.channels, mask.positions()), (weights.rows, k), "rows and columns of the mask");
        }
        channels = weights.rows;
        most = most.max(channels);
    }
    if let Some(out) = out {
        assert_eq!((out.rows, out.columns), (channels, k), "rows and columns of w A");
    }
    most
}

/// Adds the product of a block of A, a row for each channel, with the input's pixels to the weight gradient. With lists, its
/// rows have been listed there.
fn add_product(
    isa: Isa,
    stage: &mut Stage<'_>,
    channels: usize,
    pixels: &Range<usize>,
    (a, lists): (&[f32], Option<&Lists>),
    accumulate: bool,
    scratch: &mut [f32],
) {
    let registers = Registers::of(isa);
    let extent = stage.input.extent();
    for columns in columns_of(registers, extent).ranges() {
        let width = columns.len().next_multiple_of(registers.lanes);
        let b = &mut scratch[..pixels.len() * width];
        stage.input.pack(isa, columns.clone(), pixels.clone(), width, b);
        let c = (&mut stage.dw[columns.start..], extent);
        if let Some(lists) = lists {
            dispatch(isa, Multiply { lists, panel: b, columns: columns.len(), accumulate, c });
        } else {
            let a = (a, [BLOCK_STRIDE, 1]);
            gemm_strided(isa, [channels, columns.len(), pixels.len()], a, (b, width), c, accumulate);
        }
    }
}
