//! The three passes of a convolution in f32 as blocked matrix products whose operands are never stored.
//!
//! Per group, with `columns` the matrix of all windows: `y = w columns`, `dw = dy columns^T`, and the input gradient is
//! * for a 1x1 convolution of stride 1: `w^T dy`;
//! * for any other of stride 1: a convolution of `dy` with the window turned by 180 degrees and the roles of input and
//!   output channels exchanged, so nothing is scattered;
//! * for larger strides: `w^T dy`, an image at a time, each element added to the pixel it came from.
//!
//! Bias and ReLU are applied to the output while it is in registers. ReLU's backward pass is applied to `dy` as it is packed:
//! pass the layer's output as `rectified`. Small images share a product: several side by side fill the tiles that one
//! would leave half empty.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use super::im2col::col2im;
use super::windows::{ElementLanes, Part, PositionLanes, Windows};
use super::{ConvGeometry, turns};
use crate::buffer_pool::BufferPool;
use crate::gemm::{Elements, Epilogue, Operand, Output, PackedA, Planes, Stage, gemm, gemm_backward};
use crate::simd::Isa;

/// Weights in the order in which a pass reads them: packed once, used by all shards and threads.
#[derive(Debug)]
pub struct PackedWeights {
    groups: Vec<PackedA>,
}

/// What a pass that uses weights computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The output.
    Forward,
    /// The gradient with respect to the input.
    InputGradient,
}

impl PackedWeights {
    /// Packs `w` (O x C/groups x KH x KW) for one pass of `g`.
    ///
    /// # Panics
    /// If the slice does not have the geometry's length.
    #[must_use]
    pub fn new(pool: &Arc<BufferPool>, isa: Isa, g: &ConvGeometry, pass: Pass, w: &[f32]) -> Self {
        let mut groups = Vec::with_capacity(g.groups);
        each_group(g, pass, w, |a| groups.push(PackedA::new(pool, isa, a)));
        Self { groups }
    }

    /// The one group of a convolution that is not grouped.
    pub(super) fn only_group(&self) -> &PackedA {
        assert_eq!(self.groups.len(), 1, "groups of packed weights");
        &self.groups[0]
    }

    /// Packs other weights of the same geometry and pass into the same memory.
    ///
    /// # Panics
    /// If the sizes differ.
    pub fn refill(&mut self, g: &ConvGeometry, pass: Pass, w: &[f32]) {
        let mut groups = self.groups.iter_mut();
        each_group(g, pass, w, |a| groups.next().expect("as many groups as were packed").refill(a));
    }
}

/// Calls `each` with the left operand of every group.
fn each_group(g: &ConvGeometry, pass: Pass, w: &[f32], mut each: impl FnMut(&dyn Operand)) {
    assert_eq!(w.len(), g.weight_len(), "weights of {g:?}");
    let (outputs, inputs, patch) = (g.c_out / g.groups, g.c_in / g.groups, g.patch());
    let window = g.kernel[0] * g.kernel[1];
    for w in w.chunks_exact((outputs * patch).max(1)) {
        match pass {
            Pass::Forward => each(&Planes::matrix(w, outputs, patch).by_channel()),
            Pass::InputGradient if turns(g) => each(&Elements {
                extent: inputs,
                k: outputs * window,
                at: |c: usize, p: usize| w[p / window * patch + c * window + (window - 1 - p % window)],
            }),
            Pass::InputGradient => each(&Planes::matrix(w, outputs, patch).by_pixel()),
        }
    }
}

/// The convolution that computes the input gradient of `g`.
fn turned(g: &ConvGeometry) -> ConvGeometry {
    ConvGeometry {
        c_in: g.c_out,
        h: g.out_h(),
        w: g.out_w(),
        c_out: g.c_in,
        padding: [0, 1].map(|axis| g.window(axis) - 1 - g.padding[axis]),
        ..*g
    }
}

/// Images whose windows are prepared together: enough for some ten panels, few enough for the copies to stay in cache. A
/// 1x1 convolution prepares nothing and takes all.
fn images_at_once(g: &ConvGeometry) -> usize {
    if g.is_pointwise() { g.n.max(1) } else { 512usize.div_ceil(g.out_pixels().max(1)) }
}

/// The images of `g` in groups that are worked on together.
pub(super) fn batches(g: &ConvGeometry) -> impl Iterator<Item = Range<usize>> {
    let (n, step) = (g.n, images_at_once(g));
    (0..n).step_by(step).map(move |first| first..n.min(first + step))
}

