//! The windows of an image as a matrix that is never stored: implicit im2col.
//!
//! The matrix has a row per window element (channel, u, v) and a column per output position (image, i, j). Either may be
//! the lanes of a panel. In both cases a panel consists of contiguous pieces of image rows, provided that no piece meets
//! the padding and that neighbors in the panel are neighbors in memory. Where an image does not lie like that,
//! it is copied first, once: with its padding, masked, and with the columns of each residue modulo the stride side by
//! side. The copy has the size of the image; the matrix would have KH x KW / stride^2 times that.

use std::ops::Range;
use std::sync::Arc;

use super::ConvGeometry;
use crate::buffer_pool::{Buffer, BufferPool};
use crate::gemm::kernel::BLOCK_STRIDE;
use crate::gemm::{By, Operand, Planes, Run, check_panel, copy_runs};
use crate::simd::Isa;

/// Panels and blocks are never wider than this many lanes.
const MAX_WIDTH: usize = BLOCK_STRIDE;

/// The windows of a part of the input of `g` as an operand; those of a pointwise convolution are its pixels.
pub(super) fn windows<'a>(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    part: Planes<'a>,
    by: By,
) -> Box<dyn Operand + 'a> {
    if g.is_pointwise() { Box::new(part.by(by)) } else { Box::new(Windows::new(pool, g, part, by)) }
}

/// The windows of some channels of some images as an operand.
#[derive(Debug)]
struct Windows<'a> {
    by: By,
    source: Source<'a>,
    images: usize,
    channels: usize,
    kernel: [usize; 2],
    out: [usize; 2],
    /// Elements between images, channels and rows.
    image_stride: usize,
    channel_stride: usize,
    row_stride: usize,
    /// Residues of the column modulo the stride that are stored apart from each other; 1 if columns lie in order.
    phases: usize,
    /// Elements between the residues.
    phase_stride: usize,
    stride: [usize; 2],
    dilation: [usize; 2],
}

#[derive(Debug)]
enum Source<'a> {
    Borrowed(&'a [f32]),
    Copied(Buffer<f32>),
}

impl<'a> Windows<'a> {
    /// Prepares a part of the input of `g`.
    fn new(pool: &Arc<BufferPool>, g: &ConvGeometry, part: Planes<'a>, by: By) -> Self {
        // A window alone in its row needs no more residues than there are columns.
        let phases = if by == By::Position { g.stride[1].min(g.w + 2 * g.padding[1]) } else { 1 };
        let mut windows = Self {
            by,
            source: Source::Borrowed(part.data),
            images: part.images,
            channels: part.channels,
            kernel: g.kernel,
            out: [g.out_h(), g.out_w()],
            image_stride: part.image_stride,
            channel_stride: g.h * g.w,
            row_stride: g.w,
            phases,
            phase_stride: 0,
            stride: [g.stride[0].min(g.h + 2 * g.padding[0]), g.stride[1]],
            dilation: g.dilation,
        };
        if phases > 1 || g.padding != [0, 0] || part.mask.is_some() {
            windows.copy(pool, g, part);
        }
        windows
    }

    /// Copies the images into planes of (row, residue, column) with the padding around them.
    fn copy(&mut self, pool: &Arc<BufferPool>, g: &ConvGeometry, part: Planes<'_>) {
        let phases = self.phases;
        self.phase_stride = (g.w + 2 * g.padding[1]).div_ceil(phases);
        self.row_stride = phases * self.phase_stride;
        self.channel_stride = (g.h + 2 * g.padding[0]) * self.row_stride;
        self.image_stride = part.channels * self.channel_stride;
        let mut copy = pool.zeros::<f32>(part.images * self.image_stride);
        for image in 0..part.images {
            for channel in 0..part.channels {
                let plane = &mut copy[image * self.image_stride + channel * self.channel_stride..];
                for (row, out) in
                    plane.chunks_exact_mut(self.row_stride).skip(g.padding[0]).take(g.h).enumerate()
                {
                    let start = image * part.image_stride + (channel * g.h + row) * g.w;
                    let values = &part.data[start..][..g.w];
                    let mask = part.mask.map(|mask| &mask[start..][..g.w]);
                    for phase in 0..phases {
                        // The first column whose padded position has this residue.
                        let first = (phase + phases * g.padding[1] - g.padding[1]) % phases;
                        let target = (first + g.padding[1]) / phases + phase * self.phase_stride;
                        let out = &mut out[target.min((phase + 1) * self.phase_stride)..];
                        match mask {
                            None if phases == 1 => out[..g.w].copy_from_slice(values),
                            _ => {
                                for (out, column) in out.iter_mut().zip((first..g.w).step_by(phases)) {
                                    let kept = mask.is_none_or(|mask| mask[column] > 0.0);
                                    *out = if kept { values[column] } else { 0.0 };
                                }
                            }
                        }
                    }
                }
            }
        }
        self.source = Source::Copied(copy);
    }

