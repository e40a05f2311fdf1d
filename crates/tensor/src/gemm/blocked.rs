//! Loops 5 to 1 of a product with packed weights, and the threads that share them.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::KC;
use super::kernel::{BLOCK_STRIDE, MicroTile};
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{PackedA, Split, blocks_of_k};
use crate::buffer_pool::BufferPool;
use crate::simd::{Kernel, Registers, Simd, dispatch};
use crate::threads;

/// `C = A B` (or what the epilogue makes of it) with A packed: for weights, reused by many products. Of B the `columns` count,
/// which become those of C from `first` on.
///
/// With `parallel`, columns or rows are spread over rayon's threads. An element's bits depend on its row of A, its column
/// of B, k, bias and C alone, not on threads or on where in the matrix it lies.
///
/// # Panics
/// If rows, columns, k or the bias's length do not fit together.
pub(crate) fn gemm(
    pool: &Arc<BufferPool>,
    a: &PackedA,
    (b, columns): (&dyn Operand, Range<usize>),
    epilogue: Epilogue<'_>,
    (c, first): (&mut Output<'_>, usize),
    parallel: bool,
) {
    assert_eq!((a.rows, a.k), (c.rows, b.k()), "rows of A and C, k of A and B");
    let fit = first.checked_add(columns.len()).is_some_and(|end| end <= c.columns);
    assert!(columns.end <= b.extent() && fit, "columns of B and C");
    let (c, registers) = (&*c, Registers::of(a.isa));
    let vectors = columns.len().div_ceil(registers.lanes);
    // A few columns do not divide evenly among threads, so the rows are divided, at the price of packing the columns
    // more than once.
    let by_columns = threads::units_each(parallel, vectors) >= 40;
    let units = if by_columns { vectors } else { a.panels.count };
    let share = threads::units_each(parallel, units);
    threads::spread((0..units).step_by(share), |start| {
        let own = start..units.min(start + share);
        let (panels, vectors) = if by_columns { (0..a.panels.count, own) } else { (own, 0..vectors) };
        let own = vectors.start * registers.lanes..columns.len().min(vectors.end * registers.lanes);
        // Loop 5.
        let split = Split::new(own.len(), registers.nr(), KC / registers.nr() * registers.nr());
        let mut scratch = pool.take::<f32>(a.k.min(KC) * block_width(registers, split.range(0).len()));
        for part in split.ranges() {
            let [start, end] = [own.start + part.start, own.start + part.end];
            let b = ColumnsOfB::Operand(b, columns.start + start..columns.start + end, &mut scratch);
            let product =
                Product { a, panels: panels.clone(), b, epilogue, columns: first + start..first + end };
            // SAFETY: `c` is borrowed mutably, and the threads have different rows or columns of it.
            unsafe { product.write_to(pool, c) };
        }
    });
}

/// Values between the rows of a block of B: those of a panel if it is one, otherwise a constant, as the kernels know both.
fn block_width(registers: Registers, columns: usize) -> usize {
    if columns <= registers.nr() { columns.next_multiple_of(registers.lanes) } else { BLOCK_STRIDE }
}

/// Neighboring columns of B, at most [`KC`].
pub(super) enum ColumnsOfB<'a> {
    /// Those of an operand, packed one block of k at a time into some memory.
    Operand(&'a dyn Operand, Range<usize>, &'a mut [f32]),
    /// A block with a row for each k, [`BLOCK_STRIDE`] elements apart.
    Block(&'a [f32]),
}

/// Some panels of A times some columns of B.
pub(super) struct Product<'a> {
    pub(super) a: &'a PackedA,
    pub(super) panels: Range<usize>,
    pub(super) b: ColumnsOfB<'a>,
    pub(super) epilogue: Epilogue<'a>,
    /// The columns' places in C.
    pub(super) columns: Range<usize>,
}

