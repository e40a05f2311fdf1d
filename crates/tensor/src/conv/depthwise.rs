//! Depthwise convolution in f32: each input channel has windows of its own (Howard et al. 2017, "MobileNets", section 3.1).
//!
//! There is nothing to sum over channels, so a matrix product would be a row high. Instead each plane is copied between its zeros,
//! and vectors are neighboring outputs: a tap of the window is a multiply-add of a vector of inputs. With a horizontal stride s the
//! copy holds the columns 0, s, 2 s, ... of each row first, then 1, s + 1, ..., so that the inputs of neighboring outputs are
//! neighbors, too.

use std::sync::Arc;

use rayon::prelude::*;

use super::ConvGeometry;
use super::direct::Masked;
use crate::buffer_pool::BufferPool;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// The most lanes of a vector: rows are as long as whole vectors of any instruction set.
const LANES: usize = 16;

/// Vectors of a tile of outputs, and taps whose gradients are summed at once.
const TILE: usize = 4;

/// Planes that a thread takes at a time.
const PLANES: usize = 8;

/// The copy of a plane between its zeros.
struct Padded {
    /// Rows of the copy.
    rows: usize,
    /// Columns of each phase of a row.
    columns: usize,
    /// Elements from a row to the next: a phase for each horizontal step.
    row_stride: usize,
    /// The distance of each tap's first input from that of the first tap.
    taps: Vec<usize>,
}

impl Padded {
    fn new(g: &ConvGeometry) -> Self {
        let [_, step] = g.stride;
        let rows = (g.out_h() - 1) * g.stride[0] + g.window(0);
        let columns = (g.window(1) - 1) / step + g.out_w().next_multiple_of(LANES);
        let row_stride = step * columns;
        let place = |column: usize| column % step * columns + column / step;
        let row = |u: usize| {
            (0..g.kernel[1]).map(move |v| u * g.dilation[0] * row_stride + place(v * g.dilation[1]))
        };
        Self { rows, columns, row_stride, taps: (0..g.kernel[0]).flat_map(row).collect() }
    }

    fn len(&self) -> usize {
        self.rows * self.row_stride
    }

    /// The part of an input row that lies in the phase `phase`: the first column of it in the copy, the first in the input, and their
    /// number.
    #[inline(always)]
    fn phase(&self, g: &ConvGeometry, phase: usize) -> (usize, usize, usize) {
        let (padding, step) = (g.padding[1], g.stride[1]);
        let first = padding.saturating_sub(phase).div_ceil(step);
        let source = first * step + phase - padding;
        let count = g.w.saturating_sub(source).div_ceil(step);
        (first, source, count.min(self.columns.saturating_sub(first)))
    }

    /// Copies a plane, 0 where the mask is not above 0. What lies around it is left.
    #[inline(always)]
    fn fill(&self, g: &ConvGeometry, x: &[f32], mask: Option<&[f32]>, copy: &mut [f32]) {
        for row in 0..g.h.min(self.rows.saturating_sub(g.padding[0])) {
            for phase in 0..g.stride[1] {
                let (first, source, count) = self.phase(g, phase);
                if count == 0 {
                    continue;
                }
                let to = (row + g.padding[0]) * self.row_stride + phase * self.columns + first;
                let (to, from) = (&mut copy[to..to + count], row * g.w + source);
                match (g.stride[1], mask) {
                    (1, None) => to.copy_from_slice(&x[from..from + count]),
                    (step, None) => {
                        for (to, &x) in to.iter_mut().zip(x[from..].iter().step_by(step)) {
                            *to = x;
                        }
                    }
                    (step, Some(mask)) => {
                        let masked = x[from..].iter().zip(&mask[from..]).step_by(step);
                        for (to, (&x, &mask)) in to.iter_mut().zip(masked) {
                            *to = if mask > 0.0 { x } else { 0.0 };
                        }
                    }
                }
            }
        }
    }

