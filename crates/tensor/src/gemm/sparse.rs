//! Products with a left operand that is mostly zeros.
//!
//! What max pooling hands back is such an operand: of the pixels under a window one has a gradient, under 3 x 3 windows of
//! stride 2 less than a quarter of all. A row of such a block is kept as the list of what it is not: values, and where they
//! are. Each value then takes a row of the right operand, and the multiplications with zero are not made.
//!
//! The values of a list are in the order of the dense sum, and a zero would have changed nothing in it: for finite
//! operands the results have the bits of the dense product, so that it does not matter which blocks come here.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use super::microkernel::BLOCK_ROW_STRIDE;
use super::packed::{MAX_DEPTH, PackedA, Split, depth_blocks};
use super::transpose::transpose;
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::{Avx512, Isa};

/// A list takes about twice as long for an element as the dense product does: below this share of others than zeros, one in so
/// many, it pays.
const ONE_IN: usize = 3;
/// Elements between lists: the longest row, and what the last store of a list writes beyond its end.
const LIST_STRIDE: usize = MAX_DEPTH + 16;
const LANES: usize = 16;
/// Columns of a panel of the right operand: with [`MAX_DEPTH`] rows it fills the first-level cache.
const PANEL: usize = 48;

/// The rows of a block as lists of their elements that are not zero, two by two of equal length: the shorter list is filled up
/// with zeros.
struct Lists {
    values: Buffer<f32>,
    /// Where in the row a value is.
    indices: Buffer<u8>,
    /// The length of each pair of lists.
    lengths: Vec<usize>,
    rows: usize,
}

/// What a walk keeps to multiply blocks that are mostly zeros, for a left operand of up to so many rows.
pub(super) struct Sparse {
    isa: Isa,
    token: Avx512,
    lists: Lists,
    /// The weights as right operand, a panel for each depth block and [`PANEL`] columns; filled when it is first used.
    weights: Option<Buffer<f32>>,
    /// A block with a row for each pixel: the left operand, and its product with the weights.
    pixels: Buffer<f32>,
    product: Option<Buffer<f32>>,
}

fn panels(columns: usize) -> Split {
    Split::new(columns, LANES, PANEL)
}

impl Sparse {
    /// `None` where there are no kernels for this.
    pub(super) fn new(pool: &Arc<BufferPool>, isa: Isa, channels: usize) -> Option<Self> {
        let Isa::Avx512(token) = isa else { return None };
        let rows = channels.max(MAX_DEPTH);
        let lists = Lists {
            values: pool.take(rows * LIST_STRIDE),
            indices: pool.take(rows * LIST_STRIDE),
            lengths: vec![0; rows.div_ceil(2)],
            rows: 0,
        };
        let pixels = pool.take(MAX_DEPTH * MAX_DEPTH);
        Some(Self { isa, token, lists, weights: None, pixels, product: None })
    }

    /// Whether so few of the elements of a block, a row of `depth` elements for each channel, are not zero that it should be
    /// multiplied here; then its rows are listed.
    pub(super) fn takes(&mut self, block: &[f32], channels: usize, depth: usize) -> bool {
        let rows = || block.chunks_exact(BLOCK_ROW_STRIDE).take(channels).map(|row| &row[..depth]);
        let mut others = 0;
        for row in rows() {
            others += count(self.token, row);
        }
        if others * ONE_IN > channels * depth {
            return false;
        }
        self.lists.fill(self.token, rows());
        true
    }

    /// `c (+)= A B`: A are the listed rows, `panel` has some columns of B, a row of whole vectors for each depth, and those of C
    /// begin at `c`, `stride` elements between rows.
    pub(super) fn multiply(
        &self,
        panel: &[f32],
        columns: usize,
        accumulate: bool,
        c: &mut [f32],
        stride: usize,
    ) {
        multiply(self.token, &self.lists, panel, columns, accumulate, c, stride);
    }

    /// `out = w A` for a block of A, a row for each channel and of it `pixels` elements; `out` is such a block, too. The lists
    /// are others afterwards.
    pub(super) fn multiply_weights(
        &mut self,
        pool: &Arc<BufferPool>,
        w: &PackedA,
        block: &[f32],
        pixels: usize,
        out: &mut [f32],
    ) {
        let (columns, stride) = (w.rows(), w.rows().next_multiple_of(LANES));
        let weights = self.weights.get_or_insert_with(|| transposed(pool, w));
        let product = self.product.get_or_insert_with(|| pool.take(MAX_DEPTH * stride));
        for (index, depths) in depth_blocks(w.depth()).enumerate() {
            let width = depths.len().next_multiple_of(LANES);
            let rows = &mut self.pixels[..pixels * width];
            let channels = &block[depths.start * BLOCK_ROW_STRIDE..];
            transpose(self.isa, channels, BLOCK_ROW_STRIDE, depths.len(), pixels, width, rows);
            self.lists.fill(self.token, rows.chunks_exact(width).map(|row| &row[..depths.len()]));
            let weights = &weights[depths.start * stride..depths.end * stride];
            for range in panels(columns).ranges() {
                let panel = &weights[panel_of(&range, depths.len())];
                let c = &mut product[range.start..];
                multiply(self.token, &self.lists, panel, range.len(), index > 0, c, stride);
            }
        }
        let out = &mut out[..columns * BLOCK_ROW_STRIDE];
        transpose(self.isa, product, stride, pixels, columns, BLOCK_ROW_STRIDE, out);
    }
}