/// The channels of `group` of `images` in a tensor of `channels` channels of `pixels` pixels.
pub(super) fn part<'a>(
    data: &'a [f32],
    mask: Option<&'a [f32]>,
    channels: usize,
    groups: usize,
    pixels: usize,
    images: &Range<usize>,
    group: usize,
) -> Part<'a> {
    let first = (images.start * channels + group * (channels / groups)) * pixels;
    Part {
        data: &data[first..],
        mask: mask.map(|mask| &mask[first..]),
        images: images.len(),
        channels: channels / groups,
        image_stride: channels * pixels,
    }
}

pub(super) fn planes(part: Part<'_>, pixels: usize) -> Planes<'_> {
    Planes {
        data: part.data,
        mask: part.mask,
        images: part.images,
        channels: part.channels,
        pixels,
        image_stride: part.image_stride,
    }
}

/// The output, N x O x OH x OW, overwritten, with a bias of O elements and ReLU if asked for.
///
/// `weights` are packed for [`Pass::Forward`] of a geometry that differs at most in N. With `parallel`, columns are spread
/// over rayon's threads, with the same bits.
///
/// # Panics
/// If a slice does not have the geometry's length.
pub fn forward(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    x: &[f32],
    weights: &PackedWeights,
    bias: Option<&[f32]>,
    relu: bool,
    parallel: bool,
    y: &mut [f32],
) {
    assert_eq!((x.len(), y.len()), (g.input_len(), g.output_len()), "input and output of {g:?}");
    assert!(bias.is_none_or(|bias| bias.len() == g.c_out), "one bias per output channel of {g:?}");
    convolve(pool, g, x, None, weights, Epilogue { accumulate: false, bias, relu }, parallel, y);
}

/// `y = w x` with `x` masked: the forward pass, or the input gradient of another convolution.
fn convolve(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    x: &[f32],
    mask: Option<&[f32]>,
    weights: &PackedWeights,
    epilogue: Epilogue<'_>,
    parallel: bool,
    y: &mut [f32],
) {
    let (outputs, pixels) = (g.c_out / g.groups, g.out_pixels());
    assert_eq!(weights.groups.len(), g.groups, "groups of packed weights");
    for images in batches(g) {
        for (group, a) in weights.groups.iter().enumerate() {
            let x = part(x, mask, g.c_in, g.groups, g.in_pixels(), &images, group);
            let y = &mut y[(images.start * g.c_out + group * outputs) * pixels..];
            let mut y = Output::planes(y, outputs, pixels, [images.len(), pixels, g.c_out * pixels]);
            let bias = epilogue.bias.map(|bias| &bias[group * outputs..(group + 1) * outputs]);
            let epilogue = Epilogue { bias, ..epilogue };
            if g.is_pointwise() {
                gemm(pool, a, &planes(x, pixels).by_pixel(), epilogue, &mut y, parallel);
            } else {
                gemm(pool, a, &PositionLanes(Windows::for_positions(pool, g, x)), epilogue, &mut y, parallel);
            }
        }
    }
}

/// The gradient with respect to the input, N x C x H x W, overwritten. Where `rectified` (the output of the ReLU that
/// followed) is not above zero, `dy` counts as zero.
///
/// `weights` are packed for [`Pass::InputGradient`].
///
/// # Panics
/// If a slice does not have the geometry's length.
pub fn input_gradient(
    pool: &Arc<BufferPool>,
    g: &ConvGeometry,
    dy: &[f32],
    rectified: Option<&[f32]>,
    weights: &PackedWeights,
    parallel: bool,
    dx: &mut [f32],
) {
    assert_eq!((dx.len(), dy.len()), (g.input_len(), g.output_len()), "input and output of {g:?}");
    assert!(rectified.is_none_or(|y| y.len() == dy.len()), "the output's length");
    if g.is_pointwise() || turns(g) {
        let gradient = if turns(g) { turned(g) } else { ConvGeometry { c_in: g.c_out, c_out: g.c_in, ..*g } };
        convolve(pool, &gradient, dy, rectified, weights, Epilogue::default(), parallel, dx);
        return;
    }
    assert_eq!(weights.groups.len(), g.groups, "groups of packed weights");
    let (patch, pixels, image) = (g.patch(), g.out_pixels(), g.c_in / g.groups * g.in_pixels());
    let mut columns = pool.take::<f32>(patch * pixels);
    dx.fill(0.0);
    for n in 0..g.n {
        for (group, a) in weights.groups.iter().enumerate() {
            let dy = part(dy, rectified, g.c_out, g.groups, pixels, &(n..n + 1), group);
            let mut output = Output::matrix(&mut columns, patch, pixels, pixels);
            gemm(pool, a, &planes(dy, pixels).by_pixel(), Epilogue::default(), &mut output, parallel);
            col2im(g, &columns, &mut dx[(n * g.groups + group) * image..][..image]);
        }
    }
}

/// The gradient with respect to the weight, O x C/groups x KH x KW, and to the bias, O: overwritten, or added to if
/// `accumulate`. `rectified` as in [`input_gradient`].
///
/// # Panics
/// If a slice does not have the geometry's length.
pub fn weight_gradient(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    x: &[f32],
    dy: &[f32],
    rectified: Option<&[f32]>,
    accumulate: bool,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    gradients(pool, isa, g, x, dy, rectified, (accumulate, dw, db), None);
}

/// All gradients of a pointwise convolution, with the bits of [`weight_gradient`] and [`input_gradient`], overwritten. `dy` and
/// `rectified` are read once: a block of pixels serves both while it is in the cache.
///
/// `weights` are packed for [`Pass::InputGradient`].
///
/// # Panics
/// If the convolution is not pointwise or a slice does not have the geometry's length.
pub fn pointwise_gradients(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    x: &[f32],
    dy: &[f32],
    rectified: Option<&[f32]>,
    weights: &PackedWeights,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
    dx: &mut [f32],
) {
    gradients(pool, isa, g, x, dy, rectified, (false, dw, db), Some((weights, dx)));
}

/// The gradients with respect to weight and bias (whether to add to them, and both), and for a pointwise convolution
/// perhaps the input.
fn gradients(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    x: &[f32],
    dy: &[f32],
    rectified: Option<&[f32]>,
    (accumulate, dw, mut db): (bool, &mut [f32], Option<&mut [f32]>),
    mut dx: Option<(&PackedWeights, &mut [f32])>,
) {
    assert_eq!((x.len(), dy.len()), (g.input_len(), g.output_len()), "input and output of {g:?}");
    assert_eq!(dw.len(), g.weight_len(), "weights of {g:?}");
    assert!(rectified.is_none_or(|y| y.len() == dy.len()), "the output's length");
    assert!(db.as_ref().is_none_or(|db| db.len() == g.c_out), "one bias per output channel of {g:?}");
    if let Some((weights, dx)) = &dx {
        assert!(g.is_pointwise(), "only a pointwise convolution makes all its gradients at once");
        assert_eq!((weights.groups.len(), dx.len()), (g.groups, g.input_len()), "weights and input of {g:?}");
    }
    if g.n == 0 && !accumulate {
        dw.fill(0.0);
        if let Some(db) = &mut db {
            db.fill(0.0);
        }
    }
    let (outputs, patch) = (g.c_out / g.groups, g.patch());
    for images in batches(g) {
        let accumulate = accumulate || images.start > 0;
        for group in 0..g.groups {
            let dy = part(dy, rectified, g.c_out, g.groups, g.out_pixels(), &images, group);
            let dy = planes(dy, g.out_pixels());
            let x = part(x, None, g.c_in, g.groups, g.in_pixels(), &images, group);
            let dw = &mut dw[group * outputs * patch..][..outputs * patch];
            let db = db.as_deref_mut().map(|db| &mut db[group * outputs..][..outputs]);
            if !g.is_pointwise() {
                let windows = ElementLanes(Windows::for_elements(pool, g, x));
                let stage = Stage { input: &windows, dw, db, weights: None, relu_mask: None };
                gemm_backward(pool, isa, &dy, &mut [stage], accumulate, None);
                continue;
            }
            let input = planes(x, g.in_pixels()).by_channel();
            let weights = dx.as_ref().map(|(weights, _)| &weights.groups[group]);
            let mut out = dx.as_mut().map(|(_, dx)| {
                let (inputs, pixels) = (g.c_in / g.groups, g.in_pixels());
                let dx = &mut dx[(images.start * g.c_in + group * inputs) * pixels..];
                Output::planes(dx, inputs, pixels, [images.len(), pixels, g.c_in * pixels])
            });
            let stage = Stage { input: &input, dw, db, weights, relu_mask: None };
            gemm_backward(pool, isa, &dy, &mut [stage], accumulate, out.as_mut());
        }
    }
}