    /// Copies the plane back, and 0 where no window reaches.
    #[inline(always)]
    fn read(&self, g: &ConvGeometry, copy: &[f32], x: &mut [f32]) {
        x.fill(0.0);
        for row in 0..g.h.min(self.rows.saturating_sub(g.padding[0])) {
            for phase in 0..g.stride[1] {
                let (first, source, count) = self.phase(g, phase);
                if count == 0 {
                    continue;
                }
                let from = (row + g.padding[0]) * self.row_stride + phase * self.columns + first;
                let to = x[row * g.w + source..].iter_mut().step_by(g.stride[1]);
                for (x, &value) in to.zip(&copy[from..from + count]) {
                    *x = value;
                }
            }
        }
    }
}

/// The sums of `V` vectors of outputs, from `start` on: `x` begins at the inputs of their first tap.
#[inline(always)]
fn tile<S: Simd, const V: usize>(s: S, start: f32, x: &[f32], taps: &[usize], w: &[f32]) -> [S::Vector; V] {
    let mut sums = [s.splat(start); V];
    for (&tap, &w) in taps.iter().zip(w) {
        let (x, w) = (s.load_strided::<V>(&x[tap..], S::LANES), s.splat(w));
        for (sum, x) in sums.iter_mut().zip(x) {
            *sum = s.mul_add(x, w, *sum);
        }
    }
    sums
}

/// Writes a tile to the start of `y`, as much as there is room for.
#[inline(always)]
fn store<S: Simd, const V: usize>(s: S, tile: [S::Vector; V], relu: bool, y: &mut [f32]) {
    for (k, mut value) in tile.into_iter().enumerate() {
        if relu {
            // NaN stays: the second operand wins.
            value = s.max(s.splat(0.0), value);
        }
        let start = (k * S::LANES).min(y.len());
        let end = (start + S::LANES).min(y.len());
        s.store_partial(value, &mut y[start..end]);
    }
}

/// The outputs of some planes of the input.
struct Forward<'a> {
    g: &'a ConvGeometry,
    padded: &'a Padded,
    /// The first plane, counted through all images.
    first: usize,
    planes: usize,
    x: Masked<'a>,
    w: &'a [f32],
    bias: Option<&'a [f32]>,
    relu: bool,
    /// A copy of a plane, whose surroundings are zeros.
    copy: &'a mut [f32],
    /// The outputs of these planes alone.
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { g, padded, first, planes, x: (x, mask), w, bias, relu, copy, y } = self;
        let (outputs, taps) = (g.c_out / g.groups, padded.taps.len());
        let (pixels, ow) = (g.out_pixels(), g.out_w());
        for plane in first..first + planes {
            let input = plane * g.in_pixels()..(plane + 1) * g.in_pixels();
            padded.fill(g, &x[input.clone()], mask.map(|mask| &mask[input]), copy);
            for output in 0..outputs {
                let channel = plane % g.c_in * outputs + output;
                let (w, bias) = (&w[channel * taps..][..taps], bias.map_or(0.0, |bias| bias[channel]));
                let y = &mut y[((plane - first) * outputs + output) * pixels..][..pixels];
                for (i, y) in y.chunks_exact_mut(ow).enumerate() {
                    let x = &copy[i * g.stride[0] * padded.row_stride..];
                    let mut j = 0;
                    while j + (TILE - 1) * S::LANES < ow {
                        store(s, tile::<S, TILE>(s, bias, &x[j..], &padded.taps, w), relu, &mut y[j..]);
                        j += TILE * S::LANES;
                    }
                    while j < ow {
                        store(s, tile::<S, 1>(s, bias, &x[j..], &padded.taps, w), relu, &mut y[j..]);
                        j += S::LANES;
                    }
                }
            }
        }
    }
}

/// Runs a kernel on chunks of planes of `out`, `each` elements a plane: on all at once, or spread over rayon's threads.
fn each_chunk(parallel: bool, each: usize, out: &mut [f32], run: impl Fn(usize, usize, &mut [f32]) + Sync) {
    if each == 0 {
        return;
    }
    if parallel {
        let chunks = out.par_chunks_mut(PLANES * each).enumerate();
        chunks.for_each(|(chunk, out)| run(chunk * PLANES, out.len() / each, out));
    } else {
        run(0, out.len() / each, out);
    }
}

