//! Products whose packing reads the image, against the naive loop.

use proptest::prelude::*;

use super::*;
use crate::conv::{Chain, Convolution, chain, naive};
use crate::gemm::reference::{random, relu_output};
use crate::sink::{GradientSum, Sinks};
use crate::tensor::Tensor;

/// Any small convolution: strides, padding, dilation and groups included, and now and then one that is pointwise.
fn geometries() -> impl Strategy<Value = ConvGeometry> {
    let sizes = (1usize..4, 1usize..4, 1usize..5, 1usize..4, 1usize..15, 1usize..15);
    let window =
        ([1usize..5, 1usize..5], [1usize..4, 1usize..4], [0usize..4, 0usize..4], [1usize..3, 1usize..3]);
    (sizes, window, any::<bool>(), 0u8..4).prop_filter_map(
        "the window fits",
        |(sizes, window, unit_stride, kind)| {
            let (n, groups, c, o, h, w) = sizes;
            let (mut kernel, mut stride, mut padding, dilation) = window;
            if unit_stride {
                stride = [1, 1];
            }
            if kind == 0 {
                (kernel, stride, padding) = ([1, 1], [1, 1], [0, 0]);
            }
            let g = ConvGeometry {
                n,
                c_in: groups * c,
                h,
                w,
                c_out: groups * o,
                kernel,
                stride,
                padding,
                dilation,
                groups,
            };
            (g.window(0) <= h + 2 * padding[0] && g.window(1) <= w + 2 * padding[1]).then_some(g)
        },
    )
}

fn assert_near(found: &[f32], expected: &[f32], terms: usize, what: &str) {
    let bound = (terms as f32 + 8.0) * f32::EPSILON;
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        // Written so that a NaN fails.
        assert!((found - expected).abs() <= bound, "{what}, element {index}: {found}, expected {expected}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn all_passes_agree_with_the_definition(
        g in geometries(), seed: u64, biased: bool, relu: bool, parallel: bool,
    ) {
        let pool = BufferPool::poisoning();
        let (x, w) = (random(g.input_len(), seed), random(g.weight_len(), seed ^ 1));
        let bias = random(g.c_out, seed ^ 2);
        let bias = biased.then_some(&*bias);
        let mut y = vec![f32::NAN; g.output_len()];
        naive::forward(&g, &x, &w, bias, &mut y);
        if relu {
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        let dy = random(g.output_len(), seed ^ 3);
        // The mask is drawn, not computed: a computed one could differ where an output is almost zero.
        let mask = relu_output(g.output_len(), seed ^ 4);
        let output = relu.then_some(&*mask);
        let masked: Vec<f32> =
            dy.iter().zip(&mask).map(|(&dy, &y)| if relu && y <= 0.0 { 0.0 } else { dy }).collect();
        let (mut dx, mut dw) = (vec![f32::NAN; x.len()], vec![f32::NAN; w.len()]);
        naive::input_gradient(&g, &masked, &w, &mut dx);
        naive::weight_gradient(&g, &x, &masked, &mut dw);
        let mut db = vec![0.0f64; g.c_out];
        for (plane, dy) in masked.chunks_exact(g.out_pixels()).enumerate() {
            db[plane % g.c_out] += dy.iter().map(|&dy| f64::from(dy)).sum::<f64>();
        }
        let db: Vec<f32> = db.iter().map(|&db| db as f32).collect();

        for isa in Isa::available() {
            let mut found = vec![f32::NAN; y.len()];
            let packed = PackedWeights::new(&pool, isa, &g, Pass::Forward, &w);
            convolve(&pool, &packed, &g, (&x, None), (bias, relu), parallel, &mut found);
            assert_near(&found, &y, g.patch(), &format!("{isa}: y"));

            let mut found = vec![f32::NAN; x.len()];
            let packed = Arc::new(PackedWeights::new(&pool, isa, &g, Pass::InputGradient, &w));
            if g.is_pointwise() || g.flips() {
                let (g, dy) = (g.of(Pass::InputGradient), (&*dy, output));
                convolve(&pool, &packed, &g, dy, (None, false), parallel, &mut found);
            } else {
                scatter(&pool, &packed, &g, (&dy, output), parallel, &mut found);
            }
            assert_near(&found, &dx, g.weight_len(), &format!("{isa}: dx"));

            let [x, w] = [(g.input_shape(), &x), (g.weight_shape(), &w)]
                .map(|(shape, data)| Tensor::from_slice(shape, data).unwrap());
            let layers = [Convolution { geometry: g, weight: &w, bias: None, relu: false }];
            let chain = Chain { layers: &layers, x: &x, outputs: &[] };
            let gradients = |weights| {
                let mut sums = [GradientSum::new(), GradientSum::new()];
                let sinks = &mut Sinks::new(&mut sums, &[Some(0), Some(1)]);
                let dx = chain::backward(&pool, isa, &chain, &[weights], (&dy, output), sinks);
                (dx, sums.map(|sum| sum.finish(&pool).unwrap()))
            };
            let (none, sums) = gradients(None);
            prop_assert!(none.is_none());
            if g.is_pointwise() {
                let (all, all_sums) = gradients(Some(packed));
                let all = all.unwrap();
                prop_assert_eq!(all.data(), &*found, "{}: dx at once", isa);
                prop_assert_eq!(&all_sums, &sums, "{}: all at once", isa);
            }
            let [found, sums] = [&sums[0], &sums[1]].map(Tensor::data);
            assert_near(found, &dw, g.n * g.out_pixels(), &format!("{isa}: dw"));
            assert_near(sums, &db, g.n * g.out_pixels(), &format!("{isa}: db"));
        }
    }
}

#[test]
fn packed_weights_are_refilled_for_both_passes() {
    let g = ConvGeometry {
        n: 2,
        c_in: 4,
        h: 7,
        w: 6,
        c_out: 6,
        kernel: [3, 3],
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 2,
    };
    let pool = BufferPool::new();
    let (x, w) = (random(g.input_len(), 1), random(g.weight_len(), 2));
    for isa in Isa::available() {
        let mut weights = PackedWeights::new(&pool, isa, &g, Pass::Forward, &vec![0.0; w.len()]);
        weights.refill(&g, Pass::Forward, &w);
        let (mut found, mut expected) = (vec![f32::NAN; g.output_len()], vec![f32::NAN; g.output_len()]);
        convolve(&pool, &weights, &g, (&x, None), (None, false), false, &mut found);
        naive::forward(&g, &x, &w, None, &mut expected);
        assert_near(&found, &expected, g.patch(), isa.name());
    }
}
