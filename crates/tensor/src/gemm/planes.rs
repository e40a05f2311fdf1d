//! The channels of a batch of images as a matrix: channels x (image, pixel), and its transpose.

use std::ops::Range;

use super::KC;
use super::copy::{Run, copy_runs, mask_runs};
use super::operand::{Operand, check_panel};
use crate::simd::Isa;
use crate::simd::transpose::{Rows, transpose_on};

/// N x C x pixels in memory, perhaps only some of the channels, perhaps masked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planes<'a> {
    /// The elements, from the first channel of the first image on.
    pub(crate) data: &'a [f32],
    /// As long as `data`: an element counts as zero unless its mask is above zero (the backward pass of ReLU, with the
    /// layer's output as the mask).
    pub(crate) mask: Option<&'a [f32]>,
    /// N.
    pub(crate) images: usize,
    /// C, the channels that take part.
    pub(crate) channels: usize,
    /// Pixels of a plane; planes of neighboring channels follow each other.
    pub(crate) pixels: usize,
    /// Elements between images.
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

impl<'a> Planes<'a> {
    /// A plain row-major matrix of `channels` rows and `pixels` columns.
    pub(crate) fn matrix(data: &'a [f32], channels: usize, pixels: usize) -> Self {
        Self { data, mask: None, images: 1, channels, pixels, image_stride: channels * pixels }
    }

    /// (image, pixel): columns of the matrix.
    pub(super) fn positions(&self) -> usize {
        self.images * self.pixels
    }

    /// The operand whose k are the channels.
    pub(crate) fn by_pixel(self) -> ByPixel<'a> {
        ByPixel(self)
    }

    /// The operand whose k are (image, pixel).
    pub(crate) fn by_channel(self) -> ByChannel<'a> {
        ByChannel(self)
    }

    /// Copies channels `rows` at `positions` (image, pixel) to rows of `stride` elements, masked; what is left of a row becomes
    /// zero.
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
        copy_runs(isa, (self.data, self.mask), &runs[..count], offsets, stride, block);
    }

    /// Sets a block's elements to zero where these planes are not above zero: the block has a row of `stride` elements for each
    /// channel, which begins with `positions` (image, pixel).
    pub(super) fn mask_rows(&self, isa: Isa, positions: Range<usize>, stride: usize, block: &mut [f32]) {
        let (runs, count) = self.runs(positions);
        let offsets = (0..self.channels).map(|row| row * self.pixels);
        mask_runs(isa, self.data, &runs[..count], offsets, stride, &mut block[..self.channels * stride]);
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

/// [`Planes::by_pixel`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByPixel<'a>(Planes<'a>);

impl Operand for ByPixel<'_> {
    fn extent(&self) -> usize {
        self.0.positions()
    }

    fn k(&self) -> usize {
        self.0.channels
    }

    fn pack(&self, isa: Isa, columns: Range<usize>, ks: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &columns, &ks, width, panel);
        self.0.copy_rows(isa, ks, columns, width, panel);
    }
}

/// [`Planes::by_channel`]. A mask is not supported here: the masked operand of a weight gradient is A, which is copied row by
/// row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ByChannel<'a>(Planes<'a>);

impl Operand for ByChannel<'_> {
    fn extent(&self) -> usize {
        self.0.channels
    }

    fn k(&self) -> usize {
        self.0.positions()
    }

    fn pack(&self, isa: Isa, columns: Range<usize>, ks: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &columns, &ks, width, panel);
        let planes = &self.0;
        assert!(planes.mask.is_none(), "a transposed operand has no mask");
        for Run { column: k, offset, len } in pieces(ks, planes.pixels, planes.image_stride) {
            let data = &planes.data[offset + columns.start * planes.pixels..];
            let rows = Rows { data, mask: None, stride: planes.pixels, rows: columns.len(), columns: len };
            transpose_on(isa, rows, &mut panel[k * width..], width, width);
        }
    }
}
