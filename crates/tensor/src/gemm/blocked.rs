//! Loops 5 to 1 of a product with packed weights, and the threads that share them.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::KC;
use super::kernel::{BLOCK_STRIDE, Tile};
use super::operand::Operand;
use super::output::{Epilogue, Output};
use super::packed::{PackedA, Split, blocks_of_k};
use crate::buffer_pool::BufferPool;
use crate::simd::{Kernel, Registers, Simd, dispatch};
use crate::threads;

/// The most panels of a block: those of the narrowest tile.
const MAX_PANELS: usize = KC / 8;

/// `C = A B` (or what the epilogue makes of it) with A packed: for weights, reused by many products. Of B the `columns` count,
/// which become those of C from `first` on.
///
/// With `parallel`, columns or rows are spread over rayon's threads. An element's bits depend on its row of A, its column
/// of B, k, bias and C alone, not on threads or on where in the matrix it lies.
///
/// # Panics
/// If rows, columns, k or the bias's length do not fit together.
pub(crate) fn gemm<B: Operand + ?Sized>(
    pool: &Arc<BufferPool>,
    a: &PackedA,
    (b, columns): (&B, Range<usize>),
    epilogue: Epilogue<'_>,
    (c, first): (&mut Output<'_>, usize),
    parallel: bool,
) {
    let product = Product { pool, a, b, epilogue, c, shift: first.wrapping_sub(columns.start) };
    product.check(&columns);
    let (panels, lanes) = (a.panels.count, Registers::of(a.isa).lanes);
    let vectors = columns.len().div_ceil(lanes);
    // A few columns do not divide evenly among threads, so the rows are divided, at the price of packing the columns
    // more than once.
    let by_columns = threads::share(parallel, vectors) >= 40;
    let units = if by_columns { vectors } else { panels };
    let share = threads::share(parallel, units);
    threads::spread((0..units).step_by(share), |first| {
        let own = first..units.min(first + share);
        let (rows, vectors) = if by_columns { (0..panels, own) } else { (own, 0..vectors) };
        let end = columns.len().min(vectors.end * lanes);
        let columns = columns.start + vectors.start * lanes..columns.start + end;
        // SAFETY: `c` is borrowed mutably, and the threads have different rows or columns of it.
        unsafe { product.run(&rows, &columns) };
    });
}

/// A product whose sizes fit together.
struct Product<'a, B: ?Sized> {
    pool: &'a Arc<BufferPool>,
    a: &'a PackedA,
    b: &'a B,
    epilogue: Epilogue<'a>,
    c: &'a Output<'a>,
    /// From a column of B to that of C.
    shift: usize,
}

impl<B: Operand + ?Sized> Product<'_, B> {
    fn check(&self, columns: &Range<usize>) {
        let (a, c) = (self.a, self.c);
        assert_eq!((a.rows, a.k), (c.rows(), self.b.k()), "rows of A and C, k of A and B");
        let end = columns.end.wrapping_add(self.shift);
        assert!(
            columns.end <= self.b.extent() && columns.len() <= end && end <= c.columns(),
            "columns of B and C"
        );
        assert!(self.epilogue.bias.is_none_or(|bias| bias.len() == a.rows), "one bias per row");
    }

    /// Loops 5 and 4, over blocks of columns and of k, for some panels of A.
    ///
    /// # Safety
    /// The sizes were checked for these columns; no other thread accesses these rows and columns of C meanwhile.
    unsafe fn run(&self, panels: &Range<usize>, columns: &Range<usize>) {
        let a = self.a;
        let registers = Registers::of(a.isa);
        let nr = registers.nr();
        let split = Split::new(columns.len(), nr, KC / nr * nr);
        // Values between the rows of a block: those of a panel if there is one, as the kernels know both.
        let width_of = |columns: usize| match columns <= nr {
            true => columns.next_multiple_of(registers.lanes),
            false => BLOCK_STRIDE,
        };
        let mut scratch = self.pool.take::<f32>(a.k.min(KC) * width_of(split.range(0).len()));
        let blocks = blocks_of_k(a.k);
        let last = blocks.len() - 1;
        for range in split.ranges() {
            let columns = columns.start + range.start..columns.start + range.end;
            let (width, first) = (width_of(columns.len()), columns.start.wrapping_add(self.shift));
            for (index, ks) in blocks.clone().enumerate() {
                let data = &mut scratch[..ks.len() * width];
                self.b.pack(a.isa, columns.clone(), ks.clone(), width, data);
                // Once all k's are in.
                let epilogue = if index == last { self.epilogue } else { Epilogue::default() };
                let product = BlockProduct {
                    a,
                    panels,
                    data,
                    width,
                    ks,
                    columns: first..first + range.len(),
                    accumulate: index > 0,
                    epilogue,
                    c: self.c,
                };
                // SAFETY: the caller's promise: rows and columns lie inside C and are this thread's.
                unsafe { product.multiply() };
            }
        }
    }
}

