//! Every algorithm that can be asked for, through the op as the networks use it, against the naive loop in f64: random
//! geometries, all passes, storage that begins as NaN. The algorithms' own tests go further into each: instruction sets,
//! threads, accumulation.

use proptest::prelude::*;

use super::reference::{geometries, passes, widened};
use super::*;
use crate::buffer_pool::BufferPool;
use crate::op::Op;
use crate::ops::Conv2d;
use crate::shape::Shape;
use crate::sink::GradientSum;
use crate::testing::{poisoned, random};

/// Any sizes, two that were computed wrongly once, and one whose weight gradient has a tile of its own.
fn sizes() -> impl Strategy<Value = ConvGeometry> {
    let once = |x: [usize; 4], w: [usize; 4], padding, groups| {
        Just(ConvGeometry::new(x.into(), w.into(), [1; 2], padding, [1; 2], groups).unwrap())
    };
    prop_oneof![
        20 => geometries([1..3, 1..18, 1..18], [1..13, 1..13]),
        1 => once([1, 1, 3, 1], [1, 1, 3, 3], [0, 1], 1),
        1 => once([1, 4, 1, 1], [2, 2, 3, 3], [1, 1], 2),
        1 => once([2, 64, 17, 17], [64, 64, 3, 3], [1, 1], 1),
    ]
}

/// The root of the mean square of the differences, as a share of what sums of this many products of numbers in [-1, 1) come to.
/// NaN if anything is.
fn error(found: &Tensor<f32>, expected: &[f64], terms: usize) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares: f64 = found.data().iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).powi(2)).sum();
    (squares / expected.len() as f64).sqrt() / ((terms as f64).sqrt() / 3.0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_algorithm_agrees_with_the_naive_loop(
        g in sizes(), seed in 0u64..1000, biased: bool, relu: bool, parallel: bool,
    ) {
        let numbers = |shape: Shape, stream| random(shape, 10 * seed + stream).cast::<f32>();
        let [x, dy, bias] =
            [numbers(g.input_shape(), 1), numbers(g.output_shape(), 2), numbers([g.c_out].into(), 3)];
        let op = Conv2d { stride: g.stride, padding: g.padding, dilation: g.dilation, groups: g.groups, relu };
        let wanted = vec![true; if biased { 3 } else { 2 }];
        // What the loop says of the last output gradient.
        let mut said = (Vec::new(), Vec::new());
        for conv in ConvAlgorithm::ASKED {
            let context = Context { conv, parallel, ..poisoned() };
            let bound = match choose::<f32>(&g, conv) {
                ConvAlgorithm::Winograd(Some(tile)) => 20.0 * tile.error_bound(),
                _ => 2e-6,
            };
            // Other weights first: what is packed or transformed of them must not outlive them. No one else holds these.
            let mut w = numbers(g.weight_shape(), 4);
            let inputs = |w: &Tensor<f32>| [x.clone(), w.clone()].into_iter().chain(biased.then(|| bias.clone()));
            let (old, saved) = op.forward(&context, inputs(&w).collect());
            op.gradients(&context, saved, old, &wanted);
            prop_assert!(w.is_unique(), "what is kept beside the weights is made again in its place");
            w.data_mut().iter_mut().for_each(|w| *w = 0.25 - *w);

            let (y, saved) = op.forward(&context, inputs(&w).collect());
            let [wide_x, wide_w, mut wide_dy, wide_bias] = [&x, &w, &dy, &bias].map(|all| widened(all.data()));
            // The gradient passes where the output found is above 0: rounding may decide it differently next to 0.
            if relu {
                wide_dy.iter_mut().zip(y.data()).filter(|&(_, &y)| y <= 0.0).for_each(|(dy, _)| *dy = 0.0);
            }
            let gradients = op.gradients(&context, saved, dy.clone(), &wanted);
            let found = std::iter::once(&y).chain(gradients.iter().flatten());
            if said.0 != wide_dy || said.1.is_empty() {
                let expected = passes(&g, [&wide_x, &wide_w, &wide_dy], (biased.then_some(&*wide_bias), relu));
                said = (wide_dy, expected.into_iter().collect());
            }
            let expected = &said.1;
            let terms = [g.patch() + 1, g.weight_len() / g.c_in, g.n * g.out_pixels(), g.n * g.out_pixels()];
            let all = found.zip(expected).zip(terms);
            let errors: Vec<_> = all.map(|((found, expected), terms)| error(found, expected, terms)).collect();
            prop_assert_eq!(errors.len(), 1 + wanted.len());
            prop_assert!(errors.iter().all(|&e| e < bound), "{conv}: {errors:?}, bound {bound:.1e}, for {g:?}");
        }
    }
}

