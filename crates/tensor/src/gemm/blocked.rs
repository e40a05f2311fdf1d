//! The blocked matrix product: some hundred columns of B at a time, packed into the second-level cache and multiplied by all
//! of A.
//!
//! A block is packed row by row, and C is written by rows of tiles: both sides are long runs of memory, which the
//! processor foresees. A panel at a time, as wide as a tile, takes and leaves a few elements of hundreds of
//! rows, and then waits for memory longer than it multiplies.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::microkernel::{BLOCK_ROW_STRIDE, MicroKernel, Tile, TileEpilogue, with_kernel};
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{MAX_DEPTH, PackedA, Split, depth_blocks};
use crate::buffer_pool::BufferPool;

/// The most panels of a block: those of the narrowest kernel.
const MAX_PANELS: usize = MAX_DEPTH / 8;

/// `C = A B` (or what the epilogue makes of it) with A packed: for weights, reused by many products.
///
/// With `parallel`, columns or rows are spread over rayon's threads. An element's bits depend on its row of A, its column
/// of B, k, bias and C alone, not on threads or on where in the matrix it lies.
///
/// # Panics
/// If rows, columns, depth or the bias's length do not fit together.
pub fn gemm<B: Operand>(
    pool: &Arc<BufferPool>,
    a: &PackedA,
    b: &B,
    epilogue: Epilogue<'_>,
    c: &Output<'_>,
    parallel: bool,
) {
    assert_eq!(a.depth(), b.depth(), "depths of A and B");
    assert_eq!((a.rows(), b.lanes()), (c.rows(), c.columns()), "rows and columns of C");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == a.rows()), "one bias per row");
    if a.rows() == 0 || b.lanes() == 0 {
        return;
    }
    with_kernel!(a.isa(), kernel => {
        let (row_tiles, vectors) = (a.split().count, vectors_of(kernel, b.lanes()));
        let threads = if parallel { rayon::current_num_threads() } else { 1 };
        // A few columns do not divide evenly among threads, so the rows are divided, at the price of packing the columns
        // more than once.
        let by_columns = vectors >= 40 * threads;
        let tasks = threads.min(if by_columns { vectors } else { row_tiles });
        let product = |task: usize| {
            let share = |len: usize| task * len / tasks..(task + 1) * len / tasks;
            let (rows, vectors) = if by_columns { (0..row_tiles, share(vectors)) } else { (share(row_tiles), 0..vectors) };
            let columns = columns_of_vectors(kernel, vectors, b.lanes());
            multiply(kernel, pool, a, b, epilogue, c, &rows, &columns, columns.start);
        };
        if tasks <= 1 { product(0) } else { (0..tasks).into_par_iter().for_each(product) }
    });
}

/// As [`gemm`], on this thread, only the columns `columns` of B, which become those of C from `first` on.
///
/// # Panics
/// As [`gemm`], and if the columns are not there.
pub fn gemm_columns<B: Operand + ?Sized>(
    pool: &Arc<BufferPool>,
    a: &PackedA,
    b: &B,
    columns: Range<usize>,
    epilogue: Epilogue<'_>,
    c: &Output<'_>,
    first: usize,
) {
    assert_eq!(a.depth(), b.depth(), "depths of A and B");
    assert_eq!(a.rows(), c.rows(), "rows of C");
    assert!(columns.end <= b.lanes() && first + columns.len() <= c.columns(), "columns of B and C");
    assert!(epilogue.bias.is_none_or(|bias| bias.len() == a.rows()), "one bias per row");
    let rows = 0..a.split().count;
    with_kernel!(a.isa(), kernel => multiply(kernel, pool, a, b, epilogue, c, &rows, &columns, first));
}

fn vectors_of<K: MicroKernel>(_: K, columns: usize) -> usize {
    columns.div_ceil(K::LANES)
}

fn columns_of_vectors<K: MicroKernel>(_: K, vectors: Range<usize>, columns: usize) -> Range<usize> {
    vectors.start * K::LANES..(vectors.end * K::LANES).min(columns)
}

pub(super) fn columns_of<K: MicroKernel>(_: K, columns: usize) -> Split {
    Split::new(columns, K::LANES, K::NR)
}