/// Panels of A times a block of B.
pub(super) struct BlockProduct<'a> {
    pub(super) a: &'a PackedA,
    /// The panels that take part.
    pub(super) panels: &'a Range<usize>,
    /// Some columns of B at the k's `ks`: a row for each k.
    pub(super) data: &'a [f32],
    /// Values between rows.
    pub(super) width: usize,
    /// The k's: a block of those of A.
    pub(super) ks: Range<usize>,
    /// The block's columns in C.
    pub(super) columns: Range<usize>,
    /// Adds to C, before the epilogue. Otherwise C is overwritten and its old contents are never read.
    pub(super) accumulate: bool,
    pub(super) epilogue: Epilogue<'a>,
    pub(super) c: &'a Output<'a>,
}

impl BlockProduct<'_> {
    /// Loops 2 and 1.
    ///
    /// # Panics
    /// If the block does not have its rows, or columns or rows are not in C.
    ///
    /// # Safety
    /// No other thread accesses these rows and columns of C meanwhile.
    pub(super) unsafe fn multiply(&self) {
        assert!(self.columns.len() <= self.width && self.ks.len() * self.width <= self.data.len());
        assert!(self.columns.end <= self.c.columns() && self.a.rows == self.c.rows());
        dispatch(self.a.isa, Checked(self));
    }
}

/// A product that [`BlockProduct::multiply`] has checked, whose caller answers for C.
struct Checked<'a>(&'a BlockProduct<'a>);

impl Kernel for Checked<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let BlockProduct { a, panels, data, width, ref ks, ref columns, accumulate, epilogue, c } = *self.0;
        let tiles = columns_of(S::REGISTERS, columns.len());
        assert!(tiles.count <= MAX_PANELS, "{} tiles across a block", tiles.count);
        let places: [_; MAX_PANELS] = std::array::from_fn(|index| {
            let own = tiles.range(index);
            (index < tiles.count).then(|| c.columns_at(columns.start + own.start..columns.start + own.end))
        });
        for rows in panels.clone().map(|panel| a.panels.range(panel)) {
            let a = a.panel(ks, &rows);
            for (columns, place) in tiles.ranges().zip(places.iter().flatten()) {
                let tile = Tile {
                    rows: rows.len(),
                    columns: columns.len(),
                    k: ks.len(),
                    a: a.as_ptr(),
                    a_strides: [1, rows.len()],
                    b: data.as_ptr().wrapping_add(columns.start),
                    b_stride: width,
                    accumulate,
                    ..Tile::OPEN
                };
                // SAFETY: the panel of A was just sliced to the tile's rows and k, and the block has a row with the tile's
                // columns for each k; rows and columns lie inside C, and by the promise to `BlockProduct::multiply` no
                // other thread is there.
                unsafe { place.run(s, tile, rows.clone(), epilogue) };
            }
        }
    }
}

/// The tiles across so many columns.
pub(super) fn columns_of(registers: Registers, columns: usize) -> Split {
    Split::new(columns, registers.lanes, registers.nr())
}
