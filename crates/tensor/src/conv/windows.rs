//! The windows of an image as a matrix that is never stored: implicit im2col.
//!
//! The matrix has a row per window element (channel, u, v) and a column per output position (image, i, j). Either may be
//! the lanes of a panel. In both cases a panel consists of contiguous pieces of image rows, provided that no piece meets
//! the padding and that neighbors in the panel are neighbors in memory. Where an image does not lie like that,
//! it is copied first, once: with its padding, and with the columns of each residue modulo the stride side by
//! side (`padded.rs`). The copy has the size of the image; the matrix would have KH x KW / stride^2 times that.

use std::ops::Range;
use std::sync::Arc;

use super::ConvGeometry;
use super::padded::Padded;
use crate::buffer_pool::{Buffer, BufferPool};
use crate::gemm::kernel::BLOCK_STRIDE;
use crate::gemm::{By, ChannelPlanes, Operand, Run, check_panel, copy_runs};
use crate::simd::Isa;

/// Panels and blocks are never wider than this many lanes.
const MAX_WIDTH: usize = BLOCK_STRIDE;

/// The windows of a part of the input of `g` as an operand; those of a pointwise convolution are its pixels.
pub(super) fn windows<'a>(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    part: ChannelPlanes<'a>,
    by: By,
) -> Box<dyn Operand + 'a> {
    if g.is_pointwise() { Box::new(part.by(by)) } else { Box::new(Windows::new(pool, g, part, by)) }
}

/// The windows of some channels of some images as an operand.
#[derive(Debug)]
struct Windows<'a> {
    by: By,
    g: ConvGeometry,
    part: ChannelPlanes<'a>,
    /// The copies of its planes, if they do not lie as they must.
    copies: Option<Buffer<f32>>,
    /// The layout of a plane, copied or not.
    padded: Padded,
    image_stride: usize,
    /// Rows and places in a row from a window to the next.
    step: [usize; 2],
}

impl<'a> Windows<'a> {
    /// Prepares a part of the input of `g`.
    fn new(pool: &Arc<BufferPool>, g: &ConvGeometry, part: ChannelPlanes<'a>, by: By) -> Self {
        let [height, width] = g.padded();
        // A window alone in its row needs no more phases than there are columns.
        let phases = if by == By::Position { g.stride[1].min(width) } else { 1 };
        let (padded, step) = (Padded::input(g, phases, 0), [g.stride[0].min(height), g.stride[1] / phases]);
        let ChannelPlanes { data, images, channels, pixels, mut image_stride } = part;
        let mut copies = None;
        if phases > 1 || g.padding != [0, 0] {
            let from_stride = std::mem::replace(&mut image_stride, channels * padded.len());
            let copies = copies.insert(pool.zeros::<f32>(images * image_stride));
            for (index, copy) in copies.chunks_exact_mut(padded.len()).enumerate() {
                padded.fill(&data[index / channels * from_stride + index % channels * pixels..], copy);
            }
        }
        Self { by, g: *g, part, copies, padded, image_stride, step }
    }

    /// Numbers of output positions and of elements of a window.
    fn sizes(&self) -> [usize; 2] {
        [self.part.images * self.g.out_pixels(), self.part.channels * self.g.kernel[0] * self.g.kernel[1]]
    }

    /// Places of the window elements `range` within a window.
    fn elements(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = usize> + Clone {
        let ([down, right], padded) = (self.g.dilation, self.padded);
        let strides = [padded.len(), down * padded.row_stride()];
        offsets(range, self.g.kernel, strides, move |v| padded.column(v * right))
    }

    /// Places where the windows of the output positions `range` begin.
    fn positions(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = usize> + Clone {
        let ([down, right], out) = (self.step, self.g.output());
        offsets(range, out, [self.image_stride, down * self.padded.row_stride()], move |j| j * right)
    }
}

/// Counts through three nested axes, of which `extents` are the inner two, and yields the memory offset of each combination: a
/// stride for each of the outer two axes, a function for the innermost.
fn offsets(
    range: Range<usize>,
    extents: [usize; 2],
    strides: [usize; 2],
    inner: impl Fn(usize) -> usize + Clone,
) -> impl ExactSizeIterator<Item = usize> + Clone {
    let mut at = [range.start / extents[1] % extents[0], range.start % extents[1]];
    let mut outer = range.start / (extents[0] * extents[1]) * strides[0];
    range.map(move |_| {
        let offset = outer + at[0] * strides[1] + inner(at[1]);
        at[1] += 1;
        if at[1] == extents[1] {
            at = [at[0] + 1, 0];
            if at[0] == extents[0] {
                at[0] = 0;
                outer += strides[0];
            }
        }
        offset
    })
}

/// Joins neighbors in memory into runs; at most one run per column.
fn runs_of(offsets: impl Iterator<Item = usize>, runs: &mut [Run; MAX_WIDTH]) -> &[Run] {
    let mut count = 0;
    for (column, offset) in offsets.enumerate() {
        match runs[..count].last_mut() {
            Some(run) if run.offset + run.len == offset => run.len += 1,
            _ => {
                runs[count] = Run { column, offset, len: 1 };
                count += 1;
            }
        }
    }
    &runs[..count]
}

impl Operand for Windows<'_> {
    fn extent(&self) -> usize {
        self.sizes()[usize::from(self.by == By::Element)]
    }

    fn k(&self) -> usize {
        self.sizes()[usize::from(self.by == By::Position)]
    }

    fn pack(&self, isa: Isa, columns: Range<usize>, ks: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &columns, &ks, width, panel);
        let data = self.copies.as_deref().unwrap_or(self.part.data);
        let mut runs = [Run::default(); MAX_WIDTH];
        match self.by {
            By::Position => {
                let runs = runs_of(self.positions(columns), &mut runs);
                copy_runs(isa, data, runs, self.elements(ks), width, panel);
            }
            By::Element => {
                let runs = runs_of(self.elements(columns), &mut runs);
                copy_runs(isa, data, runs, self.positions(ks), width, panel);
            }
        }
    }
}
