//! The place that a product goes to: a row-major matrix, or the planes of several images side by side.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use super::copy::Run;
use super::kernel::Tile;
use super::planes::pieces;
use crate::simd::Simd;

/// The most elements that a tile has: 8 rows of 48, 12 of 32 or 6 of 64.
const MAX_TILE: usize = 12 * 32;

/// Steps on the way of C to memory, in this order: add the bias, ReLU.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Epilogue<'a> {
    /// One value per row, or output channel.
    pub(crate) bias: Option<&'a [f32]>,
    /// `max(value, 0)`.
    pub(crate) relu: bool,
}

impl Epilogue<'_> {
    /// That of some of the rows.
    pub(crate) fn of_rows(&self, rows: Range<usize>) -> Self {
        Self { bias: self.bias.map(|bias| &bias[rows]), ..*self }
    }
}

/// C with `rows` rows and `images * pixels` columns. Column `j` of row `i` is at
/// `(j / pixels) * image_stride + i * row_stride + j % pixels`: the rows are channels and the columns all pixels of all images
/// of an N x C x H x W tensor.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    data: *mut f32,
    rows: usize,
    columns: usize,
    pixels: usize,
    image_stride: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: an `Output` is an exclusive borrow of f32, which may move to another thread.
unsafe impl Send for Output<'_> {}
// SAFETY: nothing can be read or written through a shared reference but by unsafe functions, whose callers promise that no other
// thread accesses the same elements.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// A row-major matrix of `rows` rows, `columns` columns and `row_stride` elements between rows.
    ///
    /// # Panics
    /// If the slice is too short or rows overlap.
    pub(crate) fn matrix(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self::planes(data, rows, row_stride, [1, columns, 0])
    }

    /// The planes of images: `rows` channels, `row_stride` elements apart. The images are given by their number, their pixels and
    /// the elements between them.
    ///
    /// # Panics
    /// If the slice is too short, or planes or images overlap.
    pub(crate) fn planes(
        data: &'a mut [f32],
        rows: usize,
        row_stride: usize,
        [images, pixels, image_stride]: [usize; 3],
    ) -> Self {
        if rows > 0 && images > 0 && pixels > 0 {
            let end = |count: usize, stride: usize, len: usize| {
                assert!(
                    count == 1 || stride >= len,
                    "{count} runs of {len} elements overlap: stride {stride}"
                );
                (count - 1).checked_mul(stride).and_then(|start| start.checked_add(len))
            };
            let image = end(rows, row_stride, pixels);
            let len = image.and_then(|image| end(images, image_stride, image));
            let fits = len.is_some_and(|len| len <= data.len());
            assert!(fits, "C needs {len:?} elements, the slice has {}", data.len());
        }
        let (data, columns) = (data.as_mut_ptr(), images * pixels);
        Self { data, rows, columns, pixels, image_stride, row_stride, borrow: PhantomData }
    }

    /// m.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// n.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// Copies a block, a row of `stride` elements for each row, to the columns `columns`.
    ///
    /// # Panics
    /// If the columns are not there or the block is too short.
    pub(super) fn copy_rows(&mut self, columns: Range<usize>, stride: usize, block: &[f32]) {
        assert!(columns.end <= self.columns && columns.len() <= stride, "columns {columns:?}");
        for (index, row) in block[..self.rows * stride].chunks_exact(stride).enumerate() {
            for Run { column, offset, len } in pieces(columns.clone(), self.pixels, self.image_stride) {
                let place = self.data.wrapping_add(index * self.row_stride + offset);
                // SAFETY: the row and the columns lie inside the output, whose length was checked when it was made, and which is
                // borrowed mutably.
                unsafe { row[column..][..len].as_ptr().copy_to_nonoverlapping(place, len) };
            }
        }
    }

    /// Looks up where columns `columns` begin.
    pub(super) fn columns_at(&self, columns: Range<usize>) -> Columns<'_> {
        let (image, first) = (columns.start / self.pixels, columns.start % self.pixels);
        let whole = first + columns.len() <= self.pixels;
        Columns { output: self, columns, start: image * self.image_stride + first, whole }
    }
}

/// Some neighboring columns of an [`Output`], no wider than a tile.
#[derive(Debug)]
pub(super) struct Columns<'a> {
    output: &'a Output<'a>,
    columns: Range<usize>,
    /// The element in row 0 and the first column.
    start: usize,
    /// Says that all columns lie in one image.
    whole: bool,
}

impl Columns<'_> {
    /// Runs `tile`, whose place in C and epilogue are still open, for rows `rows` of these columns.
    ///
    /// # Safety
    /// As for [`Tile::run`] with respect to A and B; `rows` lie inside the output, and rows and columns are as many as those of
    /// the tile; no other thread accesses this tile meanwhile.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(
        &self,
        s: S,
        mut tile: Tile<'_>,
        rows: Range<usize>,
        epilogue: Epilogue<'_>,
    ) {
        let stride = self.output.row_stride;
        tile.bias = epilogue.of_rows(rows.clone()).bias.map_or(std::ptr::null(), <[f32]>::as_ptr);
        tile.relu = epilogue.relu;
        if self.whole {
            (tile.c, tile.c_stride) =
                (self.output.data.wrapping_add(self.start + rows.start * stride), stride);
            // SAFETY: the caller's promise; the rows and columns lie inside one image of the output, and the bias, sliced to the
            // rows, has a value for each.
            unsafe { tile.run(s) };
            return;
        }
        // Columns on both sides of a border are computed side by side in a small buffer.
        let mut buffer = [0.0f32; MAX_TILE];
        let width = self.columns.len();
        assert!(rows.len() * width <= MAX_TILE);
        (tile.c, tile.c_stride) = (buffer.as_mut_ptr(), width);
        let places = || {
            rows.clone().enumerate().flat_map(|(i, row)| {
                pieces(self.columns.clone(), self.output.pixels, self.output.image_stride).map(move |piece| {
                    (
                        self.output.data.wrapping_add(row * stride + piece.offset),
                        i * width + piece.column,
                        piece.len,
                    )
                })
            })
        };
        if tile.accumulate {
            for (c, at, len) in places() {
                // SAFETY: a piece of a row inside the output, which is this thread's alone.
                buffer[at..at + len].copy_from_slice(unsafe { std::slice::from_raw_parts(c, len) });
            }
        }
        // SAFETY: the caller's promise; the buffer holds the tile, and the bias, sliced to the rows, has a value for each.
        unsafe { tile.run(s) };
        for (c, at, len) in places() {
            // SAFETY: a piece of a row inside the output, which is this thread's alone.
            unsafe { buffer[at..at + len].as_ptr().copy_to_nonoverlapping(c, len) };
        }
    }
}
