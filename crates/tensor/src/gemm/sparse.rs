//! Products with an A that is mostly zeros.
//!
//! The gradient of max pooling is such a matrix: of the pixels under a window one has a gradient, under 3 x 3 windows of
//! stride 2 less than a quarter of all. A row of such a block is kept as the list of what it is not: values, and where they
//! are. Each value then takes a row of B, and the multiplications with zero are not made.
//!
//! The values of a list are in the order of the dense sum, and a zero would have changed nothing in it: for finite operands the
//! results have the bits of the dense product (but for the sign of a sum that underflows to zero), so that it does not matter
//! which blocks come here.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::KC;
use super::blocked::columns_of;
use super::kernel::BLOCK_STRIDE;
use super::operand::Operand;
use super::packed::blocks_of_k;
use super::planes::{By, ChannelPlanes};
use crate::buffer_pool::{Buffer, BufferPool};
use crate::simd::transpose::{Rows, transpose_on};
use crate::simd::{Isa, Kernel, Registers, Simd, compiled, dispatch};

/// A list takes about twice as long for an element as the dense product does: below this share of others than zeros, one in so
/// many, it pays.
const ONE_IN: usize = 3;
/// Values between lists: the longest row, and what the last store of a list writes beyond its end.
const LIST_STRIDE: usize = KC + 16;

/// The rows of a block as lists of their elements that are not zero, two by two of equal length: the shorter list is filled up
/// with zeros.
pub(super) struct Lists {
    values: Buffer<f32>,
    /// The place of each value in its row.
    indices: Buffer<u8>,
    /// The length of each pair of lists.
    lengths: Vec<usize>,
    rows: usize,
    /// The length of the rows: all indices are below it.
    k: usize,
}

/// Memory to multiply blocks that are mostly zeros with, for an A of up to so many rows.
pub(super) struct Sparse {
    isa: Isa,
    /// The rows of the block that [`Sparse::takes`] took.
    pub(super) lists: Lists,
    /// A block with a row for each pixel: A, and its product with the weights.
    pixels: Buffer<f32>,
    product: Buffer<f32>,
}

impl Sparse {
    /// For an A of so many channels, and weights that make blocks of up to `most` rows.
    pub(super) fn new(pool: &Arc<BufferPool>, isa: Isa, channels: usize, most: usize) -> Self {
        let rows = channels.max(KC);
        let lists = Lists {
            values: pool.take(rows * LIST_STRIDE),
            indices: pool.take(rows * LIST_STRIDE),
            lengths: vec![0; rows.div_ceil(2)],
            rows: 0,
            k: 0,
        };
        let product = pool.take(KC * most.next_multiple_of(Registers::of(isa).lanes));
        Self { isa, lists, pixels: pool.take(KC * KC), product }
    }

    /// Tells whether so few of the elements of a block, a row of `k` elements for each channel, are not zero that it should be
    /// multiplied here; then its rows are listed.
    pub(super) fn takes(&mut self, block: &[f32], channels: usize, k: usize) -> bool {
        let rows = || block.chunks_exact(BLOCK_STRIDE).take(channels).map(|row| &row[..k]);
        let mut others = 0;
        let total = &mut others;
        compiled!(self.isa, {
            for row in rows() {
                let mut count = 0;
                for &value in row {
                    count += u32::from(value != 0.0);
                }
                *total += count as usize;
            }
        });
        let takes = others * ONE_IN <= channels * k;
        if takes {
            dispatch(self.isa, Fill { lists: &mut self.lists, rows: rows(), k });
        }
        takes
    }

    /// `out = w A` for a block of A, a row for each channel and of it `pixels` elements, and w with a row for each channel, too;
    /// `out` is such a block. The lists are others afterwards.
    pub(super) fn multiply_weights(
        &mut self,
        w: &[f32],
        block: &[f32],
        pixels: usize,
        (out, scratch): (&mut [f32], &mut [f32]),
    ) {
        let (k, registers) = (self.lists.rows, Registers::of(self.isa));
        let lanes = registers.lanes;
        let columns = w.len() / k;
        let stride = columns.next_multiple_of(lanes);
        let w = ChannelPlanes::matrix(w, k, columns).by(By::Position);
        for (index, ks) in blocks_of_k(k).enumerate() {
            let width = ks.len().next_multiple_of(lanes);
            let rows = &mut self.pixels[..pixels * width];
            let data = &block[ks.start * BLOCK_STRIDE..];
            let channels = Rows { data, stride: BLOCK_STRIDE, rows: ks.len(), columns: pixels };
            transpose_on(self.isa, channels, rows, width, width);
            dispatch(self.isa, Fill { lists: &mut self.lists, rows: rows.chunks_exact(width), k: ks.len() });
            for columns in columns_of(registers, columns).ranges() {
                let width = columns.len().next_multiple_of(lanes);
                let panel = &mut scratch[..ks.len() * width];
                w.pack(self.isa, columns.clone(), ks.clone(), width, panel);
                let c = (&mut self.product[columns.start..], stride);
                let (lists, columns) = (&self.lists, columns.len());
                dispatch(self.isa, Multiply { lists, panel, columns, accumulate: index > 0, c });
            }
        }
        let product = Rows { data: &self.product, stride, rows: pixels, columns };
        transpose_on(self.isa, product, &mut out[..columns * BLOCK_STRIDE], BLOCK_STRIDE, BLOCK_STRIDE);
    }
}

