//! All passes, tiles and instruction sets against the naive loop, whose sums are in f64.

use proptest::prelude::*;

use super::*;
use crate::buffer_pool::BufferPool;
use crate::conv::reference::Case;
use crate::gemm::Epilogue;
use crate::rng::{Purpose, RandomStream};
use crate::simd::Isa;
use crate::sink::Deferred;

/// Standard normal numbers.
fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; len];
    RandomStream::new(seed, 0, Purpose::Other(9), 0).fill_normal(&mut values, 1.0);
    values
}

/// The rms of the difference over the rms of the expected values. NaN if any value is.
fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = square(&mut got.iter().zip(expected).map(|(&g, &e)| f64::from(g) - e));
    (error / square(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)).sqrt()
}

/// Weights for a pass of a convolution.
fn prepared(tile: Tile, pass: Pass, g: &ConvGeometry, w: &[f32], isa: Isa) -> DomainWeights {
    let mut weights = DomainWeights::new(BufferPool::global(), tile, &g.of(pass), isa);
    weights.transform(pass, w);
    weights
}

/// A convolution with a bias and perhaps a ReLU.
fn case(g: ConvGeometry, relu: bool, seed: u64) -> Case {
    Case::new(g, normal, seed, [true, relu])
}

/// Errors of the forward pass, the input gradient, the weight gradient and the bias gradient.
fn errors(case: &Case, tile: Tile, isa: Isa) -> [f64; 4] {
    let (g, pool) = (&case.g, BufferPool::poisoning());
    let [mut y, mut dx, mut dw, mut db] = case.places();
    let weights = prepared(tile, Pass::Forward, g, &case.w, isa);
    convolve(&pool, &weights, g, &case.x, case.epilogue(), false, &mut y);
    let weights = prepared(tile, Pass::InputGradient, g, &case.w, isa);
    convolve(&pool, &weights, &g.of(Pass::InputGradient), &case.dy, Epilogue::default(), false, &mut dx);
    let mut sum = WeightGradientAccumulator::new(BufferPool::global(), tile, g, isa);
    sum.accumulate(&pool, g, &case.x, &case.dy, Some(&mut db));
    sum.finish(&mut dw, false);
    let found = [y, dx, dw, db];
    std::array::from_fn(|pass| relative_error(&found[pass], &case.expected[pass]))
}

fn geometry(tile: Tile, n: usize, c: [usize; 2], size: [usize; 2], padding: [usize; 2]) -> ConvGeometry {
    let r = tile.kernel();
    // At least one output along each axis.
    let extent = |axis: usize| size[axis].max(r.saturating_sub(2 * padding[axis])).max(1);
    let (h, w) = (extent(0), extent(1));
    ConvGeometry::new([n, c[0], h, w].into(), [c[1], c[0], r, r].into(), [1; 2], padding, [1; 2], 1).unwrap()
}

/// The same in so many groups.
fn grouped(g: ConvGeometry, groups: usize) -> ConvGeometry {
    ConvGeometry { c_in: groups * g.c_in, c_out: groups * g.c_out, groups, ..g }
}

/// Square images, "same" padding.
fn same(tile: Tile, n: usize, c_in: usize, c_out: usize, size: usize) -> ConvGeometry {
    geometry(tile, n, [c_in, c_out], [size; 2], [tile.kernel() / 2; 2])
}

fn any_geometry() -> impl Strategy<Value = (Tile, ConvGeometry)> {
    let tile = prop::sample::select(Tile::ALL.to_vec());
    let sizes = (1usize..4, 1usize..40, 1usize..40, 1usize..24, 1usize..24, 0usize..5, 0usize..5);
    let geometry = |(tile, (n, c, o, h, w, p, q), groups): (Tile, _, usize)| {
        let r = tile.kernel();
        (tile, grouped(geometry(tile, n, [c, o], [h, w], [p % r, q % r]), groups))
    };
    let all = (tile, sizes, prop_oneof![3 => Just(1), 1 => 2usize..4]).prop_map(geometry);
    all.prop_filter("not depthwise", |(tile, g)| tile.supports(g))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Small sums may cancel, so that single geometries get some slack over the bound for typical ones.
    #[test]
    fn all_passes_equal_the_naive_loop((tile, g) in any_geometry(), relu: bool, seed in 0u64..1000) {
        let case = case(g, relu, seed);
        for isa in Isa::available() {
            let errors = errors(&case, tile, isa);
            let bound = 20.0 * tile.error_bound();
            prop_assert!(errors.iter().all(|&e| e < bound), "{tile:?} on {isa}: {errors:?} for {g:?}");
        }
    }
}

/// The stated error bounds, on sizes like the network's.
#[test]
fn rms_errors_stay_below_the_stated_bounds() {
    for tile in Tile::ALL {
        let case = case(same(tile, 2, 64, 48, 17), false, 11);
        for isa in Isa::available() {
            let errors = errors(&case, tile, isa);
            let [y, dx, dw, db] = errors;
            println!("{tile:?} on {isa}: {y:.1e} forward, {dx:.1e} input, {dw:.1e} weight, {db:.1e} bias");
            assert!(errors.iter().all(|&e| e < tile.error_bound()), "{tile:?} on {isa}: {errors:?}");
        }
    }
}

