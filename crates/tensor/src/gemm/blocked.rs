//! The blocked matrix product: a panel of B at a time, packed into the first-level cache and multiplied by all of A.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::microkernel::{BLOCK_ROW_STRIDE, MicroKernel, Tile, TileEpilogue, with_kernel};
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{MAX_DEPTH, PackedA, Split, depth_blocks};
use super::planes::Planes;
use crate::buffer_pool::BufferPool;
use crate::simd::Isa;

/// `C = A B` (or what the epilogue makes of it) with A packed: for weights, reused by many products.
///
/// With `parallel`, the columns are spread over rayon's threads. An element's bits depend on its row of A, its column of
/// B, k, bias and C alone, not on threads or on where in the matrix it lies.
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
        let columns = columns_of(kernel, b.lanes());
        let threads = if parallel { rayon::current_num_threads() } else { 1 };
        // A few wide panels do not divide evenly among threads, so their rows are cut too, at the price of packing a panel
        // more than once.
        let cuts = if threads > 1 && columns.count < 8 * threads { threads.min(a.split().count) } else { 1 };
        let work = Work { columns, cuts };
        let units = columns.count * cuts;
        let tasks = threads.min(units);
        if tasks <= 1 {
            multiply_units(kernel, pool, a, b, epilogue, c, work, 0..units);
        } else {
            (0..tasks).into_par_iter().for_each(|task| {
                let units = task * units / tasks..(task + 1) * units / tasks;
                multiply_units(kernel, pool, a, b, epilogue, c, work, units);
            });
        }
    });
}

fn columns_of<K: MicroKernel>(_: K, columns: usize) -> Split {
    Split::new(columns, K::LANES, K::NR)
}

/// A product in units that threads may do in any order: a panel of columns with one of `cuts` shares of the row tiles.
#[derive(Clone, Copy)]
struct Work {
    columns: Split,
    cuts: usize,
}

fn multiply_units<K: MicroKernel, B: Operand>(
    kernel: K,
    pool: &Arc<BufferPool>,
    a: &PackedA,
    b: &B,
    epilogue: Epilogue<'_>,
    c: &Output<'_>,
    work: Work,
    units: Range<usize>,
) {
    let mut scratch = pool.take::<f32>(MAX_DEPTH * K::NR);
    let rows = a.split();
    let blocks = depth_blocks(a.depth());
    let last = blocks.len() - 1;
    for unit in units.clone() {
        let next = (unit + 1 < units.end).then(|| work.columns.range((unit + 1) / work.cuts));
        let columns = work.columns.range(unit / work.cuts);
        let cut = unit % work.cuts;
        let row_tiles = cut * rows.count / work.cuts..(cut + 1) * rows.count / work.cuts;
        let output = c.columns_at(columns.clone());
        let width = columns.len().next_multiple_of(K::LANES);
        for (index, depths) in blocks.clone().enumerate() {
            let panel = &mut scratch[..depths.len() * width];
            b.pack(a.isa(), columns.clone(), depths.clone(), width, panel);
            let epilogue = Epilogue {
                accumulate: epilogue.accumulate || index > 0,
                bias: if index == last { epilogue.bias } else { None },
                relu: epilogue.relu && index == last,
            };
            let share = depths.len().div_ceil(row_tiles.len());
            for row_tile in row_tiles.clone() {
                let rows = rows.range(row_tile);
                // The next panel is fetched a little with every tile: all at once would be more than the processor can
                // keep in flight.
                if let Some(next) = &next {
                    let start = (depths.start + (row_tile - row_tiles.start) * share).min(depths.end);
                    b.prefetch(next.clone(), start..(start + share).min(depths.end));
                }
                let a = a.panel(&depths, &rows);
                let tile = tile(a.as_ptr(), 1, rows.len(), panel.as_ptr(), width, (&rows, &columns, &depths));
                // SAFETY: both panels were just sliced to the tile's sizes; rows and columns lie inside C, as the sizes
                // were compared; each unit, and so each element, belongs to one task.
                unsafe { output.run(kernel, tile, rows, epilogue) };
            }
        }
    }
}

/// A tile that is complete but for its place in C.
fn tile(
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

/// `C (+)= A B` for a small C and a long sum, as in a weight gradient: A has a row per channel and a depth per
/// (image, pixel), perhaps masked; B has the same depth. C is row-major `channels x b.lanes()`. If `row_sums` is given, the
/// sums of the rows of A are written (or added) there: the bias's gradient.
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
) {
    let (m, n, k) = (a.channels, b.lanes(), a.images * a.pixels);
    assert_eq!(k, b.depth(), "depths of A and B");
    assert_eq!(c.len(), m * n, "C is {m} x {n}");
    if m == 0 {
        return;
    }
    let c = Output::matrix(c, m, n, n);
    with_kernel!(isa, kernel => multiply_blocks(kernel, pool, isa, a, b, accumulate, &c, row_sums));
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
