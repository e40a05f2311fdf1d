//! The blocked matrix product: a panel of B at a time, packed into the first-level cache and multiplied by all of A.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::microkernel::{MicroKernel, Tile, TileEpilogue, with_kernel};
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{MAX_DEPTH, PackedA, Split, depth_blocks};
use crate::buffer_pool::BufferPool;

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

pub(super) fn columns_of<K: MicroKernel>(_: K, columns: usize) -> Split {
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
