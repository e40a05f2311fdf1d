//! From NCHW, where neighbors in memory are neighboring pixels, to vectors of channels, and back.
//!
//! The transforms work on vectors whose lanes are channels: no lane is wasted at image edges, and the transformed
//! tiles come out as rows of channels, the layout the multiplication reads without packing. Squares of `LANES` channels
//! by `LANES` pixels are transposed in registers on the way.

use std::ops::Range;

use super::part;
use super::tiles::Extent;
use crate::gemm::ChannelPlanes;
use crate::simd::Simd;
use crate::simd::transpose::{Rows, transpose};

/// The most values of a kernel, in vectors of the widest unit.
pub(super) const MAX_KERNEL: usize = 25 * 16;

/// Images, perhaps some of their channels, cut into tiles.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub(super) planes: ChannelPlanes<'a>,
    /// `[H, W]`.
    pub(super) size: [usize; 2],
    /// The pixels of tiles.
    pub(super) extent: Extent,
    /// Pixels of the first tile before the image: above it, and to the left of it.
    pub(super) padding: [usize; 2],
}

impl<'a> Images<'a> {
    /// The channels of a group, `[group, groups]`, of some images, N, C and `[H, W]`.
    pub(super) fn of_group(
        data: &'a [f32],
        count: usize,
        (channels, size): (usize, [usize; 2]),
        group: [usize; 2],
        extent: Extent,
        padding: [usize; 2],
    ) -> Self {
        let planes = part(data, [channels, size[0] * size[1]], &(0..count), group);
        Self { planes, size, extent, padding }
    }

    pub(super) fn range(&self, range: Range<usize>) -> Images<'a> {
        let data = &self.planes.data[range.start * self.planes.image_stride..];
        Images { planes: ChannelPlanes { data, images: range.len(), ..self.planes }, ..*self }
    }

    /// The pixels under `tiles` along an axis, some of which may lie outside of the image.
    pub(super) fn pixels(&self, axis: usize, tiles: &Range<usize>) -> Range<isize> {
        let start = (tiles.start * self.extent.step) as isize - self.padding[axis] as isize;
        start..start + self.extent.pixels(tiles.len()) as isize
    }

    /// Copies the pixels `rows` x `columns` of the channels from `first` on to `into`, as `[row][column][LANES]`.
    /// Pixels outside the image, and channels past the last, are zero.
    #[inline(always)]
    pub(super) fn gather<S: Simd>(
        &self,
        s: S,
        (image, first): (usize, usize),
        [rows, columns]: [Range<isize>; 2],
        into: &mut [f32],
    ) {
        let ChannelPlanes { data, channels, pixels, image_stride, .. } = self.planes;
        let ([height, width], line) = (self.size, columns.len() * S::LANES);
        let count = channels.saturating_sub(first).min(S::LANES);
        let inside = columns.start.max(0) as usize..(columns.end.max(0) as usize).min(width);
        let left = (inside.start as isize - columns.start) as usize * S::LANES;
        for (y, into) in rows.zip(into.chunks_exact_mut(line)) {
            if y < 0 || y as usize >= height || count == 0 || inside.is_empty() {
                into.fill(0.0);
                continue;
            }
            into[..left].fill(0.0);
            let right = left + inside.len() * S::LANES;
            into[right..].fill(0.0);
            let start = image * image_stride + first * pixels + y as usize * width + inside.start;
            let rows = Rows { data: &data[start..], stride: pixels, rows: count, columns: inside.len() };
            transpose::<S, false>(s, rows, &mut into[left..right], S::LANES, S::LANES);
        }
    }
}

/// The way back: `from` is `[column][LANES]`; lane `i` becomes row `i` of `rows` rows that start `stride` apart in `to`. With
/// `ADD` it is added to what is there.
#[inline(always)]
pub(super) fn channels_to_rows<S: Simd, const ADD: bool>(
    s: S,
    from: &[f32],
    to: &mut [f32],
    stride: usize,
    rows: usize,
) {
    let columns = from.len() / S::LANES;
    let lanes = Rows { data: from, stride: S::LANES, rows: columns, columns: rows };
    transpose::<S, ADD>(s, lanes, to, stride, columns);
}
