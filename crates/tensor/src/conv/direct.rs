//! The three passes of a convolution in f32 as blocked matrix products whose operands are never stored.
//!
//! Per group, with `columns` the matrix of all windows: `y = w columns`, `dw = dy columns^T`, and the input gradient is
//! * for a 1x1 convolution of stride 1: `w^T dy`;
//! * for any other of stride 1: a convolution of `dy` with the kernel flipped along both axes and the roles of input and
//!   output channels exchanged, so nothing is scattered;
//! * for larger strides: `w^T dy`, an image at a time, each element added to the pixel it came from.
//!
//! Bias and ReLU are applied to the output while it is in registers. Small images share a product: several side by side fill the
//! tiles that one would leave half empty.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use super::im2col::col2im;
use super::windows::windows;
use super::{ConvGeometry, Pass};
use crate::buffer_pool::BufferPool;
use crate::gemm::{By, ChannelPlanes, Elements, Epilogue, Operand, Output, PackedA, gemm};
use crate::simd::Isa;

/// Weights in the order in which a pass reads them, packed once for all micro-batches and threads: a matrix for each group.
#[derive(Debug, Default)]
pub(super) struct PackedWeights {
    pub(super) groups: Vec<PackedA>,
}

impl PackedWeights {
    /// Packs `w` (O x C/groups x KH x KW) for one pass of `g`, into memory of `pool`, or into that of weights that were packed
    /// for the same before.
    ///
    /// # Panics
    /// If the slice does not have the geometry's length, or there are others of another size or in another number.
    pub(super) fn fill(&mut self, pool: &Arc<BufferPool>, isa: Isa, g: &ConvGeometry, pass: Pass, w: &[f32]) {
        assert_eq!(w.len(), g.weight_len(), "weights of {g:?}");
        assert!(
            self.groups.is_empty() || self.groups.len() == g.groups,
            "weights of other groups than {g:?}"
        );
        let (outputs, inputs, patch) = (g.c_out / g.groups, g.c_in / g.groups, g.patch());
        let window = g.kernel[0] * g.kernel[1];
        for (group, w) in w.chunks_exact(outputs * patch).enumerate() {
            let mut pack = |a: &dyn Operand| match self.groups.get_mut(group) {
                Some(packed) => packed.refill(a),
                None => self.groups.push(PackedA::new(pool, isa, a)),
            };
            match pass {
                Pass::Forward => pack(&ChannelPlanes::matrix(w, outputs, patch).by(By::Element)),
                Pass::InputGradient if g.flips() => pack(&Elements {
                    extent: inputs,
                    k: outputs * window,
                    at: |c: usize, p: usize| w[p / window * patch + c * window + (window - 1 - p % window)],
                }),
                Pass::InputGradient => pack(&ChannelPlanes::matrix(w, outputs, patch).by(By::Position)),
            }
        }
    }
}

/// The images of `g` in batches that are worked on together: enough for some ten panels, few enough for the copies of their
/// windows to stay in cache. A 1x1 convolution copies nothing and takes all.
pub(super) fn batches(g: &ConvGeometry) -> impl Iterator<Item = Range<usize>> {
    let (n, some) = (g.n, 512usize.div_ceil(g.out_pixels().max(1)));
    let step = if g.is_pointwise() { n.max(1) } else { some };
    (0..n).step_by(step).map(move |first| first..n.min(first + step))
}

/// The channels of one of `groups` groups in some images of N x C x pixels.
pub(super) fn part<'a>(
    data: &'a [f32],
    [channels, pixels]: [usize; 2],
    images: &Range<usize>,
    [group, groups]: [usize; 2],
) -> ChannelPlanes<'a> {
    let first = (images.start * channels + group * (channels / groups)) * pixels;
    ChannelPlanes {
        data: &data[first..],
        images: images.len(),
        channels: channels / groups,
        pixels,
        image_stride: channels * pixels,
    }
}

/// The same part as a place for a product.
pub(super) fn part_mut<'a>(
    data: &'a mut [f32],
    [channels, pixels]: [usize; 2],
    images: &Range<usize>,
    [group, groups]: [usize; 2],
) -> Output<'a> {
    let data = &mut data[(images.start * channels + group * (channels / groups)) * pixels..];
    Output::planes(data, channels / groups, pixels, [images.len(), pixels, channels * pixels])
}

/// The output of the convolution `g`, N x O x OH x OW, overwritten, with an epilogue of O biases. `weights` are
/// packed for it, whatever its N. With `parallel`, columns are spread over rayon's threads, with the same bits.
///
/// # Panics
/// If a slice does not have the geometry's length.
pub(super) fn convolve(
    pool: &Arc<BufferPool>,
    weights: &PackedWeights,
    g: &ConvGeometry,
    x: &[f32],
    epilogue: Epilogue<'_>,
    parallel: bool,
    y: &mut [f32],
) {
    assert_eq!((x.len(), y.len()), (g.input_len(), g.output_len()), "input and output of {g:?}");
    assert_eq!(weights.groups.len(), g.groups, "groups of packed weights");
    let outputs = g.c_out / g.groups;
    for images in batches(g) {
        for (group, a) in weights.groups.iter().enumerate() {
            let x = part(x, [g.c_in, g.in_pixels()], &images, [group, g.groups]);
            let mut y = part_mut(y, [g.c_out, g.out_pixels()], &images, [group, g.groups]);
            let epilogue = epilogue.of_rows(group * outputs..(group + 1) * outputs);
            let columns = 0..images.len() * g.out_pixels();
            let b = (&*windows(pool, g, x, By::Position), columns);
            gemm(pool, a, b, epilogue, (&mut y, 0), parallel);
        }
    }
}

/// The gradient with respect to the input, N x C x H x W, overwritten, of a convolution whose input gradient is none: each
/// product is added to the pixel it came from. `weights` are packed for [`Pass::InputGradient`].
///
/// # Panics
/// If a slice does not have the geometry's length.
pub(super) fn scatter(
    pool: &Arc<BufferPool>,
    weights: &PackedWeights,
    g: &ConvGeometry,
    dy: &[f32],
    parallel: bool,
    dx: &mut [f32],
) {
    assert_eq!((dx.len(), dy.len()), (g.input_len(), g.output_len()), "input and output of {g:?}");
    assert_eq!(weights.groups.len(), g.groups, "groups of packed weights");
    let (patch, pixels, image) = (g.patch(), g.out_pixels(), g.c_in / g.groups * g.in_pixels());
    let mut columns = pool.take::<f32>(patch * pixels);
    dx.fill(0.0);
    for n in 0..g.n {
        for (group, a) in weights.groups.iter().enumerate() {
            let dy = part(dy, [g.c_out, pixels], &(n..n + 1), [group, g.groups]).by(By::Position);
            let mut output = Output::matrix(&mut columns, patch, pixels, pixels);
            gemm(pool, a, (&dy, 0..pixels), Epilogue::default(), (&mut output, 0), parallel);
            col2im(g, &columns, &mut dx[(n * g.groups + group) * image..][..image]);
        }
    }
}
