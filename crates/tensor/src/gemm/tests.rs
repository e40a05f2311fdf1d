//! The blocked products against a sum in f64: every instruction set, odd sizes, NaN wherever nothing may be read.

use std::sync::Arc;

use proptest::prelude::*;

use super::reference::{assert_close, naive_gemm, random};
use super::*;
use crate::buffer_pool::BufferPool;
use crate::simd::Isa;
use crate::simd::tests::is_fused;

/// [`gemm`] of all columns.
fn whole_gemm(
    pool: &Arc<BufferPool>,
    a: &PackedA,
    b: &impl Operand,
    epilogue: Epilogue<'_>,
    c: &mut Output<'_>,
    parallel: bool,
) {
    gemm(pool, a, (b, 0..b.extent()), epilogue, (c, 0), parallel);
}

/// A batch of N x C x P numbers with a channel left out.
struct Batch {
    data: Vec<f32>,
    images: usize,
    channels: usize,
    pixels: usize,
    stride: usize,
}

impl Batch {
    fn new(images: usize, channels: usize, pixels: usize, seed: u64) -> Self {
        let stride = (channels + 1) * pixels;
        Self { data: random(images * stride, seed), images, channels, pixels, stride }
    }

    fn planes(&self) -> ChannelPlanes<'_> {
        ChannelPlanes {
            data: &self.data,
            images: self.images,
            channels: self.channels,
            pixels: self.pixels,
            image_stride: self.stride,
        }
    }

    fn at(&self, channel: usize, position: usize) -> f32 {
        self.data[position / self.pixels * self.stride + channel * self.pixels + position % self.pixels]
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn packed_product_over_images(
        m in 1usize..30, images in 1usize..4, pixels in 1usize..90, k in prop_oneof![0usize..40, 250usize..600],
        biased: bool, relu: bool, threads in 1usize..6,
    ) {
        let pool = BufferPool::poisoning();
        let weights = random(m * k, 1);
        let bias = random(m, 2);
        let b = Batch::new(images, k, pixels, 3);
        let stride = m * pixels + 5;
        let len = (images - 1) * stride + m * pixels;
        let before = vec![f32::NAN; len];
        let start = |i: usize, _| if biased { bias[i] } else { 0.0 };
        let sums = naive_gemm((m, images * pixels, k), |i, p| weights[i * k + p], |p, j| b.at(p, j), start);
        let expected: Vec<f64> = sums.into_iter().map(|sum| if relu { sum.max(0.0) } else { sum }).collect();
        let mut fused = Vec::new();
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for isa in Isa::available() {
            let a = PackedA::new(&pool, isa, &Elements { extent: m, k, at: |i, p| weights[i * k + p] });
            let epilogue = Epilogue { bias: biased.then_some(&bias), relu };
            let product = |parallel| {
                let mut c = before.clone();
                let mut output = Output::planes(&mut c, m, pixels, [images, pixels, stride]);
                let product = || whole_gemm(&pool, &a, &b.planes().by(By::Position), epilogue, &mut output, parallel);
                threads.install(product);
                c
            };
            let c = product(false);
            for i in 0..m {
                for image in 0..images {
                    let found = &c[image * stride + i * pixels..][..pixels];
                    let expected = &expected[i * images * pixels + image * pixels..][..pixels];
                    assert_close(found, expected, k, &format!("{isa}, image {image}, row {i}"));
                }
            }
            prop_assert_eq!(bits(&c), bits(&product(true)), "{}: threads change bits", isa);
            for image in 1..images {
                let gap = (image - 1) * stride + m * pixels..image * stride;
                prop_assert_eq!(bits(&c[gap.clone()]), bits(&before[gap]), "{} wrote between images", isa);
            }
            if is_fused(isa) {
                fused.push(bits(&c));
            }
        }
        prop_assert!(fused.windows(2).all(|pair| pair[0] == pair[1]), "instruction sets differ in bits");
    }

    /// Three stages are the products one after the other; a first block that is mostly zeros gives the bits of any other.
    #[test]
    fn a_pass_backward_is_its_products_one_after_the_other(
        sizes in [1usize..100, 1usize..60, 1usize..300], images in 1usize..4,
        pixels in prop_oneof![1usize..40, 200usize..400], zeros in 0u8..4, accumulate: bool, masked: bool,
    ) {
        let pool = BufferPool::poisoning();
        let [m, n, l] = sizes;
        let mut a = Batch::new(images, m, pixels, 1);
        let draws = random(a.data.len(), 9);
        for (value, draw) in a.data.iter_mut().zip(draws) {
            // From 0 none to 3 nearly all.
            *value = if draw > 1.0 - 0.65 * f32::from(zeros) { 0.0 } else { *value };
        }
        let inputs = [Batch::new(images, n, pixels, 3), Batch::new(images, l, pixels, 5)];
        let w: Vec<f32> = random(m * n, 7);
        let k = images * pixels;
        for isa in Isa::available() {
            let weights = PackedA::new(&pool, isa, &ChannelPlanes::matrix(&w, m, n).by(By::Position));
            let start = if accumulate { 1.0 } else { f32::NAN };
            let operands = inputs.each_ref().map(|input| input.planes().by(By::Element));
            let [mut first, mut second, mut dx] = [vec![start; m * n + m], vec![start; n * l + n], vec![f32::NAN; n * k]];
            let (dw, db) = first.split_at_mut(m * n);
            let (dw2, db2) = second.split_at_mut(n * l);
            let mask = inputs[0].planes();
            let mut stages = [
                Stage { input: &operands[0], dw, db: Some(db), weights: Some((&weights, &w)), relu_mask: masked.then_some(mask) },
                Stage { input: &operands[1], dw: dw2, db: Some(db2), weights: None, relu_mask: None },
            ];
            gemm_backward(&pool, isa, &a.planes(), &mut stages, accumulate, None);

            // One layer at a time, with the input's gradient where the pass had none to give.
            let mut alone = vec![start; m * n + m];
            let (dw, db) = alone.split_at_mut(m * n);
            let mut out = Output::planes(&mut dx, n, pixels, [images, pixels, n * pixels]);
            let stage = Stage { input: &operands[0], dw, db: Some(db), weights: Some((&weights, &w)), relu_mask: None };
            gemm_backward(&pool, isa, &a.planes(), &mut [stage], accumulate, Some(&mut out));
            prop_assert_eq!(bits(&first), bits(&alone), "{}: the first layer", isa);
            let mut product = vec![f32::NAN; n * k];
            let mut out = Output::planes(&mut product, n, pixels, [images, pixels, n * pixels]);
            whole_gemm(&pool, &weights, &a.planes().by(By::Position), Epilogue::default(), &mut out, false);
            prop_assert_eq!(bits(&dx), bits(&product), "{}: the gradient passed on", isa);

            // The mask lies in memory with a channel between images that the gradient does not have.
            let planes = (0..images).flat_map(|i| &inputs[0].data[i * inputs[0].stride..][..n * pixels]);
            dx.iter_mut().zip(planes).filter(|&(_, &y)| masked && y <= 0.0).for_each(|(dx, _)| *dx = 0.0);
            let passed = ChannelPlanes { data: &dx, images, channels: n, pixels, image_stride: n * pixels };
            let mut alone = vec![start; n * l + n];
            let (dw, db) = alone.split_at_mut(n * l);
            let stage = Stage { input: &operands[1], dw, db: Some(db), weights: None, relu_mask: None };
            gemm_backward(&pool, isa, &passed, &mut [stage], accumulate, None);
            prop_assert_eq!(bits(&second), bits(&alone), "{}: the second layer", isa);

            let old = |_: usize, _: usize| if accumulate { 1.0 } else { 0.0 };
            let expected = naive_gemm((m, n, k), |i, p| a.at(i, p), |p, j| inputs[0].at(j, p), old);
            let expected_sums = naive_gemm((m, 1, k), |i, p| a.at(i, p), |_, _| 1.0, old);
            assert_close(&first[..m * n], &expected, k, isa.name());
            assert_close(&first[m * n..], &expected_sums, k, isa.name());
        }
    }

    #[test]
    fn an_element_does_not_depend_on_its_place(m in 1usize..20, n in 2usize..120, k in 1usize..300, cut in 1usize..119) {
        let pool = BufferPool::poisoning();
        let cut = cut.min(n - 1);
        let (a, b) = (random(m * k, 1), random(k * n, 2));
        for isa in Isa::available() {
            let packed = |rows: std::ops::Range<usize>| {
                let a = &a;
                let at = move |i: usize, p: usize| a[(rows.start + i) * k + p];
                PackedA::new(&pool, isa, &Elements { extent: rows.end - rows.start, k, at })
            };
            let mut whole = vec![f32::NAN; m * n];
            let operand = ChannelPlanes::matrix(&b, k, n).by(By::Position);
            whole_gemm(&pool, &packed(0..m), &operand, Epilogue::default(), &mut Output::matrix(&mut whole, m, n, n), false);
            let right: Vec<f32> = (0..k).flat_map(|p| b[p * n + cut..(p + 1) * n].to_vec()).collect();
            let mut part = vec![f32::NAN; n - cut];
            let operand = ChannelPlanes::matrix(&right, k, n - cut).by(By::Position);
            let mut output = Output::matrix(&mut part, 1, n - cut, n - cut);
            whole_gemm(&pool, &packed(m - 1..m), &operand, Epilogue::default(), &mut output, false);
            prop_assert_eq!(bits(&part), bits(&whole[(m - 1) * n + cut..]), "{}", isa);
        }
    }
}

