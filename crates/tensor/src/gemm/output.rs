//! Where a matrix product goes: a row-major matrix, or the planes of several images side by side.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use super::microkernel::{MicroKernel, Tile, TileEpilogue};

/// The most rows and columns that a tile has.
const MAX_TILE: usize = 8 * 48;

/// What is done to C on its way to memory, in this order: add to what is there, add the bias, ReLU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// Adds to C. Otherwise C is overwritten and its old contents are never read.
    pub accumulate: bool,
    /// One value per row.
    pub bias: Option<&'a [f32]>,
    /// `max(value, 0)`.
    pub relu: bool,
}

/// C with `rows` rows and `segments * segment_len` columns. Column `j` of row `i` is at
/// `(j / segment_len) * segment_stride + i * row_stride + j % segment_len`: with a segment per image, the rows are channels
/// and the columns all pixels of all images of an N x C x H x W tensor.
#[derive(Debug)]
pub struct Output<'a> {
    data: *mut f32,
    rows: usize,
    segments: usize,
    segment_len: usize,
    segment_stride: usize,
    row_stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: an `Output` is an exclusive borrow of its elements; its only users write to disjoint tiles.
unsafe impl Send for Output<'_> {}
// SAFETY: as above; writing through a shared reference is an unsafe function whose caller promises disjointness.
unsafe impl Sync for Output<'_> {}

impl<'a> Output<'a> {
    /// A row-major matrix of `rows` rows, `columns` columns and `row_stride` elements between rows.
    ///
    /// # Panics
    /// If the slice is too short or rows overlap.
    pub fn matrix(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Self::planes(data, rows, row_stride, 1, columns, 0)
    }

    /// The planes of `images` images: `rows` channels, `row_stride` elements apart, of `pixels` pixels.
    ///
    /// # Panics
    /// If the slice is too short, or planes or images overlap.
    pub fn planes(
        data: &'a mut [f32],
        rows: usize,
        row_stride: usize,
        images: usize,
        pixels: usize,
        image_stride: usize,
    ) -> Self {
        if rows > 0 && images > 0 && pixels > 0 {
            let image = (rows - 1) * row_stride + pixels;
            assert!(
                rows == 1 || row_stride >= pixels,
                "rows of {pixels} elements overlap: stride {row_stride}"
            );
            assert!(
                images == 1 || image_stride >= image,
                "images of {image} elements overlap: stride {image_stride}"
            );
            let len = (images - 1) * image_stride + image;
            assert!(len <= data.len(), "C needs {len} elements, the slice has {}", data.len());
        }
        Self {
            data: data.as_mut_ptr(),
            rows,
            segments: images,
            segment_len: pixels,
            segment_stride: image_stride,
            row_stride,
            borrow: PhantomData,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.segments * self.segment_len
    }

    /// Copies a block, a row of `row_stride` elements for each row, to the columns `columns`.
    ///
    /// # Panics
    /// If the columns are not there or the block is too short.
    ///
    /// # Safety
    /// No other thread accesses these columns meanwhile.
    pub(crate) unsafe fn copy_rows(&self, columns: Range<usize>, row_stride: usize, block: &[f32]) {
        assert!(columns.end <= self.columns() && columns.len() <= row_stride, "columns {columns:?}");
        for (index, row) in block[..self.rows * row_stride].chunks_exact(row_stride).enumerate() {
            let mut column = columns.start;
            while column < columns.end {
                let (segment, first) = (column / self.segment_len, column % self.segment_len);
                let len = (self.segment_len - first).min(columns.end - column);
                let place = segment * self.segment_stride + index * self.row_stride + first;
                let piece = &row[column - columns.start..][..len];
                // SAFETY: the row and the columns lie inside the output, whose length was checked when it was made; no other
                // thread is at them.
                unsafe { piece.as_ptr().copy_to_nonoverlapping(self.data.add(place), len) };
                column += len;
            }
        }
    }

    /// Looks up where columns `columns` begin.
    pub(crate) fn columns_at(&self, columns: Range<usize>) -> OutputColumns<'_> {
        let (segment, first) = (columns.start / self.segment_len, columns.start % self.segment_len);
        let whole = first + columns.len() <= self.segment_len;
        OutputColumns { output: self, columns, start: segment * self.segment_stride + first, whole }
    }
}