fn numbers(shape: impl Into<Shape>, step: usize) -> Tensor<f32> {
    Tensor::from_fn(shape, |i| (i * step % 23) as f32 / 23.0 - 0.4)
}

/// Sums that are kept from micro-batch to micro-batch are added to in the Winograd domain, and leave it once.
#[test]
fn micro_batches_summed_in_the_winograd_domain_are_the_sum_of_their_gradients() {
    let (w, b) = (numbers([32, 16, 3, 3], 5), numbers([32], 3));
    let op = Conv2d { padding: [1, 1], relu: true, ..Conv2d::default() };
    let context = Context { conv: ConvAlgorithm::Winograd(None), ..poisoned() };
    let mut kept = [GradientSum::new(), GradientSum::new()];
    let mut expected = [&w, &b].map(|parameter| Tensor::<f32>::full(parameter.shape(), 1.0));
    for micro_batch in 1..4 {
        let x = numbers([2, 16, 9, 9], micro_batch);
        let dy = numbers([2, 32, 9, 9], micro_batch + 7);
        let saved = || op.forward(&context, vec![x.clone(), w.clone(), b.clone()]).1;
        let mut sinks = Sinks::new(&mut kept, &[None, Some(0), Some(1)]);
        op.backward(&context, saved(), dy.clone(), &mut sinks);
        assert!(sinks.get(1).unwrap().is_deferred() && !sinks.get(2).unwrap().is_deferred());
        let alone = op.gradients(&context, saved(), dy, &[false, true, true]);
        for (sum, alone) in expected.iter_mut().zip(&alone[1..]) {
            sum.add_assign(alone.as_ref().unwrap());
        }
    }
    for (sum, expected) in kept.into_iter().zip(expected) {
        let mut found = Tensor::full(expected.shape(), 1.0);
        sum.write_to(&mut found, true);
        for (found, expected) in found.data().iter().zip(expected.data()) {
            assert!((found - expected).abs() < 1e-3, "{found}, expected {expected}");
        }
    }
}

/// The channels of group `group` of `groups`, of images or, as a single image, of parameters.
fn channels_of(tensor: &Tensor<f32>, images: usize, [group, groups]: [usize; 2]) -> Tensor<f32> {
    let own = tensor.len() / images / groups;
    let at = |i: usize| tensor.data()[(i / own * groups + group) * own + i % own];
    let mut shape = tensor.shape().to_vec();
    shape[usize::from(images > 1)] /= groups;
    Tensor::from_fn(Shape::from(&*shape), at)
}

