//! The channels of a batch of images as a matrix: channels x (image, pixel), and its transpose.

use std::ops::Range;

use super::KC;
use super::copy::{Run, copy_runs};
use super::operand::{Operand, check_panel};
use crate::ops::Relu;
use crate::ops::elementwise::Pointwise;
use crate::simd::transpose::{Rows, transpose_on};
use crate::simd::{Isa, compiled};

/// N x C x pixels in memory, perhaps only some of the channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChannelPlanes<'a> {
    /// The elements, from the first channel of the first image on.
    pub(crate) data: &'a [f32],
    /// N.
    pub(crate) images: usize,
    /// C, the channels that take part.
    pub(crate) channels: usize,
    /// Pixels of a plane; planes of neighboring channels follow each other.
    pub(crate) pixels: usize,
    pub(crate) image_stride: usize,
}

/// Cuts a range of (image, pixel) at the borders of images of so many pixels: where a piece begins in the range, as an element of
/// the first channel, and its length.
pub(super) fn pieces(range: Range<usize>, pixels: usize, image_stride: usize) -> impl Iterator<Item = Run> {
    let begin = range.start;
    let mut next = begin;
    std::iter::from_fn(move || {
        (next < range.end).then(|| {
            let (image, pixel) = (next / pixels, next % pixels);
            let len = (pixels - pixel).min(range.end - next);
            let piece = Run { column: next - begin, offset: image * image_stride + pixel, len };
            next += len;
            piece
        })
    })
}

impl<'a> ChannelPlanes<'a> {
    /// A plain row-major matrix of `channels` rows and `pixels` columns.
    pub(crate) fn matrix(data: &'a [f32], channels: usize, pixels: usize) -> Self {
        Self { data, images: 1, channels, pixels, image_stride: channels * pixels }
    }

    /// (image, pixel): columns of the matrix.
    pub(super) fn positions(&self) -> usize {
        self.images * self.pixels
    }

    pub(crate) fn by(self, by: By) -> PlanesBy<'a> {
        PlanesBy { planes: self, by }
    }

    /// Copies channels `rows` at `positions` (image, pixel) to rows of `stride` elements; what is left of a row becomes zero.
    pub(super) fn copy_rows(
        &self,
        isa: Isa,
        rows: Range<usize>,
        positions: Range<usize>,
        stride: usize,
        out: &mut [f32],
    ) {
        let (runs, count) = self.runs(positions);
        let offsets = rows.map(|row| row * self.pixels);
        let block = &mut out[..offsets.len() * stride];
        copy_runs(isa, self.data, &runs[..count], offsets, stride, block);
    }

    /// Sets a block's elements to zero where these planes, the output of a ReLU, are not above zero: the block has a row of
    /// `stride` elements for each channel, which begins with `positions` (image, pixel).
    pub(super) fn mask_rows(&self, isa: Isa, positions: Range<usize>, stride: usize, block: &mut [f32]) {
        let (runs, count) = self.runs(positions);
        compiled!(isa, {
            for (channel, row) in block[..self.channels * stride].chunks_exact_mut(stride).enumerate() {
                for run in &runs[..count] {
                    let mask = &self.data[run.offset + channel * self.pixels..][..run.len];
                    for (value, &mask) in row[run.column..run.column + run.len].iter_mut().zip(mask) {
                        *value = Relu.pull_back(mask, *value);
                    }
                }
            }
        });
    }

    /// A row of a block that begins with `positions` as runs, and their number.
    fn runs(&self, positions: Range<usize>) -> ([Run; KC], usize) {
        assert!(positions.len() <= KC, "{} positions in a row of a block", positions.len());
        let mut runs = [Run::default(); KC];
        let mut count = 0;
        for piece in pieces(positions, self.pixels, self.image_stride) {
            runs[count] = piece;
            count += 1;
        }
        (runs, count)
    }
}

/// The meaning of the columns of an operand that is read off images; its k is the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// Positions (image, pixel): B of the forward pass.
    Position,
    /// Channels, or elements of a window over them: B of the weight gradient.
    Element,
}

/// See [`ChannelPlanes::by`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanesBy<'a> {
    planes: ChannelPlanes<'a>,
    by: By,
}

impl Operand for PlanesBy<'_> {
    fn extent(&self) -> usize {
        if self.by == By::Position { self.planes.positions() } else { self.planes.channels }
    }

    fn k(&self) -> usize {
        if self.by == By::Position { self.planes.channels } else { self.planes.positions() }
    }

    fn pack(&self, isa: Isa, columns: Range<usize>, ks: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &columns, &ks, width, panel);
        let planes = &self.planes;
        if self.by == By::Position {
            planes.copy_rows(isa, ks, columns, width, panel);
            return;
        }
        for Run { column: k, offset, len } in pieces(ks, planes.pixels, planes.image_stride) {
            let data = &planes.data[offset + columns.start * planes.pixels..];
            let rows = Rows { data, stride: planes.pixels, rows: columns.len(), columns: len };
            transpose_on(isa, rows, &mut panel[k * width..], width, width);
        }
    }
}