/// Lists the elements of rows that are not zero.
struct Fill<'a, R> {
    lists: &'a mut Lists,
    rows: R,
    /// The length of each row.
    k: usize,
}

impl<'a, R: Iterator<Item = &'a [f32]>> Kernel for Fill<'_, R> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Lists { values, indices, lengths, rows, k } = self.lists;
        let lists = values.chunks_exact_mut(LIST_STRIDE).zip(indices.chunks_exact_mut(LIST_STRIDE));
        let mut lists = lists.zip(self.rows);
        (*rows, *k) = (0, self.k);
        for length in lengths {
            let Some(((values, indices), row)) = lists.next() else { break };
            *length = list(s, &row[..self.k], values, indices);
            *rows += 1;
            let Some(((more, more_indices), row)) = lists.next() else { break };
            let count = list(s, &row[..self.k], more, more_indices);
            *rows += 1;
            let (short, short_indices, from) =
                if count < *length { (more, more_indices, count) } else { (values, indices, *length) };
            *length = count.max(*length);
            // Index 0 is below k: a list that is filled up stands beside a longer one.
            short[from..*length].fill(0.0);
            short_indices[from..*length].fill(0);
        }
    }
}

/// Lists the elements of a row that are not zero, and returns their number.
#[inline(always)]
fn list<S: Simd>(s: S, row: &[f32], values: &mut [f32], indices: &mut [u8]) -> usize {
    const { assert!(S::LANES <= LIST_STRIDE - KC, "a list has room for the longest row and a vector") };
    assert!(row.len() <= KC && values.len() >= LIST_STRIDE && indices.len() >= LIST_STRIDE);
    let mut length = 0;
    for (index, chunk) in row.chunks(S::LANES).enumerate() {
        let (values, indices) = (values[length..].as_mut_ptr(), indices[length..].as_mut_ptr());
        // SAFETY: a list is never longer than what of the row has passed, and has room for the longest row and a vector.
        length += unsafe { s.compress_at(s.load_partial(chunk), (index * S::LANES) as u8, values, indices) };
    }
    length
}

/// `c (+)= A B`, A being the listed rows.
pub(super) struct Multiply<'a> {
    pub(super) lists: &'a Lists,
    /// Some columns of B: a row of whole vectors for each k.
    pub(super) panel: &'a [f32],
    pub(super) columns: usize,
    pub(super) accumulate: bool,
    /// Those columns of C, and the elements between its rows.
    pub(super) c: (&'a mut [f32], usize),
}

impl Kernel for Multiply<'_> {
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let vectors = self.columns.div_ceil(S::LANES);
        for pair in 0..self.lists.rows.div_ceil(2) {
            // Two rows at a time, since the sums of one would wait for each other.
            match (self.lists.rows - 2 * pair, vectors) {
                (1, 1) => self.rows::<S, 1, 1>(s, pair),
                (1, 2) => self.rows::<S, 1, 2>(s, pair),
                (1, 3) => self.rows::<S, 1, 3>(s, pair),
                (_, 1) => self.rows::<S, 2, 1>(s, pair),
                (_, 2) => self.rows::<S, 2, 2>(s, pair),
                (_, 3) => self.rows::<S, 2, 3>(s, pair),
                _ => unreachable!("a panel of {} columns", self.columns),
            }
        }
    }
}

impl Multiply<'_> {
    /// The products of a pair of lists, or of the last one alone.
    #[inline(always)]
    fn rows<S: Simd, const ROWS: usize, const VECTORS: usize>(&mut self, s: S, pair: usize) {
        let (first, length, width) = (2 * pair, self.lists.lengths[pair], VECTORS * S::LANES);
        let values = &self.lists.values[first * LIST_STRIDE..][..ROWS * LIST_STRIDE];
        let indices = &self.lists.indices[first * LIST_STRIDE..][..ROWS * LIST_STRIDE];
        assert!(length <= LIST_STRIDE && self.columns <= width && self.panel.len() >= self.lists.k * width);
        let mut sums = [[s.splat(0.0); VECTORS]; ROWS];
        for j in 0..length {
            for r in 0..ROWS {
                let (value, index) = (s.splat(values[r * LIST_STRIDE + j]), indices[r * LIST_STRIDE + j]);
                let row = self.panel.as_ptr().wrapping_add(usize::from(index) * width);
                for v in 0..VECTORS {
                    // SAFETY: indices are below `lists.k`, and the assertion above found so many rows in the panel.
                    let b = unsafe { s.load_at(row.add(v * S::LANES)) };
                    sums[r][v] = s.mul_add(value, b, sums[r][v]);
                }
            }
        }
        for r in 0..ROWS {
            let c = &mut self.c.0[(first + r) * self.c.1..][..self.columns];
            for (v, c) in c.chunks_mut(S::LANES).enumerate() {
                let sum = sums[r][v];
                let sum = if self.accumulate { s.add(s.load_partial(c), sum) } else { sum };
                s.store_partial(sum, c);
            }
        }
    }
}