/// Blocks that start inside rows and span images: more tiles than one block holds. Many channels on one side alone make blocks
/// small, of a pass whose inputs they are and of the weights' gradient, for the fewest products.
#[test]
fn many_blocks_equal_the_naive_loop() {
    for (tile, n, size) in
        [(Tile::F5x5K5x5, 7, 30), (Tile::F4x4K5x5, 4, 29), (Tile::F6x6K3x3, 29, 17), (Tile::F4x4K3x3, 2, 61)]
    {
        for [c_in, c_out] in [[130, 5], [5, 130]] {
            let g = same(tile, n, c_in, c_out, size);
            assert!(weight_gradient::blocks(tile, &g) > 1, "{tile:?}");
            let case = case(g, true, 3);
            for isa in Isa::available() {
                let errors = errors(&case, tile, isa);
                let bound = 2.0 * tile.error_bound();
                assert!(errors.iter().all(|&e| e < bound), "{tile:?} on {isa}: {errors:?}");
            }
        }
    }
}

/// A NaN in the input reaches the output through ReLU.
#[test]
fn relu_lets_nan_through() {
    let g = same(Tile::F4x4K3x3, 1, 3, 4, 6);
    let mut case = case(g, false, 5);
    case.x[0] = f32::NAN;
    for isa in Isa::available() {
        let weights = prepared(Tile::F4x4K3x3, Pass::Forward, &g, &case.w, isa);
        let mut y = vec![0.0; g.output_len()];
        convolve(
            &BufferPool::new(),
            &weights,
            &g,
            &case.x,
            Epilogue { relu: true, bias: None },
            false,
            &mut y,
        );
        assert!(y[0].is_nan());
    }
}

/// Two micro-batches into one sum and one call over all images: the same gradient; `finish` can add, and empties.
#[test]
fn sums_over_micro_batches_add_up() {
    for tile in [Tile::F4x4K5x5, Tile::F5x5K5x5] {
        micro_batches_add_up(tile);
    }
}

fn micro_batches_add_up(tile: Tile) {
    let whole = same(tile, 3, 18, 35, 11);
    let case = case(whole, true, 7);
    let (first, rest) = (ConvGeometry { n: 1, ..whole }, ConvGeometry { n: 2, ..whole });
    let (x, dy) = (case.x.split_at(first.input_len()), case.dy.split_at(first.output_len()));
    let expected = &case.expected[2];
    for isa in Isa::available() {
        let pool = BufferPool::poisoning();
        let mut sum = WeightGradientAccumulator::new(BufferPool::global(), tile, &whole, isa);
        let mut dw = vec![f32::NAN; whole.weight_len()];
        sum.finish(&mut dw, false);
        assert!(dw.iter().all(|&v| v == 0.0), "a sum of nothing is zero");
        let mut dw = vec![f32::NAN; whole.weight_len()];
        sum.accumulate(&pool, &first, x.0, dy.0, None);
        sum.accumulate(&pool, &rest, x.1, dy.1, None);
        sum.finish(&mut dw, false);
        assert!(relative_error(&dw, expected) < tile.error_bound());
        sum.accumulate(&pool, &first, x.0, dy.0, None);
        sum.accumulate(&pool, &rest, x.1, dy.1, None);
        // Into the first gradient once more: twice the sum.
        sum.finish(&mut dw, true);
        let twice: Vec<f64> = expected.iter().map(|v| 2.0 * v).collect();
        assert!(relative_error(&dw, &twice) < tile.error_bound());
    }
}

/// One, two and five threads, more and fewer images than threads: the same bits as serial.
#[test]
fn threads_do_not_change_a_bit() {
    let tiles = [Tile::F4x4K5x5, Tile::F5x5K5x5];
    let sizes = [(1, 200), (1, 7), (2, 40), (7, 33)];
    for (tile, (n, c_out)) in tiles.into_iter().flat_map(|tile| sizes.map(|size| (tile, size))) {
        let g = grouped(same(tile, n, 20, c_out, 14), 1 + n % 2);
        let case = case(g, true, 9);
        let (isa, pool) = (Isa::best(), BufferPool::poisoning());
        let weights = prepared(tile, Pass::Forward, &g, &case.w, isa);
        let (flipped, back) =
            (prepared(tile, Pass::InputGradient, &g, &case.w, isa), g.of(Pass::InputGradient));
        let run = |parallel: bool| {
            let (mut y, mut dx) = (vec![f32::NAN; g.output_len()], vec![f32::NAN; g.input_len()]);
            convolve(&pool, &weights, &g, &case.x, case.epilogue(), parallel, &mut y);
            convolve(&pool, &flipped, &back, &case.dy, Epilogue::default(), parallel, &mut dx);
            (y, dx)
        };
        let serial = run(false);
        assert!(serial.0.iter().chain(&serial.1).all(|v| v.is_finite()));
        for threads in [1, 2, 5] {
            let workers = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            assert!(
                workers.install(|| run(true)) == serial,
                "{tile:?}: {threads} threads, {n} images, {c_out} channels"
            );
        }
    }
}

/// No images, no work, no panic: the gradient of nothing is zero.
#[test]
fn an_empty_batch_is_nothing() {
    let g = same(Tile::F4x4K3x3, 0, 3, 4, 6);
    let (pool, isa, w) = (BufferPool::new(), Isa::best(), vec![1.0; g.weight_len()]);
    let weights = prepared(Tile::F4x4K3x3, Pass::Forward, &g, &w, isa);
    convolve(&pool, &weights, &g, &[], Epilogue::default(), true, &mut []);
    let mut sum = WeightGradientAccumulator::new(BufferPool::global(), Tile::F4x4K3x3, &g, isa);
    sum.accumulate(&pool, &g, &[], &[], None);
    let mut dw = vec![f32::NAN; w.len()];
    sum.finish(&mut dw, false);
    assert!(dw.iter().all(|&v| v == 0.0));
}