/// The output, N x O x OH x OW, overwritten, with a bias of O elements and ReLU if asked for. With `parallel`, planes are spread over
/// rayon's threads, with the same bits.
///
/// # Panics
/// If a slice does not have the geometry's length or the convolution is not depthwise.
pub(super) fn forward(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    (x, w): (&[f32], &[f32]),
    (bias, relu): (Option<&[f32]>, bool),
    parallel: bool,
    y: &mut [f32],
) {
    convolve(pool, isa, g, &Padded::new(g), ((x, None), w), (bias, relu), parallel, y);
}

#[expect(clippy::too_many_arguments, reason = "those of a convolution")]
fn convolve(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    padded: &Padded,
    (x, w): (Masked<'_>, &[f32]),
    (bias, relu): (Option<&[f32]>, bool),
    parallel: bool,
    y: &mut [f32],
) {
    assert_eq!((x.0.len(), w.len()), (g.input_len(), g.weight_len()), "input and weights of {g:?}");
    assert!(g.is_depthwise() && y.len() == g.output_len(), "output of a depthwise {g:?}");
    each_chunk(parallel, g.c_out / g.groups * g.out_pixels(), y, |first, planes, y| {
        let copy = &mut *pool.zeros::<f32>(padded.len());
        dispatch(isa, Forward { g, padded, first, planes, x, w, bias, relu, copy, y });
    });
}

/// Copies rows of an output gradient to rows of whole vectors, 0 where the mask is not above 0 and behind the row.
#[inline(always)]
fn copy_rows(ow: usize, width: usize, dy: &[f32], mask: Option<&[f32]>, rows: &mut [f32]) {
    for (i, to) in rows.chunks_exact_mut(width).enumerate() {
        let from = i * ow..(i + 1) * ow;
        to[ow..].fill(0.0);
        match mask {
            None => to[..ow].copy_from_slice(&dy[from]),
            Some(mask) => {
                for (to, (&dy, &mask)) in to.iter_mut().zip(dy[from.clone()].iter().zip(&mask[from])) {
                    *to = if mask > 0.0 { dy } else { 0.0 };
                }
            }
        }
    }
}

/// The input gradients of some planes of the input, each output's gradient added to the inputs under its window.
struct InputGradient<'a> {
    g: &'a ConvGeometry,
    padded: &'a Padded,
    first: usize,
    planes: usize,
    dy: Masked<'a>,
    w: &'a [f32],
    copy: &'a mut [f32],
    /// The gradient of one output plane, in rows of whole vectors.
    rows: &'a mut [f32],
    dx: &'a mut [f32],
}

impl Kernel for InputGradient<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { g, padded, first, planes, dy: (dy, mask), w, copy, rows, dx } = self;
        let (outputs, taps) = (g.c_out / g.groups, padded.taps.len());
        let (pixels, width) = (g.out_pixels(), g.out_w().next_multiple_of(LANES));
        for plane in first..first + planes {
            copy.fill(0.0);
            for output in 0..outputs {
                let channel = plane % g.c_in * outputs + output;
                let from = (plane * outputs + output) * pixels..(plane * outputs + output + 1) * pixels;
                copy_rows(g.out_w(), width, &dy[from.clone()], mask.map(|mask| &mask[from]), rows);
                for (i, row) in rows.chunks_exact(width).enumerate() {
                    let x = &mut copy[i * g.stride[0] * padded.row_stride..];
                    for (&tap, &w) in padded.taps.iter().zip(&w[channel * taps..]) {
                        let w = s.splat(w);
                        for (j, dy) in row.chunks_exact(S::LANES).enumerate() {
                            let x = &mut x[tap + j * S::LANES..][..S::LANES];
                            s.store(s.mul_add(s.load(dy), w, s.load(x)), x);
                        }
                    }
                }
            }
            padded.read(g, copy, &mut dx[(plane - first) * g.in_pixels()..][..g.in_pixels()]);
        }
    }
}