/// What computes has checks of its own, beside those of `forward`.
#[test]
fn tensors_that_are_too_small_are_a_panic_in_every_algorithm() {
    let fitting: [&[usize]; 5] = [&[2, 16, 9, 9], &[32, 16, 3, 3], &[32], &[24, 32, 1, 1], &[24]];
    let smaller: [&[usize]; 5] = [&[2, 16, 9, 8], &[32, 15, 3, 3], &[31], &[24, 31, 1, 1], &[23]];
    let geometry = |x: [usize; 4], w: &[usize], padding| {
        ConvGeometry::new(x.into(), Shape::new(w), [1; 2], [padding; 2], [1; 2], 1).unwrap()
    };
    let [wide, pointwise] = [geometry([2, 16, 9, 9], fitting[1], 1), geometry([2, 32, 9, 9], fitting[3], 0)];
    let computes = |context: &Context, shapes: [&[usize]; 5]| {
        let [x, w, b, next_w, next_b] = shapes.map(|shape| Tensor::<f32>::zeros(Shape::new(shape)));
        let layer = |geometry, weight, bias| {
            let algorithm = choose::<f32>(&geometry, context.conv);
            Convolution { geometry, algorithm, weight, bias: Some(bias), relu: true }
        };
        let layers = [layer(wide, &w, &b), layer(pointwise, &next_w, &next_b)];
        let work = || {
            let (mut left, mut x) = (&layers[..], x.clone());
            while !left.is_empty() {
                let (outputs, count) = f32::forward(context, left, &x, false);
                (left, x) = (&left[count..], outputs.into_iter().last().unwrap());
            }
        };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_ok()
    };
    for conv in ConvAlgorithm::ASKED {
        for parallel in [false, true] {
            let context = Context { conv, parallel, ..poisoned() };
            assert!(computes(&context, fitting));
            for wrong in 0..5 {
                let mut shapes = fitting;
                shapes[wrong] = smaller[wrong];
                assert!(!computes(&context, shapes), "{conv}, parallel {parallel}: {:?}", smaller[wrong]);
            }
        }
    }
}

/// Groups are convolutions of their own: the same algorithm, the same bits, in every pass and on any number of threads.
#[test]
fn a_group_is_computed_as_a_dense_convolution_of_its_size() {
    for (kernel, stride, padding, expected) in [
        (3, 1, 1, ConvAlgorithm::Winograd(Some(Tile::F4x4K3x3))),
        (5, 1, 2, ConvAlgorithm::Winograd(Some(Tile::F5x5K5x5))),
        (3, 2, 1, ConvAlgorithm::Direct),
        (1, 1, 0, ConvAlgorithm::Direct),
    ] {
        let op = |groups| Conv2d {
            stride: [stride; 2],
            padding: [padding; 2],
            relu: true,
            groups,
            ..Conv2d::default()
        };
        let (x, w) = (numbers([2, 96, 15, 15], 5), numbers([160, 24, kernel, kernel], 7));
        let (b, g) = (numbers([160], 3), op(4).geometry(x.shape(), w.shape()).unwrap());
        let dy = numbers(g.output_shape(), 11);
        let all = |context: &Context, groups, inputs: [&Tensor<f32>; 3], dy: &Tensor<f32>| {
            let (y, saved) = op(groups).forward(context, inputs.map(Tensor::clone).to_vec());
            let gradients = op(groups).gradients(context, saved, dy.clone(), &[true; 3]);
            (y, gradients.into_iter().map(Option::unwrap).collect::<Vec<_>>())
        };
        assert_eq!(choose::<f32>(&g, ConvAlgorithm::Auto), expected);
        let context = Context { conv: ConvAlgorithm::Auto, ..poisoned() };
        let (y, gradients) = all(&context, 4, [&x, &w, &b], &dy);
        for group in 0..4 {
            let [x, dy, y] = [&x, &dy, &y].map(|maps| channels_of(maps, 2, [group, 4]));
            let [w, b] = [&w, &b].map(|parameter| channels_of(parameter, 1, [group, 4]));
            let dense = op(1).geometry(x.shape(), w.shape()).unwrap();
            assert_eq!(choose::<f32>(&dense, ConvAlgorithm::Auto), expected);
            let images = [2, 1, 1];
            let own = gradients.iter().zip(images).map(|(gradient, n)| channels_of(gradient, n, [group, 4]));
            assert!(
                (y, own.collect::<Vec<_>>()) == all(&context, 1, [&x, &w, &b], &dy),
                "{expected}, group {group}"
            );
        }
        for threads in [1, 2, 5] {
            let workers = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let context = Context { parallel: true, ..context.clone() };
            let parallel = workers.install(|| all(&context, 4, [&x, &w, &b], &dy));
            assert!(parallel == (y.clone(), gradients.clone()), "{expected}, {threads} threads");
        }
    }
}

