//! Depthwise convolution in f32: each input channel has windows of its own (Howard et al. 2017, "MobileNets", section 3.1).
//!
//! There is nothing to sum over channels, so a matrix product would be a row high. Instead each plane is copied between its
//! zeros, and vectors are neighboring outputs: a tap of the window is a multiply-add of a vector of inputs. The input gradient is
//! such a convolution, too, of the output gradient with as many zeros between its pixels as the stride steps over.

use std::sync::Arc;

use super::padded::Padded;
use super::{ConvGeometry, Pass};
use crate::buffer_pool::BufferPool;
use crate::gemm::Epilogue;
use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::threads;

/// The most lanes of a vector: rows are as long as whole vectors of any instruction set.
const LANES: usize = 16;

/// Vectors of outputs, and taps whose gradients, that are summed at once.
const VECTORS: usize = 4;

/// The places in the copies of the planes of a group, which lie one after the other, that a pass reads.
struct Layout {
    /// Input and output channels of a group.
    channels: [usize; 2],
    /// Rows and columns of the outputs.
    size: [usize; 2],
    /// An input plane.
    padded: Padded,
    /// The distances of all taps of a window from the first, plane after plane.
    taps: Vec<usize>,
    /// Elements of a copy from the windows of an output row to those of the next.
    row_step: usize,
}

impl Layout {
    fn new(g: &ConvGeometry, pass: Pass) -> Self {
        let (outputs, [rows, columns]) = (g.c_out / g.groups, g.kernel);
        let taps = |padded: Padded| {
            let column = move |v: usize| padded.column(v * g.dilation[1]);
            let row = move |u: usize| u * g.dilation[0] * padded.row_stride();
            (0..rows).flat_map(move |u| (0..columns).map(move |v| row(u) + column(v)))
        };
        match pass {
            Pass::Forward => {
                let (size, [height, width]) = (g.output(), g.padded());
                let phases = g.stride[1].min(width);
                let least = (g.window(1) - 1) / phases + size[1].next_multiple_of(LANES);
                let padded = Padded::input(g, phases, least);
                let row_step = g.stride[0].min(height) * padded.row_stride();
                Self { channels: [1, outputs], size, padded, taps: taps(padded).collect(), row_step }
            }
            Pass::InputGradient => {
                let padded = Padded::output_gradient(g, g.window(1) - 1 + g.input[1].next_multiple_of(LANES));
                let (planes, row_step) =
                    ((0..outputs).map(|plane| plane * padded.len()), padded.row_stride());
                // The kernel is flipped.
                let taps = planes.flat_map(|plane| taps(padded).rev().map(move |tap| plane + tap)).collect();
                Self { channels: [outputs, 1], size: g.input, padded, taps, row_step }
            }
        }
    }

    /// Elements of a group's input planes, and of its output planes.
    fn group(&self) -> [usize; 2] {
        [self.channels[0] * self.padded.pixels(), self.channels[1] * self.size[0] * self.size[1]]
    }
}

/// The sums of `V` vectors of outputs, from `start` on: `x` begins at the inputs of their first tap.
#[inline(always)]
fn correlate<S: Simd, const V: usize>(
    s: S,
    start: f32,
    x: &[f32],
    taps: &[usize],
    w: &[f32],
) -> [S::Vector; V] {
    let mut sums = [s.splat(start); V];
    for (&tap, &w) in taps.iter().zip(w) {
        let (x, w) = (s.load_strided::<V>(&x[tap..], S::LANES), s.splat(w));
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = s.mul_add(x, w, *sum);
        }
    }
    sums
}

/// Writes vectors to the start of `y`, as much as there is room for.
#[inline(always)]
fn store<S: Simd, const V: usize>(s: S, values: [S::Vector; V], relu: bool, y: &mut [f32]) {
    for (k, mut value) in values.into_iter().enumerate() {
        if relu {
            value = s.relu(value);
        }
        let start = (k * S::LANES).min(y.len());
        let end = (start + S::LANES).min(y.len());
        s.store_partial(value, &mut y[start..end]);
    }
}