/// Where the panel with these columns lies in a matrix of panels with so many rows.
fn panel_of(columns: &Range<usize>, depth: usize) -> Range<usize> {
    columns.start * depth..(columns.start + columns.len().next_multiple_of(LANES)) * depth
}

/// The weights as [`Sparse::weights`] has them: a row for each depth, a column for each row of `w`.
fn transposed(pool: &Arc<BufferPool>, w: &PackedA) -> Buffer<f32> {
    let stride = w.rows().next_multiple_of(LANES);
    let mut all = pool.zeros::<f32>(w.depth() * stride);
    for depths in depth_blocks(w.depth()) {
        let all = &mut all[depths.start * stride..depths.end * stride];
        for rows in w.split().ranges() {
            let tile = w.panel(&depths, &rows);
            for columns in panels(w.rows()).ranges() {
                // A tile of rows may reach from one panel into the next.
                let shared = rows.start.max(columns.start)..rows.end.min(columns.end);
                if shared.is_empty() {
                    continue;
                }
                let panel = &mut all[panel_of(&columns, depths.len())];
                let width = columns.len().next_multiple_of(LANES);
                for (row, values) in panel.chunks_exact_mut(width).zip(tile.chunks_exact(rows.len())) {
                    row[shared.start - columns.start..shared.end - columns.start]
                        .copy_from_slice(&values[shared.start - rows.start..shared.end - rows.start]);
                }
            }
        }
    }
    all
}

impl Lists {
    fn fill<'a>(&mut self, token: Avx512, rows: impl Iterator<Item = &'a [f32]>) {
        let lists = self.values.chunks_exact_mut(LIST_STRIDE).zip(self.indices.chunks_exact_mut(LIST_STRIDE));
        let mut lists = lists.zip(rows);
        self.rows = 0;
        for length in &mut self.lengths {
            let Some(((values, indices), row)) = lists.next() else { break };
            *length = list(token, row, values, indices);
            self.rows += 1;
            let Some(((more, more_indices), row)) = lists.next() else { break };
            let count = list(token, row, more, more_indices);
            self.rows += 1;
            let (short, short_indices, from) =
                if count < *length { (more, more_indices, count) } else { (values, indices, *length) };
            *length = count.max(*length);
            short[from..*length].fill(0.0);
            short_indices[from..*length].fill(0);
        }
    }
}

/// Elements that are not zero.
fn count(token: Avx512, row: &[f32]) -> usize {
    let _ = token;
    // SAFETY: the token proves the instruction set.
    #[cfg(target_arch = "x86_64")]
    return unsafe { avx512::count(row) };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("no token exists on this target: {}", row.len())
}

/// Lists the elements of a row that are not zero, and answers their number.
fn list(token: Avx512, row: &[f32], values: &mut [f32], indices: &mut [u8]) -> usize {
    let _ = token;
    assert!(row.len() <= MAX_DEPTH && values.len() >= LIST_STRIDE && indices.len() >= LIST_STRIDE);
    // SAFETY: the token proves the instruction set; the lists have room for the longest row and a vector.
    #[cfg(target_arch = "x86_64")]
    return unsafe { avx512::list(row, values.as_mut_ptr(), indices.as_mut_ptr()) };
    #[cfg(not(target_arch = "x86_64"))]
    unreachable!("no token exists on this target")
}

/// [`Sparse::multiply`].
fn multiply(
    token: Avx512,
    lists: &Lists,
    panel: &[f32],
    columns: usize,
    accumulate: bool,
    c: &mut [f32],
    stride: usize,
) {
    let _ = token;
    let vectors = columns.div_ceil(LANES);
    assert!((1..=PANEL / LANES).contains(&vectors), "{columns} columns of a panel");
    let depth = panel.len() / (vectors * LANES);
    for (pair, &length) in lists.lengths[..lists.rows.div_ceil(2)].iter().enumerate() {
        let (first, count) = (2 * pair, (lists.rows - 2 * pair).min(2));
        let own = first * LIST_STRIDE..(first + count) * LIST_STRIDE;
        let mut rows = Rows {
            values: &lists.values[own.clone()],
            indices: &lists.indices[own],
            length,
            panel: &panel[..depth * vectors * LANES],
            columns,
            accumulate,
            c: &mut c[first * stride..][..(count - 1) * stride + columns],
            stride,
        };
        // SAFETY: the token proves the instruction set; lists have at least their length, and their indices are those of
        // a row as long as the panel is deep.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match (count, vectors) {
                (2, 3) => avx512::multiply::<2, 3>(&mut rows),
                (2, 2) => avx512::multiply::<2, 2>(&mut rows),
                (2, _) => avx512::multiply::<2, 1>(&mut rows),
                (_, 3) => avx512::multiply::<1, 3>(&mut rows),
                (_, 2) => avx512::multiply::<1, 2>(&mut rows),
                _ => avx512::multiply::<1, 1>(&mut rows),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("no token exists on this target: {}", rows.length);
    }
}

