//! The channels of a batch of images as a matrix: channels x (image, pixel), and its transpose.

use std::ops::Range;

use super::operand::{Operand, check_panel};
use super::packed::MAX_DEPTH;
use super::runs::{Run, copy_runs, mask_runs};
use super::transpose::transpose;
use crate::simd::Isa;

/// N x C x pixels in memory, perhaps only some of the channels, perhaps masked.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    /// The elements, from the first channel of the first image on.
    pub data: &'a [f32],
    /// As long as `data`: an element counts as zero unless its mask is above zero (the backward pass of ReLU, with the
    /// layer's output as the mask).
    pub mask: Option<&'a [f32]>,
    /// N.
    pub images: usize,
    /// C, the channels that take part.
    pub channels: usize,
    /// Pixels of a plane; planes of neighbouring channels follow each other.
    pub pixels: usize,
    /// Elements between images.
    pub image_stride: usize,
}

impl<'a> Planes<'a> {
    /// A plain row-major matrix of `channels` rows and `pixels` columns.
    #[must_use]
    pub fn matrix(data: &'a [f32], channels: usize, pixels: usize) -> Self {
        Self { data, mask: None, images: 1, channels, pixels, image_stride: channels * pixels }
    }

    /// The operand with a lane per (image, pixel) and a depth per channel.
    #[must_use]
    pub fn pixel_lanes(self) -> PixelLanes<'a> {
        PixelLanes(self)
    }

    /// The operand with a lane per channel and a depth per (image, pixel).
    #[must_use]
    pub fn channel_lanes(self) -> ChannelLanes<'a> {
        ChannelLanes(self)
    }

    /// Cuts a range of (image, pixel) at the images' borders: (where the piece begins in the range, first element of
    /// the first channel, length).
    fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (pixels, image_stride, begin) = (self.pixels, self.image_stride, range.start);
        let mut next = begin;
        std::iter::from_fn(move || {
            (next < range.end).then(|| {
                let (image, pixel) = (next / pixels, next % pixels);
                let len = (pixels - pixel).min(range.end - next);
                let piece = (next - begin, image * image_stride + pixel, len);
                next += len;
                piece
            })
        })
    }

    /// Copies channels `rows` at `positions` (image, pixel) to rows of `row_stride` elements, masked; what is left of a row
    /// becomes zero.
    pub(crate) fn copy_rows(
        &self,
        isa: Isa,
        rows: Range<usize>,
        positions: Range<usize>,
        row_stride: usize,
        out: &mut [f32],
    ) {
        assert!(positions.len() <= MAX_DEPTH, "{} positions in a row of a block", positions.len());
        let (runs, count) = self.runs(positions);
        let offsets = rows.map(|row| row * self.pixels);
        let block = &mut out[..offsets.len() * row_stride];
        copy_runs(isa, self.data, self.mask, &runs[..count], offsets, row_stride, block);
    }

    /// Sets a block's elements to zero where these planes are not above zero: the block has a row of `row_stride` elements for
    /// each channel, which begins with `positions` (image, pixel).
    pub(crate) fn mask_rows(&self, positions: Range<usize>, row_stride: usize, block: &mut [f32]) {
        let (runs, count) = self.runs(positions);
        let offsets = (0..self.channels).map(|row| row * self.pixels);
        mask_runs(self.data, &runs[..count], offsets, row_stride, &mut block[..self.channels * row_stride]);
    }

    /// A row of a block that begins with `positions` as runs, and their number.
    fn runs(&self, positions: Range<usize>) -> ([Run; MAX_DEPTH], usize) {
        let mut runs = [Run::default(); MAX_DEPTH];
        let mut count = 0;
        for (lane, offset, len) in self.pieces(positions) {
            runs[count] = Run { lane, len, offset };
            count += 1;
        }
        (runs, count)
    }
}

/// [`Planes::pixel_lanes`].
#[derive(Clone, Copy, Debug)]
pub struct PixelLanes<'a>(Planes<'a>);

impl Operand for PixelLanes<'_> {
    fn lanes(&self) -> usize {
        self.0.images * self.0.pixels
    }

    fn depth(&self) -> usize {
        self.0.channels
    }

    fn pack(&self, isa: Isa, lanes: Range<usize>, depths: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &lanes, &depths, width, panel);
        self.0.copy_rows(isa, depths, lanes, width, panel);
    }
}

/// [`Planes::channel_lanes`]. A mask is not supported here: the masked operand of a weight gradient is the left one, which
/// is copied row by row.
#[derive(Clone, Copy, Debug)]
pub struct ChannelLanes<'a>(Planes<'a>);

impl Operand for ChannelLanes<'_> {
    fn lanes(&self) -> usize {
        self.0.channels
    }

    fn depth(&self) -> usize {
        self.0.images * self.0.pixels
    }

    fn pack(&self, isa: Isa, lanes: Range<usize>, depths: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &lanes, &depths, width, panel);
        let planes = &self.0;
        assert!(planes.mask.is_none(), "a transposed operand has no mask");
        for (first, offset, len) in planes.pieces(depths) {
            let source = &planes.data[offset + lanes.start * planes.pixels..];
            transpose(isa, source, planes.pixels, lanes.len(), len, width, &mut panel[first * width..]);
        }
    }
}