/// The gradient with respect to the input, N x C x H x W, overwritten. With `parallel`, planes are spread over rayon's threads, with
/// the same bits.
///
/// # Panics
/// If a slice does not have the geometry's length or the convolution is not depthwise.
pub(super) fn input_gradient(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    (dy, w): (Masked<'_>, &[f32]),
    parallel: bool,
    dx: &mut [f32],
) {
    assert_eq!((dy.0.len(), w.len()), (g.output_len(), g.weight_len()), "output and weights of {g:?}");
    assert!(g.is_depthwise() && dx.len() == g.input_len(), "input of a depthwise {g:?}");
    if g.flips() && g.c_out == g.groups {
        // Gathered: a convolution with the kernel flipped.
        let flipped = g.input_gradient();
        let mut padded = Padded::new(&flipped);
        padded.taps.reverse();
        return convolve(pool, isa, &flipped, &padded, (dy, w), (None, false), parallel, dx);
    }
    let padded = &Padded::new(g);
    each_chunk(parallel, g.in_pixels(), dx, |first, planes, dx| {
        let copy = &mut *pool.take::<f32>(padded.len());
        let rows = &mut *pool.take::<f32>(g.out_h() * g.out_w().next_multiple_of(LANES));
        dispatch(isa, InputGradient { g, padded, first, planes, dy, w, copy, rows, dx });
    });
}

/// The gradients of weight and bias.
struct WeightGradient<'a> {
    g: &'a ConvGeometry,
    padded: &'a Padded,
    x: &'a [f32],
    dy: Masked<'a>,
    copy: &'a mut [f32],
    rows: &'a mut [f32],
    dw: &'a mut [f32],
    db: Option<&'a mut [f32]>,
}

/// The sum of a vector's lanes, in their order.
#[inline(always)]
fn sum_lanes<S: Simd>(s: S, value: S::Vector) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(value, &mut lanes);
    let mut sum = 0.0;
    for lane in &lanes[..S::LANES] {
        sum += lane;
    }
    sum
}

/// Adds to `dw` the gradients of `T` taps from one plane.
#[inline(always)]
fn add_taps<S: Simd, const T: usize>(
    s: S,
    (x, stride): (&[f32], usize),
    (rows, width): (&[f32], usize),
    taps: &[usize],
    dw: &mut [f32],
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
        let Self { g, padded, x, dy: (dy, mask), copy, rows, dw, mut db } = self;
        let (outputs, count) = (g.c_out / g.groups, padded.taps.len());
        let (pixels, width) = (g.out_pixels(), g.out_w().next_multiple_of(LANES));
        let stride = g.stride[0] * padded.row_stride;
        for plane in 0..g.n * g.c_in {
            padded.fill(g, &x[plane * g.in_pixels()..][..g.in_pixels()], None, copy);
            for output in 0..outputs {
                let channel = plane % g.c_in * outputs + output;
                let from = (plane * outputs + output) * pixels..(plane * outputs + output + 1) * pixels;
                copy_rows(g.out_w(), width, &dy[from.clone()], mask.map(|mask| &mask[from]), rows);
                let dw = &mut dw[channel * count..][..count];
                let mut tap = 0;
                while tap + TILE <= count {
                    let taps = &padded.taps[tap..tap + TILE];
                    add_taps::<S, TILE>(s, (copy, stride), (rows, width), taps, &mut dw[tap..tap + TILE]);
                    tap += TILE;
                }
                while tap < count {
                    add_taps::<S, 1>(
                        s,
                        (copy, stride),
                        (rows, width),
                        &padded.taps[tap..=tap],
                        &mut dw[tap..=tap],
                    );
                    tap += 1;
                }
                if let Some(db) = &mut db {
                    let mut sum = s.splat(0.0);
                    for dy in rows.chunks_exact(S::LANES) {
                        sum = s.add(sum, s.load(dy));
                    }
                    db[channel] += sum_lanes(s, sum);
                }
            }
        }
    }
}