/// The random geometries above would prove little if they never came to an algorithm.
#[test]
fn every_algorithm_is_chosen_when_asked_for() {
    let g =
        ConvGeometry::new([2, 16, 12, 12].into(), [16, 16, 3, 3].into(), [1; 2], [1; 2], [1; 2], 1).unwrap();
    assert_eq!(choose::<f32>(&g, ConvAlgorithm::Naive), ConvAlgorithm::Naive);
    assert_eq!(choose::<f32>(&g, ConvAlgorithm::Im2col), ConvAlgorithm::Im2col);
    assert_eq!(choose::<f32>(&g, ConvAlgorithm::Direct), ConvAlgorithm::Direct);
    assert!(matches!(choose::<f32>(&g, ConvAlgorithm::Winograd(None)), ConvAlgorithm::Winograd(Some(_))));
    for path in ConvAlgorithm::ASKED {
        assert!(matches!(choose::<f64>(&g, path), ConvAlgorithm::Naive | ConvAlgorithm::Im2col), "{path}");
        assert_eq!(path.to_string().parse(), Ok(path));
    }
    let error = "fft".parse::<ConvAlgorithm>().unwrap_err().to_string();
    assert_eq!(error, "expected auto, naive, im2col, direct or winograd, found \"fft\"");
}

/// Tiles are for many images, whether there are any for few; the image at hand does not matter.
#[test]
fn the_choice_counts_with_images_of_its_own() {
    let square = |n, c_in, size, c_out| {
        let (x, weight) = ([n, c_in, size, size], [c_out, c_in, 3, 3]);
        ConvGeometry::new(x.into(), weight.into(), [1; 2], [1; 2], [1; 2], 1).unwrap()
    };
    for n in [1, 4, 100] {
        let chosen = |c_in, size, c_out| choose::<f32>(&square(n, c_in, size, c_out), ConvAlgorithm::Auto);
        assert_eq!(chosen(256, 12, 384), ConvAlgorithm::Winograd(Some(Tile::F6x6K3x3)));
        assert_eq!(chosen(512, 4, 512), ConvAlgorithm::Direct);
    }
}

#[test]
fn a_weight_gradient_has_the_tile_of_its_sums_unless_one_is_asked_for() {
    let g =
        ConvGeometry::new([9, 64, 17, 17].into(), [64, 64, 3, 3].into(), [1; 2], [1; 2], [1; 2], 1).unwrap();
    let both = |asked| [choose::<f32>(&g, asked), choose_gradient::<f32>(&g, asked)];
    let [large, small] = [Tile::F6x6K3x3, Tile::F4x4K3x3].map(|tile| ConvAlgorithm::Winograd(Some(tile)));
    assert_eq!(both(ConvAlgorithm::Auto), [large, small]);
    for asked in [ConvAlgorithm::Winograd(None), ConvAlgorithm::Direct, ConvAlgorithm::Naive] {
        assert_eq!(choose::<f32>(&g, asked), choose_gradient::<f32>(&g, asked));
    }
}

/// A weight and the same numbers in another shape share their storage, with the packed forms that it keeps.
#[test]
fn a_reshaped_weight_is_packed_anew() {
    let context = Context::evaluation(BufferPool::poisoning());
    let w = Tensor::from_fn([16, 32, 3, 3], |index| (index % 7) as f32 - 3.0);
    let turned = w.clone().reshape([32, 16, 3, 3]).unwrap();
    let forward = |context: &Context, weight: &Tensor<f32>| {
        let x = Tensor::from_fn([1, weight.shape()[1], 9, 9], |index| (index % 5) as f32 - 2.0);
        Conv2d { padding: [1; 2], ..Conv2d::default() }.forward(context, vec![x, weight.clone()]).0
    };
    for conv in [ConvAlgorithm::Direct, ConvAlgorithm::Winograd(None)] {
        let context = Context { conv, ..context.clone() };
        for weight in [&w, &turned] {
            let fresh = Tensor::from_fn(weight.shape(), |index| w.data()[index]);
            assert_eq!(forward(&context, weight), forward(&context, &fresh), "{conv}");
        }
    }
}