/// The outputs of some groups: their input planes, convolved and added up.
struct GroupOutputs<'a> {
    groups: usize,
    layout: &'a Layout,
    x: &'a [f32],
    w: &'a [f32],
    epilogue: Epilogue<'a>,
    /// The first group, counted through all images, and the outputs from there on.
    first: usize,
    y: &'a mut [f32],
    /// Room for the copies, whose surroundings are zeros.
    copies: &'a mut [f32],
}

impl Kernel for GroupOutputs<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { groups, layout, x, w, epilogue: Epilogue { bias, relu }, first, y, copies } = self;
        let Layout { channels: [_, outputs], size: [rows, columns], padded, taps, row_step } = layout;
        let ([from, to], pixels, count) = (layout.group(), padded.pixels(), taps.len());
        for (group, y) in (first..).zip(y.chunks_exact_mut(to)) {
            for (plane, copy) in copies.chunks_exact_mut(padded.len()).enumerate() {
                padded.fill(&x[group * from + plane * pixels..][..pixels], copy);
            }
            for (output, y) in y.chunks_exact_mut(rows * columns).enumerate() {
                let channel = group % groups * outputs + output;
                let (w, bias) = (&w[channel * count..][..count], bias.map_or(0.0, |bias| bias[channel]));
                for (i, y) in y.chunks_exact_mut(*columns).enumerate() {
                    let x = &copies[i * row_step..];
                    let mut j = 0;
                    while j + (VECTORS - 1) * S::LANES < *columns {
                        store(s, correlate::<S, VECTORS>(s, bias, &x[j..], taps, w), relu, &mut y[j..]);
                        j += VECTORS * S::LANES;
                    }
                    while j < *columns {
                        store(s, correlate::<S, 1>(s, bias, &x[j..], taps, w), relu, &mut y[j..]);
                        j += S::LANES;
                    }
                }
            }
        }
    }
}

/// A pass of the convolution `g`: the output, N x O x OH x OW, overwritten, with an epilogue of O biases, or the
/// input gradient, N x C x H x W, overwritten. With `parallel`, groups are spread over rayon's threads, with the same bits.
///
/// # Panics
/// If a slice does not have the geometry's length or the convolution is not depthwise.
pub(super) fn convolve(
    pool: &Arc<BufferPool>,
    isa: Isa,
    (g, pass): (&ConvGeometry, Pass),
    [x, w]: [&[f32]; 2],
    epilogue: Epilogue<'_>,
    parallel: bool,
    y: &mut [f32],
) {
    let (groups, layout) = (g.groups, &Layout::new(g, pass));
    let [from, to] = layout.group();
    assert!(g.is_depthwise() && w.len() == g.weight_len(), "weights of a depthwise {g:?}");
    assert_eq!([x.len(), y.len()], [from, to].map(|len| g.n * groups * len), "input and output of {g:?}");
    if y.is_empty() {
        return;
    }
    let share = threads::units_each(parallel, g.n * groups);
    threads::spread(y.chunks_mut(share * to).enumerate(), |(chunk, y)| {
        let (first, copies) =
            (chunk * share, &mut *pool.zeros::<f32>(layout.channels[0] * layout.padded.len()));
        dispatch(isa, GroupOutputs { groups, layout, x, w, epilogue, first, y, copies });
    });
}

/// The gradient of the weight.
struct WeightGradient<'a> {
    g: &'a ConvGeometry,
    layout: &'a Layout,
    x: &'a [f32],
    dy: &'a [f32],
    /// Room for the copy of an input plane, whose surroundings are zeros.
    copy: &'a mut [f32],
    /// The gradient of one output plane in rows of whole vectors, zeros behind each.
    lines: (Padded, &'a mut [f32]),
    dw: &'a mut [f32],
}

/// The sum of a vector's lanes, in their order.
#[inline(always)]
fn sum_lanes<S: Simd>(s: S, value: S::Vector) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(value, &mut lanes);
    lanes[..S::LANES].iter().sum()
}

