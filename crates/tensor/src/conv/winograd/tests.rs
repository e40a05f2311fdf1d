//! All passes, tiles and instruction sets against the naive loop, whose sums are in f64.

use proptest::prelude::*;

use super::*;
use crate::buffer_pool::BufferPool;
use crate::conv::naive;
use crate::simd::Isa;
use crate::sink::Deferred;

/// Standard normal numbers (Box and Muller) from a small generator.
fn normal(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..len)
        .map(|_| ((-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()) as f32)
        .collect()
}

/// The rms of the difference over the rms of the expected values. NaN if any value is.
fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let error = square(&mut got.iter().zip(expected).map(|(&g, &e)| f64::from(g) - e));
    (error / square(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)).sqrt()
}

fn widened(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// Weights for a pass of a convolution.
fn prepared(tile: Tile, pass: Pass, g: &ConvGeometry, w: &[f32], isa: Isa) -> DomainWeights {
    let mut weights = DomainWeights::new(BufferPool::global(), tile, &g.of(pass), isa);
    weights.transform(pass, w);
    weights
}

/// Everything a convolution takes, random, with the mask of a ReLU.
struct Case {
    g: ConvGeometry,
    x: Vec<f32>,
    w: Vec<f32>,
    bias: Vec<f32>,
    dy: Vec<f32>,
    mask: Option<Vec<f32>>,
}

impl Case {
    fn new(g: ConvGeometry, masked: bool, seed: u64) -> Self {
        Self {
            x: normal(g.input_len(), seed),
            w: normal(g.weight_len(), seed + 1),
            bias: normal(g.c_out, seed + 2),
            dy: normal(g.output_len(), seed + 3),
            mask: masked.then(|| normal(g.output_len(), seed + 4)),
            g,
        }
    }

    /// The output gradient as f64, zero where the mask is not positive.
    fn masked_dy(&self) -> Vec<f64> {
        let keep = |i: usize| self.mask.as_ref().is_none_or(|mask| mask[i] > 0.0);
        self.dy.iter().enumerate().map(|(i, &v)| if keep(i) { f64::from(v) } else { 0.0 }).collect()
    }

    /// Errors of the forward pass, the input gradient, the weight gradient and the bias gradient.
    fn errors(&self, tile: Tile, isa: Isa) -> [f64; 4] {
        let g = &self.g;
        let pool = BufferPool::poisoning();
        let (x, w, bias, dy) = (widened(&self.x), widened(&self.w), widened(&self.bias), self.masked_dy());
        let mask = self.mask.as_deref();

        let weights = prepared(tile, Pass::Forward, g, &self.w, isa);
        let mut y = vec![f32::NAN; g.output_len()];
        convolve(&pool, &weights, g, (&self.x, None), (Some(&self.bias), false), false, &mut y);
        let mut expected = vec![f64::NAN; y.len()];
        naive::forward(g, &x, &w, Some(&bias), &mut expected);
        let of_output = relative_error(&y, &expected);

        let weights = prepared(tile, Pass::InputGradient, g, &self.w, isa);
        let mut dx = vec![f32::NAN; g.input_len()];
        convolve(
            &pool,
            &weights,
            &g.of(Pass::InputGradient),
            (&self.dy, mask),
            (None, false),
            false,
            &mut dx,
        );
        let mut expected = vec![f64::NAN; dx.len()];
        naive::input_gradient(g, &dy, &w, &mut expected);
        let of_input = relative_error(&dx, &expected);

        let mut sum = WeightGradientAccumulator::new(BufferPool::global(), tile, g, isa);
        let (mut dw, mut db) = (vec![f32::NAN; g.weight_len()], vec![f32::NAN; g.c_out]);
        sum.accumulate(&pool, g, &self.x, (&self.dy, mask), Some(&mut db));
        sum.finish(&mut dw, false);
        let mut expected = vec![f64::NAN; dw.len()];
        naive::weight_gradient(g, &x, &dy, &mut expected);
        let of_weight = relative_error(&dw, &expected);

        let mut expected = vec![0.0; g.c_out];
        for (plane, dy) in dy.chunks_exact(g.out_pixels()).enumerate() {
            expected[plane % g.c_out] += dy.iter().sum::<f64>();
        }
        [of_output, of_input, of_weight, relative_error(&db, &expected)]
    }
}

fn geometry(tile: Tile, n: usize, c: [usize; 2], size: [usize; 2], padding: [usize; 2]) -> ConvGeometry {
    let r = tile.kernel();
    // At least one output along each axis.
    let extent = |axis: usize| size[axis].max(r.saturating_sub(2 * padding[axis])).max(1);
    let (h, w) = (extent(0), extent(1));
    let [c_in, c_out] = c;
    ConvGeometry {
        n,
        c_in,
        h,
        w,
        c_out,
        kernel: [r, r],
        stride: [1; 2],
        padding,
        dilation: [1; 2],
        groups: 1,
    }
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
    fn all_passes_equal_the_naive_loop((tile, g) in any_geometry(), masked: bool, seed in 0u64..1000) {
        let case = Case::new(g, masked, seed);
        for isa in Isa::available() {
            let errors = case.errors(tile, isa);
            let bound = 20.0 * tile.error_bound();
            prop_assert!(errors.iter().all(|&e| e < bound), "{tile:?} on {isa}: {errors:?} for {g:?}");
        }
    }

    /// <conv(x), y> = <x, input gradient of y> = <w, weight gradient of x and y>.
    #[test]
    fn the_passes_are_adjoint((tile, g) in any_geometry(), seed in 0u64..1000) {
        let case = Case::new(g, false, seed);
        let pool = BufferPool::poisoning();
        let isa = Isa::best();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let norm = |a: &[f32]| dot(a, a).sqrt();
        let mut y = vec![f32::NAN; g.output_len()];
        let weights = prepared(tile, Pass::Forward, &g, &case.w, isa);
        convolve(&pool, &weights, &g, (&case.x, None), (None, false), false, &mut y);
        let mut dx = vec![f32::NAN; g.input_len()];
        let weights = prepared(tile, Pass::InputGradient, &g, &case.w, isa);
        convolve(&pool, &weights, &g.of(Pass::InputGradient), (&case.dy, None), (None, false), false, &mut dx);
        let mut dw = vec![f32::NAN; g.weight_len()];
        let mut sum = WeightGradientAccumulator::new(BufferPool::global(), tile, &g, isa);
        sum.accumulate(&pool, &g, &case.x, (&case.dy, None), None);
        sum.finish(&mut dw, false);
        let scale = 1e-4 * (norm(&y) * norm(&case.dy)).max(1e-3);
        let output = dot(&y, &case.dy);
        prop_assert!((output - dot(&case.x, &dx)).abs() < scale, "{g:?}");
        prop_assert!((output - dot(&case.w, &dw)).abs() < scale, "{g:?}");
    }
}

/// The stated error bounds, on sizes like the network's.
#[test]
fn rms_errors_stay_below_the_stated_bounds() {
    for tile in Tile::ALL {
        let case = Case::new(same(tile, 2, 64, 48, 17), false, 11);
        for isa in Isa::available() {
            let errors = case.errors(tile, isa);
            let [y, dx, dw, db] = errors;
            println!("{tile:?} on {isa}: {y:.1e} forward, {dx:.1e} input, {dw:.1e} weight, {db:.1e} bias");
            assert!(errors.iter().all(|&e| e < tile.error_bound()), "{tile:?} on {isa}: {errors:?}");
        }
    }
}

/// Blocks that start inside rows and span images: more tiles than one block holds.
#[test]
fn many_blocks_equal_the_naive_loop() {
    for (tile, n, c_in, c_out, size) in [
        (Tile::F5x5K5x5, 7, 60, 80, 30),
        (Tile::F4x4K5x5, 5, 33, 50, 29),
        (Tile::F6x6K3x3, 23, 20, 97, 17),
        (Tile::F4x4K3x3, 3, 130, 17, 61),
    ] {
        let case = Case::new(same(tile, n, c_in, c_out, size), true, 3);
        for isa in Isa::available() {
            let errors = case.errors(tile, isa);
            assert!(errors.iter().all(|&e| e < 2.0 * tile.error_bound()), "{tile:?} on {isa}: {errors:?}");
        }
    }
}

#[test]
fn bias_and_relu_are_fused() {
    let g = same(Tile::F6x6K3x3, 2, 5, 21, 9);
    let case = Case::new(g, false, 5);
    for isa in Isa::available() {
        let pool = BufferPool::poisoning();
        let weights = prepared(Tile::F6x6K3x3, Pass::Forward, &g, &case.w, isa);
        let mut plain = vec![f32::NAN; g.output_len()];
        convolve(&pool, &weights, &g, (&case.x, None), (Some(&case.bias), false), false, &mut plain);
        let mut relu_output = vec![f32::NAN; g.output_len()];
        convolve(&pool, &weights, &g, (&case.x, None), (Some(&case.bias), true), false, &mut relu_output);
        let expected: Vec<f32> = plain.iter().map(|v| v.max(0.0)).collect();
        assert_eq!(relu_output, expected);
        assert!(plain.iter().any(|&v| v < 0.0) && plain.iter().any(|&v| v > 0.0));
    }
}

/// A NaN in the input reaches the output through ReLU.
#[test]
fn relu_lets_nan_through() {
    let g = same(Tile::F4x4K3x3, 1, 3, 4, 6);
    let mut case = Case::new(g, false, 5);
    case.x[0] = f32::NAN;
    for isa in Isa::available() {
        let weights = prepared(Tile::F4x4K3x3, Pass::Forward, &g, &case.w, isa);
        let mut y = vec![0.0; g.output_len()];
        convolve(&BufferPool::new(), &weights, &g, (&case.x, None), (None, true), false, &mut y);
        assert!(y[0].is_nan());
    }
}

/// Two micro-batches into one sum and one call over all images: the same gradient; `finish` can add, and empties.
#[test]
fn sums_over_shards_add_up() {
    for tile in [Tile::F4x4K5x5, Tile::F5x5K5x5] {
        shards_add_up(tile);
    }
}

fn shards_add_up(tile: Tile) {
    let whole = same(tile, 3, 18, 35, 11);
    let case = Case::new(whole, true, 7);
    let (first, rest) = (ConvGeometry { n: 1, ..whole }, ConvGeometry { n: 2, ..whole });
    let mask = case.mask.as_deref().unwrap();
    let (x, dy) = (case.x.split_at(first.input_len()), case.dy.split_at(first.output_len()));
    let mask = mask.split_at(first.output_len());
    let mut expected = vec![f64::NAN; whole.weight_len()];
    naive::weight_gradient(&whole, &widened(&case.x), &case.masked_dy(), &mut expected);
    for isa in Isa::available() {
        let pool = BufferPool::poisoning();
        let mut sum = WeightGradientAccumulator::new(BufferPool::global(), tile, &whole, isa);
        let mut dw = vec![f32::NAN; whole.weight_len()];
        sum.finish(&mut dw, false);
        assert!(dw.iter().all(|&v| v == 0.0), "a sum of nothing is zero");
        let mut dw = vec![f32::NAN; whole.weight_len()];
        sum.accumulate(&pool, &first, x.0, (dy.0, Some(mask.0)), None);
        sum.accumulate(&pool, &rest, x.1, (dy.1, Some(mask.1)), None);
        sum.finish(&mut dw, false);
        assert!(relative_error(&dw, &expected) < tile.error_bound());
        sum.accumulate(&pool, &first, x.0, (dy.0, Some(mask.0)), None);
        sum.accumulate(&pool, &rest, x.1, (dy.1, Some(mask.1)), None);
        // Into the first gradient once more: twice the sum.
        sum.finish(&mut dw, true);
        let twice: Vec<f64> = expected.iter().map(|v| 2.0 * v).collect();
        assert!(relative_error(&dw, &twice) < tile.error_bound());
    }
}

/// Refilling gives the same bits as preparing anew, and a second call of a pass takes its scratch from the pool.
#[test]
fn weights_are_refilled_in_place() {
    let g = same(Tile::F6x6K3x3, 1, 17, 20, 13);
    let (old, new) = (Case::new(g, false, 1), Case::new(g, false, 2));
    for isa in Isa::available() {
        let pool = BufferPool::new();
        let output = |weights: &DomainWeights| {
            let mut y = vec![f32::NAN; g.output_len()];
            convolve(&pool, weights, &g, (&new.x, None), (None, false), false, &mut y);
            (y, pool.free_bytes())
        };
        let mut refilled = prepared(Tile::F6x6K3x3, Pass::Forward, &g, &old.w, isa);
        refilled.transform(Pass::Forward, &new.w);
        let anew = prepared(Tile::F6x6K3x3, Pass::Forward, &g, &new.w, isa);
        assert_eq!(output(&refilled), output(&anew));
    }
}

/// One, two and five threads, more and fewer images than threads: the same bits as serial.
#[test]
fn threads_do_not_change_a_bit() {
    let tiles = [Tile::F4x4K5x5, Tile::F5x5K5x5];
    let sizes = [(1, 200), (1, 7), (2, 40), (7, 33)];
    for (tile, (n, c_out)) in tiles.into_iter().flat_map(|tile| sizes.map(|size| (tile, size))) {
        let g = grouped(same(tile, n, 20, c_out, 14), 1 + n % 2);
        let case = Case::new(g, true, 9);
        let (mask, isa, pool) = (case.mask.as_deref(), Isa::best(), BufferPool::poisoning());
        let weights = prepared(tile, Pass::Forward, &g, &case.w, isa);
        let flipped = prepared(tile, Pass::InputGradient, &g, &case.w, isa);
        let run = |parallel: bool| {
            let (mut y, mut dx) = (vec![f32::NAN; g.output_len()], vec![f32::NAN; g.input_len()]);
            convolve(&pool, &weights, &g, (&case.x, None), (Some(&case.bias), true), parallel, &mut y);
            let dy = (&*case.dy, mask);
            convolve(&pool, &flipped, &g.of(Pass::InputGradient), dy, (None, false), parallel, &mut dx);
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
    convolve(&pool, &weights, &g, (&[], None), (None, false), true, &mut []);
    let mut sum = WeightGradientAccumulator::new(BufferPool::global(), Tile::F4x4K3x3, &g, isa);
    sum.accumulate(&pool, &g, &[], (&[], None), None);
    let mut dw = vec![f32::NAN; w.len()];
    sum.finish(&mut dw, false);
    assert!(dw.iter().all(|&v| v == 0.0));
}