/// Each refuses with a message, in builds without overflow checks, too, where sizes wrap around to those of the slices.
#[test]
fn sizes_that_cannot_be_counted_are_refused() {
    let message = |call: &dyn Fn()| {
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).expect_err("must panic");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let product = |a, b, c| {
        gemm_strided(Isa::best(), [4; 3], (&[0.0; 16], a), (&[0.0; 16], b), (&mut [0.0; 16], c), false);
    };
    for strides in
        [[usize::MAX, 1], [usize::MAX / 2 + 1, 1], [1, usize::MAX], [usize::MAX / 3 + 1, usize::MAX]]
    {
        let found = message(&|| product(strides, 4, 4));
        assert!(found.contains("A is too short"), "{found}");
    }
    for stride in [usize::MAX, usize::MAX / 3 + 1, usize::MAX / 2 + 1] {
        for (call, expected) in [
            (&(|| product([4, 1], stride, 4)) as &dyn Fn(), "B is too short"),
            (&|| product([4, 1], 4, stride), "C is too short"),
            (&|| _ = Output::planes(&mut [0.0; 16], 4, stride, [1, 4, 16]), "C needs"),
            (&|| _ = Output::planes(&mut [0.0; 16], 1, 4, [4, 4, stride]), "C needs"),
        ] {
            let found = message(call);
            assert!(found.contains(expected), "{found}");
        }
    }
    // What the images of one output have between them is more than the slice is long.
    let found = message(&|| _ = Output::planes(&mut [0.0; 8 * 48], 8, 48, [2, 48, 1 << 12]));
    assert!(found.contains("C needs Some(4480) elements, the slice has 384"), "{found}");
}