/// Adds to `dw` the gradients of `T` taps from one plane.
#[inline(always)]
fn add_taps<S: Simd, const T: usize>(
    s: S,
    (x, stride): (&[f32], usize),
    (rows, width): (&[f32], usize),
    taps: &[usize; T],
    dw: &mut [f32; T],
) {
    let mut sums = [s.splat(0.0); T];
    for (i, row) in rows.chunks_exact(width).enumerate() {
        for (j, dy) in row.chunks_exact(S::LANES).enumerate() {
            let dy = s.load(dy);
            for (sum, &tap) in sums.iter_mut().zip(taps) {
                *sum = s.mul_add(s.load(&x[i * stride + tap + j * S::LANES..]), dy, *sum);
            }
        }
    }
    for (dw, sum) in dw.iter_mut().zip(sums) {
        *dw += sum_lanes(s, sum);
    }
}

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { g, layout, x, dy, copy, lines: (lines, rows), dw } = self;
        let Layout { channels: [_, outputs], padded, taps, row_step, .. } = layout;
        let (pixels, width) = (g.out_pixels(), lines.row_stride());
        for plane in 0..g.n * g.c_in {
            padded.fill(&x[plane * g.in_pixels()..][..g.in_pixels()], copy);
            for output in 0..*outputs {
                let channel = plane % g.c_in * outputs + output;
                lines.fill(&dy[(plane * outputs + output) * pixels..][..pixels], rows);
                let (x, dy) = ((&*copy, *row_step), (&*rows, width));
                let dw = &mut dw[channel * taps.len()..][..taps.len()];
                let (whole, rest) = taps.as_chunks::<VECTORS>();
                let (dw_whole, dw_rest) = dw.as_chunks_mut::<VECTORS>();
                for (taps, dw) in whole.iter().zip(dw_whole) {
                    add_taps(s, x, dy, taps, dw);
                }
                for (tap, dw) in rest.iter().zip(dw_rest) {
                    add_taps(s, x, dy, &[*tap], std::array::from_mut(dw));
                }
            }
        }
    }
}

/// The gradient with respect to the weight, O x 1 x KH x KW, overwritten. Images are added up in their order.
///
/// # Panics
/// If a slice does not have the geometry's length or the convolution is not depthwise.
pub(super) fn weight_gradient(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    [x, dy]: [&[f32]; 2],
    dw: &mut [f32],
) {
    assert_eq!((x.len(), dy.len()), (g.input_len(), g.output_len()), "input and output of {g:?}");
    assert!(g.is_depthwise() && dw.len() == g.weight_len(), "weights of a depthwise {g:?}");
    dw.fill(0.0);
    let layout = &Layout::new(g, Pass::Forward);
    let lines = Padded::plain(layout.size, layout.size[1].next_multiple_of(LANES));
    let [mut copy, mut rows] = [layout.padded, lines].map(|padded| pool.zeros::<f32>(padded.len()));
    let lines = (lines, &mut *rows);
    dispatch(isa, WeightGradient { g, layout, x, dy, copy: &mut copy, lines, dw });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conv::bias_gradient;
    use crate::conv::reference::{Case, geometries};
    use crate::gemm::reference::random;
    use crate::tensor::Tensor;
    use crate::testing::poisoned;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn all_passes_agree_with_the_naive_loop(
            g in geometries([2..4, 1..2, 1..3], [1..15, 1..80]), seed: u64, with: [bool; 2], parallel: bool,
        ) {
            let (context, case) = (poisoned(), Case::new(g, random, seed, with));
            let db = bias_gradient(&context, Tensor::from_slice(g.output_shape(), &case.dy).unwrap());
            for isa in Isa::available() {
                let ([mut y, mut dx, mut dw, _], pool) = (case.places(), context.pool());
                let [x, w, dy] = [&*case.x, &*case.w, &*case.dy];
                convolve(pool, isa, (&g, Pass::Forward), [x, w], case.epilogue(), parallel, &mut y);
                convolve(pool, isa, (&g, Pass::InputGradient), [dy, w], Epilogue::default(), parallel, &mut dx);
                weight_gradient(pool, isa, &g, [x, dy], &mut dw);
                case.check([&y, &dx, &dw, db.data()], isa.name());
            }
        }
    }
}
