//! Random sizes and operands that the tests of the convolutions share, and the results of the naive loop for them in f64.

use std::ops::Range;

use proptest::prelude::*;

use super::{ConvGeometry, naive};
use crate::gemm::Epilogue;
use crate::gemm::reference::assert_close;

/// Convolutions of up to three images with so many groups, channels of a group on either side, and rows and columns, that fit: a
/// quarter each of 1x1 windows, of 3x3 and 5x5 windows that Winograd's algorithm takes, of stride 1, and of any.
pub(super) fn geometries(
    channels: [Range<usize>; 3],
    size: [Range<usize>; 2],
) -> impl Strategy<Value = ConvGeometry> {
    let window =
        ([1usize..6, 1usize..6], [1usize..4, 1usize..4], [0usize..5, 0usize..5], [1usize..3, 1usize..3]);
    (0u8..4, 1usize..4, channels, size, window).prop_filter_map(
        "the window fits",
        |(kind, n, c, size, window)| {
            let ([groups, c_in, c_out], [h, w]) = (c, size);
            let (mut kernel, mut stride, mut padding, mut dilation) = window;
            match kind {
                0 => (kernel, stride, padding) = ([1; 2], [1; 2], [0; 2]),
                1 => {
                    let side = if kernel[0] < 3 { 3 } else { 5 };
                    (kernel, stride, dilation) = ([side; 2], [1; 2], [1; 2]);
                    padding = padding.map(|zeros| zeros % side);
                }
                2 => stride = [1; 2],
                _ => {}
            }
            let (x, weight) = ([n, groups * c_in, h, w], [groups * c_out, c_in, kernel[0], kernel[1]]);
            ConvGeometry::new(x.into(), weight.into(), stride, padding, dilation, groups).ok()
        },
    )
}

/// The output, with ReLU if asked for, and the gradients with respect to x, the weight and the bias.
pub(super) fn passes(
    g: &ConvGeometry,
    [x, w, dy]: [&[f64]; 3],
    (bias, relu): (Option<&[f64]>, bool),
) -> [Vec<f64>; 4] {
    let [mut y, mut dx, mut dw, mut db] = lengths(g).map(|len| vec![0.0; len]);
    // The naive loop is what the tests take longest for.
    rayon::scope(|scope| {
        scope.spawn(|_| naive::forward(g, x, w, bias, &mut y));
        scope.spawn(|_| naive::input_gradient(g, dy, w, &mut dx));
        naive::weight_gradient(g, x, dy, &mut dw);
    });
    if relu {
        y.iter_mut().for_each(|y| *y = y.max(0.0));
    }
    for (plane, dy) in dy.chunks_exact(g.out_pixels()).enumerate() {
        db[plane % g.c_out] += dy.iter().sum::<f64>();
    }
    [y, dx, dw, db]
}

fn lengths(g: &ConvGeometry) -> [usize; 4] {
    [g.output_len(), g.input_len(), g.weight_len(), g.c_out]
}

pub(super) fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// A convolution with random operands.
pub(super) struct Case {
    pub(super) g: ConvGeometry,
    pub(super) x: Vec<f32>,
    pub(super) w: Vec<f32>,
    pub(super) bias: Option<Vec<f32>>,
    pub(super) dy: Vec<f32>,
    pub(super) relu: bool,
    /// See [`passes`].
    pub(super) expected: [Vec<f64>; 4],
}

impl Case {
    /// Operands that `draw` makes of a length and a seed.
    pub(super) fn new(
        g: ConvGeometry,
        draw: impl Fn(usize, u64) -> Vec<f32>,
        seed: u64,
        [biased, relu]: [bool; 2],
    ) -> Self {
        let [x, w, dy] = [(g.input_len(), 0), (g.weight_len(), 1), (g.output_len(), 3)]
            .map(|(len, own)| draw(len, seed ^ own));
        let bias = biased.then(|| draw(g.c_out, seed ^ 2));
        let (wide, wide_bias) = ([&x, &w, &dy].map(|all| widened(all)), bias.as_deref().map(widened));
        let expected = passes(&g, wide.each_ref().map(|all| &**all), (wide_bias.as_deref(), relu));
        Self { g, x, w, bias, relu, dy, expected }
    }

    /// The bias, and whether there is a ReLU.
    pub(super) fn epilogue(&self) -> Epilogue<'_> {
        Epilogue { bias: self.bias.as_deref(), relu: self.relu }
    }

    /// Places for the four results, full of NaN.
    pub(super) fn places(&self) -> [Vec<f32>; 4] {
        lengths(&self.g).map(|len| vec![f32::NAN; len])
    }

    /// Asserts that each result is within the rounding error of its sums, for operands below one.
    pub(super) fn check(&self, found: [&[f32]; 4], what: &str) {
        let g = &self.g;
        let terms = [g.patch(), g.weight_len(), g.n * g.out_pixels(), g.n * g.out_pixels()];
        for (pass, name) in ["y", "dx", "dw", "db"].into_iter().enumerate() {
            assert_close(found[pass], &self.expected[pass], terms[pass] + 4, &format!("{what}: {name}"));
        }
    }
}