impl Product<'_> {
    /// Loop 4. C is overwritten. Columns that lie in several images are computed side by side and copied to their places.
    ///
    /// # Panics
    /// If the columns are more than a block has, or rows or columns are not in C.
    ///
    /// # Safety
    /// No other thread accesses these rows and columns of C meanwhile.
    pub(super) unsafe fn write_to(mut self, pool: &Arc<BufferPool>, c: &Output<'_>) {
        let (a, columns) = (self.a, self.columns.len());
        assert!(columns <= KC && self.columns.end <= c.columns && self.panels.end <= a.panels.count);
        assert!(
            a.rows == c.rows && self.epilogue.bias.is_none_or(|bias| bias.len() == a.rows),
            "one bias per row"
        );
        let place = c.place(&self.columns);
        let mut aside = pool.take::<f32>(if place.is_some() { 0 } else { a.rows * BLOCK_STRIDE });
        let (c_start, c_stride) = place.unwrap_or((aside.as_mut_ptr(), BLOCK_STRIDE));
        let blocks = blocks_of_k(a.k);
        let last = blocks.len() - 1;
        for (index, ks) in blocks.enumerate() {
            let (b, b_stride) = match &mut self.b {
                ColumnsOfB::Block(rows) => (&rows[ks.start * BLOCK_STRIDE..], BLOCK_STRIDE),
                ColumnsOfB::Operand(operand, own, scratch) => {
                    let width = block_width(Registers::of(a.isa), columns);
                    let block = &mut scratch[..ks.len() * width];
                    operand.pack(a.isa, own.clone(), ks.clone(), width, block);
                    (&*block, width)
                }
            };
            assert!(columns <= b_stride && ks.len() * b_stride <= b.len(), "a row of B for each k");
            // The epilogue once all k's are in.
            let epilogue = if index == last { self.epilogue } else { Epilogue::default() };
            let (panels, accumulate) = (&self.panels, index > 0);
            dispatch(
                a.isa,
                Tiles { a, panels, ks, b, b_stride, columns, accumulate, epilogue, c_start, c_stride },
            );
        }
        if place.is_none() {
            let rows = a.panels.range(self.panels.start).start..a.panels.range(self.panels.end).start;
            // SAFETY: the caller's promise.
            unsafe { c.copy_rows(rows, self.columns, BLOCK_STRIDE, &aside) };
        }
    }
}

/// Loops 2 and 1: the tiles of some panels of A and a block of B. Made by [`Product::write_to`] alone, which has checked the
/// sizes, and whose caller answers for C.
struct Tiles<'a> {
    a: &'a PackedA,
    panels: &'a Range<usize>,
    /// The k's, a block of those of A: each has a row of B.
    ks: Range<usize>,
    b: &'a [f32],
    b_stride: usize,
    columns: usize,
    accumulate: bool,
    epilogue: Epilogue<'a>,
    /// The address of row 0 of A in the first of the columns.
    c_start: *mut f32,
    c_stride: usize,
}

impl Kernel for Tiles<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { a, ks, b, b_stride, c_stride, accumulate, epilogue, .. } = self;
        let tiles = columns_of(S::REGISTERS, self.columns);
        for rows in self.panels.clone().map(|panel| a.panels.range(panel)) {
            let bias = epilogue.bias.map_or(std::ptr::null(), |bias| bias[rows.clone()].as_ptr());
            let a = a.panel(&ks, &rows);
            for columns in tiles.ranges() {
                let tile = MicroTile {
                    rows: rows.len(),
                    columns: columns.len(),
                    k: ks.len(),
                    a: a.as_ptr(),
                    a_strides: [1, rows.len()],
                    b: b.as_ptr().wrapping_add(columns.start),
                    b_stride,
                    c: self.c_start.wrapping_add(rows.start * c_stride + columns.start),
                    c_stride,
                    accumulate,
                    bias,
                    relu: epilogue.relu,
                    prefetch: None,
                };
                // SAFETY: the panel of A was just sliced to the tile's rows and k, and the bias to the rows; the block has a row
                // with the tile's columns for each k; rows and columns lie inside C, and by the promise to `Product::write_to` no
                // other thread is there.
                unsafe { tile.run(s) };
            }
        }
    }
}

/// The tiles across so many columns.
pub(super) fn columns_of(registers: Registers, columns: usize) -> Split {
    Split::new(columns, registers.lanes, registers.nr())
}