/// Some neighbouring columns of an [`Output`], no wider than a tile.
#[derive(Debug)]
pub(crate) struct OutputColumns<'a> {
    output: &'a Output<'a>,
    columns: Range<usize>,
    /// The element in row 0 and the first column.
    start: usize,
    /// Whether all columns lie in one segment.
    whole: bool,
}

impl OutputColumns<'_> {
    /// Runs `tile`, whose C is still open, for rows `rows` of these columns.
    ///
    /// # Safety
    /// As [`MicroKernel::run`] for A and B; `rows` lie inside the output, rows and columns are those of the tile; no other
    /// thread accesses this tile meanwhile.
    #[inline]
    pub(crate) unsafe fn run<K: MicroKernel>(
        &self,
        kernel: K,
        mut tile: Tile,
        rows: Range<usize>,
        epilogue: Epilogue<'_>,
    ) {
        let bias = epilogue.bias.map(|bias| &bias[rows.clone()]);
        if self.whole {
            tile.c = self.output.data.wrapping_add(self.start + rows.start * self.output.row_stride);
            tile.c_row_stride = self.output.row_stride;
            tile.epilogue = TileEpilogue {
                accumulate: epilogue.accumulate,
                bias: bias.map_or(std::ptr::null(), <[f32]>::as_ptr),
                relu: epilogue.relu,
            };
            // SAFETY: the caller's promise, and the tile of C lies inside one segment.
            unsafe { kernel.run(&tile) };
        } else {
            // SAFETY: the caller's promise.
            unsafe { self.run_in_pieces(kernel, tile, rows, epilogue, bias) };
        }
    }

    /// For columns that lie across a border: the tile is computed in a small buffer and then cut. The order of the
    /// epilogue is that of the kernels, so that an element does not tell where it was computed.
    ///
    /// # Safety
    /// As [`OutputColumns::run`].
    unsafe fn run_in_pieces<K: MicroKernel>(
        &self,
        kernel: K,
        mut tile: Tile,
        rows: Range<usize>,
        epilogue: Epilogue<'_>,
        bias: Option<&[f32]>,
    ) {
        let (output, columns) = (self.output, &self.columns);
        let mut buffer = [0.0f32; MAX_TILE];
        debug_assert!(rows.len() * columns.len() <= MAX_TILE);
        tile.c = buffer.as_mut_ptr();
        tile.c_row_stride = columns.len();
        tile.epilogue = TileEpilogue { accumulate: false, bias: std::ptr::null(), relu: false };
        // SAFETY: the caller's promise; the buffer holds the largest tile.
        unsafe { kernel.run(&tile) };
        let mut column = columns.start;
        while column < columns.end {
            let (segment, first) = (column / output.segment_len, column % output.segment_len);
            let len = (output.segment_len - first).min(columns.end - column);
            for (i, sums) in buffer.chunks_exact(columns.len()).take(rows.len()).enumerate() {
                let sums = &sums[column - columns.start..][..len];
                let place = segment * output.segment_stride + (rows.start + i) * output.row_stride + first;
                let start = output.data.wrapping_add(place);
                for (j, &sum) in sums.iter().enumerate() {
                    // SAFETY: `first + j` is inside the segment, and the element is this thread's alone. It is read only
                    // when accumulating.
                    unsafe {
                        let c = start.add(j);
                        let mut value = if epilogue.accumulate { *c + sum } else { sum };
                        if let Some(bias) = bias {
                            value += bias[i];
                        }
                        *c = if epilogue.relu && value < 0.0 { 0.0 } else { value };
                    }
                }
            }
            column += len;
        }
    }
}