/// A pair of lists, or the last one alone, and what it is multiplied with.
struct Rows<'a> {
    values: &'a [f32],
    indices: &'a [u8],
    length: usize,
    panel: &'a [f32],
    columns: usize,
    accumulate: bool,
    c: &'a mut [f32],
    stride: usize,
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{LANES, LIST_STRIDE, Rows};

    /// # Safety
    /// On a processor with AVX-512.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,popcnt")]
    pub(super) unsafe fn count(row: &[f32]) -> usize {
        let chunks = row.chunks_exact(LANES);
        let rest = chunks.remainder().iter().filter(|&&x| x != 0.0).count();
        let mut found = 0;
        for chunk in chunks {
            // SAFETY: a chunk has 16 elements.
            let values = unsafe { _mm512_loadu_ps(chunk.as_ptr()) };
            found += _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(values, _mm512_setzero_ps()).count_ones();
        }
        found as usize + rest
    }

    /// # Safety
    /// On a processor with AVX-512; 16 elements more than the row has can be written to both lists.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,popcnt")]
    pub(super) unsafe fn list(row: &[f32], values: *mut f32, indices: *mut u8) -> usize {
        let mut length = 0;
        let mut index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        for chunk in row.chunks(LANES) {
            let lanes: __mmask16 = if chunk.len() == LANES { !0 } else { (1 << chunk.len()) - 1 };
            // SAFETY: the mask keeps to the chunk; the list is never longer than what the row has passed.
            unsafe {
                let chunk = _mm512_maskz_loadu_ps(lanes, chunk.as_ptr());
                let others = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(chunk, _mm512_setzero_ps());
                _mm512_storeu_ps(values.add(length), _mm512_maskz_compress_ps(others, chunk));
                let bytes = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(others, index));
                _mm_storeu_si128(indices.add(length).cast(), bytes);
                length += others.count_ones() as usize;
            }
            index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
        }
        length
    }

    /// Two rows at a time, since the sums of one would wait for each other.
    ///
    /// # Safety
    /// On a processor with AVX-512; there are `ROWS` lists of `rows.length` elements, whose indices are below the panel's depth.
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    pub(super) unsafe fn multiply<const ROWS: usize, const VECTORS: usize>(rows: &mut Rows<'_>) {
        assert!(rows.length <= LIST_STRIDE && rows.values.len() >= ROWS * LIST_STRIDE);
        assert!(rows.indices.len() >= ROWS * LIST_STRIDE && rows.columns > (VECTORS - 1) * LANES);
        assert!(rows.c.len() >= (ROWS - 1) * rows.stride + rows.columns);
        let tail = rows.columns - (VECTORS - 1) * LANES;
        let tail: __mmask16 = if tail >= LANES { !0 } else { (1 << tail) - 1 };
        let panel = rows.panel.as_ptr();
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        for j in 0..rows.length {
            for r in 0..ROWS {
                // SAFETY: the list has this element, and its index is that of a row of the panel.
                unsafe {
                    let value = _mm512_set1_ps(*rows.values.get_unchecked(r * LIST_STRIDE + j));
                    let index = usize::from(*rows.indices.get_unchecked(r * LIST_STRIDE + j));
                    let row = panel.add(index * (VECTORS * LANES));
                    for v in 0..VECTORS {
                        sums[r][v] = _mm512_fmadd_ps(value, _mm512_loadu_ps(row.add(v * LANES)), sums[r][v]);
                    }
                }
            }
        }
        for r in 0..ROWS {
            for v in 0..VECTORS {
                let lanes = if v + 1 == VECTORS { tail } else { !0 };
                let c = rows.c.as_mut_ptr().wrapping_add(r * rows.stride + v * LANES);
                // SAFETY: the lanes are columns of the row, which the assertion above found inside the slice.
                unsafe {
                    if rows.accumulate {
                        sums[r][v] = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, c), sums[r][v]);
                    }
                    _mm512_mask_storeu_ps(c, lanes, sums[r][v]);
                }
            }
        }
    }
}