    /// Places of the window elements `range` within a window.
    fn elements(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = usize> + Clone {
        let (step, phases, phase_stride) = (self.dilation[1], self.phases, self.phase_stride);
        let column = move |v: usize| match phases {
            1 => v * step,
            _ => v * step / phases + v * step % phases * phase_stride,
        };
        offsets(range, self.kernel, [self.channel_stride, self.dilation[0] * self.row_stride], column)
    }

    /// Places where the windows of the output positions `range` begin. A step to the next window is one column if the residues
    /// are stored apart, and the stride if they are not.
    fn positions(&self, range: Range<usize>) -> impl ExactSizeIterator<Item = usize> + Clone {
        let step = self.stride[1] / self.phases;
        offsets(range, self.out, [self.image_stride, self.stride[0] * self.row_stride], move |j| j * step)
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
        match self.by {
            By::Position => self.images * self.out[0] * self.out[1],
            By::Element => self.channels * self.kernel[0] * self.kernel[1],
        }
    }

    fn k(&self) -> usize {
        match self.by {
            By::Position => self.channels * self.kernel[0] * self.kernel[1],
            By::Element => self.images * self.out[0] * self.out[1],
        }
    }

    fn pack(&self, isa: Isa, columns: Range<usize>, ks: Range<usize>, width: usize, panel: &mut [f32]) {
        check_panel(self, &columns, &ks, width, panel);
        let data = match &self.source {
            Source::Borrowed(data) => data,
            Source::Copied(buffer) => &**buffer,
        };
        let mut runs = [Run::default(); MAX_WIDTH];
        match self.by {
            By::Position => {
                let runs = runs_of(self.positions(columns), &mut runs);
                copy_runs(isa, (data, None), runs, self.elements(ks), width, panel);
            }
            By::Element => {
                let runs = runs_of(self.elements(columns), &mut runs);
                copy_runs(isa, (data, None), runs, self.positions(ks), width, panel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gemm::reference::{random, relu_output};

    proptest! {
        #[test]
        fn panels_are_those_of_the_stored_matrix(
            images in 1usize..3, channels in 1usize..4, h in 3usize..14, w in 3usize..14,
            kernel in [1usize..4, 1usize..4], stride in [1usize..4, 1usize..4], padding in [0usize..3, 0usize..3],
            dilation in [1usize..3, 1usize..3], masked: bool, seed: u64, width in 1usize..50,
        ) {
            let g = ConvGeometry { n: images, c_in: channels, h, w, c_out: 1, kernel, stride, padding, dilation, groups: 1 };
            prop_assume!(g.window(0) <= h + 2 * padding[0] && g.window(1) <= w + 2 * padding[1]);
            let pool = BufferPool::poisoning();
            let (data, mask) = (random(g.input_len(), seed), relu_output(g.input_len(), seed ^ 1));
            let part = Planes { data: &data, mask: masked.then_some(&mask), images, channels, pixels: h * w, image_stride: channels * h * w };
            let element = |element: usize, position: usize| {
                let (c, u, v) = (element / (kernel[0] * kernel[1]), element / kernel[1] % kernel[0], element % kernel[1]);
                let pixels = g.out_pixels();
                let (image, i, j) = (position / pixels, position % pixels / g.out_w(), position % g.out_w());
                let (Some(row), Some(column)) = (g.source(0, i, u), g.source(1, j, v)) else { return 0.0 };
                let index = ((image * channels + c) * h + row) * w + column;
                if masked && mask[index] <= 0.0 { 0.0 } else { data[index] }
            };
            let positions = Windows::new(&pool, &g, part, By::Position);
            let elements = Windows::new(&pool, &g, part, By::Element);
            for isa in Isa::available() {
                check(isa, &positions, width, |lane, depth| element(depth, lane))?;
                check(isa, &elements, width, element)?;
            }
        }
    }

    /// Compares a panel out of the middle and one at the end.
    fn check(
        isa: Isa,
        operand: &impl Operand,
        width: usize,
        expected: impl Fn(usize, usize) -> f32,
    ) -> Result<(), TestCaseError> {
        let (lanes, depth) = (operand.extent(), operand.k());
        for first in [lanes / 3, lanes.saturating_sub(width / 2)] {
            let (lanes, depths) = (first..lanes.min(first + width), depth / 3..depth);
            let mut panel = vec![f32::NAN; depths.len() * width];
            operand.pack(isa, lanes.clone(), depths.clone(), width, &mut panel);
            for (p, row) in panel.chunks_exact(width).enumerate() {
                for (l, &found) in row.iter().enumerate() {
                    let inside = l < lanes.len();
                    let expected = if inside { expected(first + l, depths.start + p) } else { 0.0 };
                    prop_assert_eq!(
                        found,
                        expected,
                        "{}: lane {}, depth {}",
                        isa,
                        first + l,
                        depths.start + p
                    );
                }
            }
        }
        Ok(())
    }
}