/// Some row tiles of some columns of the product, which become the columns of C from `first` on.
fn multiply<K: MicroKernel, B: Operand + ?Sized>(
    kernel: K,
    pool: &Arc<BufferPool>,
    a: &PackedA,
    b: &B,
    epilogue: Epilogue<'_>,
    c: &Output<'_>,
    row_tiles: &Range<usize>,
    columns: &Range<usize>,
    first: usize,
) {
    let split = Split::new(columns.len(), K::NR, MAX_DEPTH / K::NR * K::NR);
    let mut scratch = pool.take::<f32>(a.depth().min(MAX_DEPTH) * block_width(kernel, split.range(0).len()));
    let depths = depth_blocks(a.depth());
    let last = depths.len() - 1;
    for range in split.ranges() {
        let place = first + range.start..first + range.end;
        let columns = columns.start + range.start..columns.start + range.end;
        let width = block_width(kernel, columns.len());
        for (index, depths) in depths.clone().enumerate() {
            let data = &mut scratch[..depths.len() * width];
            b.pack(a.isa(), columns.clone(), depths.clone(), width, data);
            let epilogue = Epilogue {
                accumulate: epilogue.accumulate || index > 0,
                bias: if index == last { epilogue.bias } else { None },
                relu: epilogue.relu && index == last,
            };
            let block = Block { data, width, columns: place.clone(), depths };
            block.multiply(kernel, a, row_tiles.clone(), epilogue, c);
        }
    }
}

/// Elements between the rows of a block of so many columns: those of a panel if there is one, as the kernels know both.
fn block_width<K: MicroKernel>(_: K, columns: usize) -> usize {
    if columns <= K::NR { columns.next_multiple_of(K::LANES) } else { BLOCK_ROW_STRIDE }
}

/// Some columns of B at some depths.
pub(super) struct Block<'a> {
    /// A row for each depth.
    pub(super) data: &'a [f32],
    /// Elements between rows.
    pub(super) width: usize,
    /// Its columns in C.
    pub(super) columns: Range<usize>,
    /// Its depths in B.
    pub(super) depths: Range<usize>,
}

impl Block<'_> {
    /// Multiplies some row tiles of A by the block.
    pub(super) fn multiply<K: MicroKernel>(
        &self,
        kernel: K,
        a: &PackedA,
        row_tiles: Range<usize>,
        epilogue: Epilogue<'_>,
        c: &Output<'_>,
    ) {
        assert!(self.columns.len() <= self.width && self.depths.len() * self.width <= self.data.len());
        let panels = columns_of(kernel, self.columns.len());
        let outputs: [_; MAX_PANELS] = std::array::from_fn(|panel| {
            let columns = panels.range(panel);
            (panel < panels.count)
                .then(|| c.columns_at(self.columns.start + columns.start..self.columns.start + columns.end))
        });
        for rows in row_tiles.map(|tile| a.split().range(tile)) {
            let a = a.panel(&self.depths, &rows);
            for (columns, output) in panels.ranges().zip(outputs.iter().flatten()) {
                let b = self.data.as_ptr().wrapping_add(columns.start);
                let tile = tile(a.as_ptr(), 1, rows.len(), b, self.width, (&rows, &columns, &self.depths));
                // SAFETY: the panel of A was just sliced to the tile's sizes, and the block has a row with the tile's columns
                // for each depth; rows and columns lie inside C, whose sizes were compared; each element belongs
                // to one task.
                unsafe { output.run(kernel, tile, rows.clone(), epilogue) };
            }
        }
    }
}

/// A tile that is complete but for its place in C.
pub(super) fn tile(
    a: *const f32,
    a_row_stride: usize,
    a_depth_stride: usize,
    b: *const f32,
    b_depth_stride: usize,
    (rows, columns, depths): (&Range<usize>, &Range<usize>, &Range<usize>),
) -> Tile {
    Tile {
        rows: rows.len(),
        cols: columns.len(),
        depth: depths.len(),
        a,
        a_row_stride,
        a_depth_stride,
        b,
        b_depth_stride,
        c: std::ptr::null_mut(),
        c_row_stride: 0,
        epilogue: TileEpilogue { accumulate: false, bias: std::ptr::null(), relu: false },
    }
}