/// The gradient with respect to the weight, O x 1 x KH x KW, and to the bias, O, overwritten. Images are added up in their order.
///
/// # Panics
/// If a slice does not have the geometry's length or the convolution is not depthwise.
pub(super) fn weight_gradient(
    pool: &Arc<BufferPool>,
    isa: Isa,
    g: &ConvGeometry,
    x: &[f32],
    dy: Masked<'_>,
    (dw, mut db): (&mut [f32], Option<&mut [f32]>),
) {
    assert_eq!((x.len(), dy.0.len()), (g.input_len(), g.output_len()), "input and output of {g:?}");
    assert!(g.is_depthwise() && dw.len() == g.weight_len(), "weights of a depthwise {g:?}");
    dw.fill(0.0);
    if let Some(db) = &mut db {
        db.fill(0.0);
    }
    let padded = &Padded::new(g);
    let copy = &mut *pool.zeros::<f32>(padded.len());
    let rows = &mut *pool.take::<f32>(g.out_h() * g.out_w().next_multiple_of(LANES));
    dispatch(isa, WeightGradient { g, padded, x, dy, copy, rows, dw, db });
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::conv::naive;
    use crate::gemm::reference::{random, relu_output};

    fn geometries() -> impl Strategy<Value = ConvGeometry> {
        let sizes = (1usize..3, 2usize..4, 1usize..3, 1usize..15, 1usize..80);
        let window =
            ([1usize..5, 1usize..6], [1usize..4, 1usize..4], [0usize..5, 0usize..5], [1usize..3, 1usize..3]);
        (sizes, window, any::<bool>()).prop_filter_map("the window fits", |(sizes, window, unit)| {
            let ((n, channels, outputs, h, w), (kernel, stride, padding, dilation)) = (sizes, window);
            let stride = if unit { [1; 2] } else { stride };
            let (x, k) = ([n, channels, h, w], [channels * outputs, 1, kernel[0], kernel[1]]);
            ConvGeometry::new(x.into(), k.into(), stride, padding, dilation, channels).ok()
        })
    }

    fn assert_near(found: &[f32], expected: &[f32], terms: usize, what: &str) {
        let bound = (terms as f32 + 8.0) * f32::EPSILON;
        for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            // Written so that a NaN fails.
            assert!(
                (found - expected).abs() <= bound,
                "{what}, element {index}: {found}, expected {expected}"
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn all_passes_agree_with_the_naive_loop(g in geometries(), seed: u64, biased: bool, relu: bool, parallel: bool) {
            let pool = BufferPool::poisoning();
            let (x, w, bias) = (random(g.input_len(), seed), random(g.weight_len(), seed ^ 1), random(g.c_out, seed ^ 2));
            let bias = biased.then_some(&*bias);
            let mut y = vec![f32::NAN; g.output_len()];
            naive::forward(&g, &x, &w, bias, &mut y);
            if relu {
                y.iter_mut().for_each(|y| *y = y.max(0.0));
            }
            let (dy, mask) = (random(g.output_len(), seed ^ 3), relu_output(g.output_len(), seed ^ 4));
            let masked: Vec<f32> =
                dy.iter().zip(&mask).map(|(&dy, &y)| if relu && y <= 0.0 { 0.0 } else { dy }).collect();
            let output = relu.then_some(&*mask);
            let (mut dx, mut dw, mut db) = (vec![f32::NAN; x.len()], vec![f32::NAN; w.len()], vec![0.0f32; g.c_out]);
            naive::input_gradient(&g, &masked, &w, &mut dx);
            naive::weight_gradient(&g, &x, &masked, &mut dw);
            for (channel, db) in db.iter_mut().enumerate() {
                let planes = masked.chunks_exact(g.out_pixels()).skip(channel).step_by(g.c_out);
                *db = planes.flatten().map(|&dy| f64::from(dy)).sum::<f64>() as f32;
            }
            for isa in Isa::available() {
                let mut found = vec![f32::NAN; y.len()];
                forward(&pool, isa, &g, (&x, &w), (bias, relu), parallel, &mut found);
                assert_near(&found, &y, g.patch(), &format!("{isa}: y"));
                let mut found = vec![f32::NAN; x.len()];
                input_gradient(&pool, isa, &g, ((&dy, output), &w), parallel, &mut found);
                assert_near(&found, &dx, g.weight_len(), &format!("{isa}: dx"));
                let (mut found, mut sums) = (vec![f32::NAN; w.len()], vec![f32::NAN; g.c_out]);
                weight_gradient(&pool, isa, &g, &x, (&dy, output), (&mut found, Some(&mut sums)));
                assert_near(&found, &dw, g.n * g.out_pixels(), &format!("{isa}: dw"));
                assert_near(&sums, &db, g.n * g.out_pixels(), &format!("{isa}: db"));
            }
        }
    }
}
