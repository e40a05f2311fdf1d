//! The place that a product goes to: a row-major matrix, or the planes of several images side by side.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use super::copy::Run;
use super::planes::pieces;

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
    /// m.
    pub(super) rows: usize,
    /// n.
    pub(super) columns: usize,
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

    /// The place of neighboring columns, if they lie in one image: the address in row 0, and the elements between rows.
    pub(super) fn place(&self, columns: &Range<usize>) -> Option<(*mut f32, usize)> {
        let mut pieces = pieces(columns.clone(), self.pixels, self.image_stride);
        let start = pieces.next().map_or(0, |piece| piece.offset);
        pieces.next().is_none().then(|| (self.data.wrapping_add(start), self.row_stride))
    }

    /// Copies to the rows `rows` and columns `columns` those rows of a block, `stride` elements apart.
    ///
    /// # Panics
    /// If the rows or columns are not there or the block is too short.
    ///
    /// # Safety
    /// No other thread accesses these rows and columns meanwhile.
    pub(super) unsafe fn copy_rows(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        stride: usize,
        block: &[f32],
    ) {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "rows {rows:?}, columns {columns:?}");
        for row in rows {
            let from = &block[row * stride..][..columns.len()];
            for Run { column, offset, len } in pieces(columns.clone(), self.pixels, self.image_stride) {
                let place = self.data.wrapping_add(row * self.row_stride + offset);
                // SAFETY: the row and the columns lie inside the output, whose length was checked when it was made, and by the
                // caller's promise no other thread is there.
                unsafe { from[column..][..len].as_ptr().copy_to_nonoverlapping(place, len) };
            }
        }
    }
}
