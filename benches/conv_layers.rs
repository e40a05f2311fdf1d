//! Every convolution of `nin` at 224 pixels, pass by pass, by each algorithm that can compute it: micro-batches of 4 images, one core.
//! After these, the 3x3 and 5x5 ones of the other networks and image sizes.
//!
//! Throughput is in floating-point operations of the *direct* convolution, two for each multiply-add: criterion's "Gelem/s" are
//! GFLOP/s of the work that the layer's definition asks for, whichever way it is done. Winograd's algorithm does fewer, so that
//! its figure can be above what the processor's multiply-add units can do.
//!
//! Bias and ReLU are part of the forward pass, ReLU's mask part of the gradients, as in the network. Weights are packed or
//! transformed once and kept, as a training step does for all its micro-batches: what that costs is in `once_per_step`. `tiles` has
//! Winograd's tiles for 3x3 and for 5x5 windows side by side. The first layer's input gradient is never needed in training.
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor::conv::winograd::{self, PreparedWeights, Tile, WeightGradientAccumulator};
use tensor::conv::{self, ConvAlgorithm, ConvGeometry, Convolution, Pass};
use tensor::simd::Isa;
use tensor::{BufferPool, Context, GradientSum, Shape, Sinks, Tensor};

const IMAGES: usize = 4;

/// Kernel, stride, input channels, output channels, size of the square input. Padding keeps the size, but for the stem's.
const LAYERS: [(usize, usize, usize, usize, usize); 13] = [
    (11, 3, 1, 96, 224),
    (1, 1, 96, 96, 72),
    (5, 1, 96, 256, 35),
    (1, 1, 256, 256, 35),
    (3, 1, 256, 384, 17),
    (1, 1, 384, 384, 17),
    (3, 1, 384, 10, 8),
    (1, 1, 10, 10, 8),
    // `nin-d2l` at 224 pixels, `nin` at 96, `nin-cifar` at 28.
    (5, 1, 96, 256, 26),
    (3, 1, 256, 384, 12),
    (5, 1, 96, 256, 14),
    (3, 1, 256, 384, 6),
    (5, 1, 192, 192, 14),
];

fn geometry(kernel: usize, stride: usize, c_in: usize, c_out: usize, size: usize) -> ConvGeometry {
    let (input, weight) = ([IMAGES, c_in, size, size], [c_out, c_in, kernel, kernel]);
    let padding = if stride == 1 { kernel / 2 } else { 0 };
    ConvGeometry::new(input.into(), weight.into(), [stride; 2], [padding; 2], [1; 2], 1)
        .expect("the network's sizes fit")
}

fn number(index: usize) -> f32 {
    (index * 37 % 101) as f32 / 101.0 - 0.5
}

/// Storage from the context's pool that nothing else shares, as a gradient on the tape.
fn fresh(context: &Context, shape: Shape) -> Tensor<f32> {
    let mut tensor = Tensor::empty_in(context.pool(), shape);
    tensor.data_mut().iter_mut().enumerate().for_each(|(index, value)| *value = number(index));
    tensor
}

/// Which algorithms there are for a geometry, by name.
fn paths(g: &ConvGeometry) -> impl Iterator<Item = ConvAlgorithm> {
    let winograd =
        matches!(conv::choose::<f32>(g, ConvAlgorithm::Winograd(None)), ConvAlgorithm::Winograd(_));
    let all = [
        (ConvAlgorithm::Direct, true),
        (ConvAlgorithm::Winograd(None), winograd),
        (ConvAlgorithm::Im2col, true),
    ];
    all.into_iter().filter_map(|(path, applies)| applies.then_some(path))
}

fn layers(c: &mut Criterion) {
    for (kernel, stride, c_in, c_out, size) in LAYERS {
        let g = geometry(kernel, stride, c_in, c_out, size);
        let name = format!("{kernel}x{kernel}_{c_in}_{c_out}_at_{}", g.out_h());
        let context = Context::training(BufferPool::new());
        let [x, w, bias] =
            [g.input_shape(), g.weight_shape(), [c_out].into()].map(|shape| fresh(&context, shape));
        let output = fresh(&context, g.output_shape());
        let layer = Convolution { geometry: g, weight: &w, bias: Some(&bias), relu: true };

        let mut group = c.benchmark_group("forward");
        group.throughput(Throughput::Elements(g.flops()));
        for path in paths(&g) {
            let context = Context { conv: path, ..context.clone() };
            group.bench_function(BenchmarkId::new(path.to_string(), &name), |b| {
                b.iter(|| conv::forward(&context, &layer, black_box(&x)));
            });
        }
        group.finish();

        let passes = [("input_gradient", true, [None; 2]), ("weight_gradient", false, [Some(0), Some(1)])];
        for (pass, input, parameters) in passes {
            let mut group = c.benchmark_group(pass);
            group.throughput(Throughput::Elements(g.flops()));
            for path in paths(&g) {
                let context = Context { conv: path, ..context.clone() };
                group.bench_function(BenchmarkId::new(path.to_string(), &name), |b| {
                    b.iter_batched(
                        || fresh(&context, g.output_shape()),
                        |dy| {
                            let mut sums = [GradientSum::new(), GradientSum::new()];
                            let sinks = &mut Sinks::new(&mut sums, &parameters);
                            let dx = conv::backward(&context, &layer, &x, Some(&output), dy, input, sinks);
                            (dx, sums.map(|sum| sum.finish(context.pool())))
                        },
                        BatchSize::PerIteration,
                    );
                });
            }
            group.finish();
        }
    }
}

/// The three passes by each of Winograd's tiles.
fn tiles(c: &mut Criterion) {
    let (pool, isa) = (BufferPool::new(), Isa::current());
    for (kernel, c_in, c_out, size) in
        [(3, 256, 384, 17), (3, 256, 384, 6), (5, 96, 256, 35), (5, 96, 256, 14)]
    {
        let g = geometry(kernel, 1, c_in, c_out, size);
        let [x, w, dy] = [g.input_len(), g.weight_len(), g.output_len()]
            .map(|len| (0..len).map(number).collect::<Vec<_>>());
        let (mut y, mut dx) = (vec![0.0; g.output_len()], vec![0.0; g.input_len()]);
        let mut group = c.benchmark_group("tiles");
        group.throughput(Throughput::Elements(g.flops()));
        for tile in Tile::ALL.into_iter().filter(|tile| tile.supports(&g)) {
            let name = |pass: &str| {
                BenchmarkId::new(format!("{pass}_{tile:?}"), format!("{c_in}_{c_out}_at_{size}"))
            };
            let weights = |pass| PreparedWeights::new(&pool, tile, pass, &g, &w, isa);
            let (forward, flipped) = (weights(Pass::Forward), weights(Pass::InputGradient));
            group.bench_function(name("forward"), |b| {
                b.iter(|| winograd::forward(&pool, &forward, &g, &x, (None, true), false, black_box(&mut y)));
            });
            group.bench_function(name("input_gradient"), |b| {
                b.iter(|| {
                    winograd::input_gradient(&pool, &flipped, &g, (&dy, None), false, black_box(&mut dx));
                });
            });
            let mut sum = WeightGradientAccumulator::new(&pool, tile, &g, isa);
            group.bench_function(name("weight_gradient"), |b| {
                b.iter(|| sum.accumulate(&pool, &g, &x, (&dy, None)));
            });
        }
        group.finish();
    }
}

/// What a step pays for Winograd's algorithm once per layer, whatever the batch: the weights' way into its domain, and the way of
/// their gradient out of it. Throughput is in weights.
fn once_per_step(c: &mut Criterion) {
    let (pool, isa) = (BufferPool::new(), Isa::current());
    for (kernel, c_in, c_out, size) in [(5, 96, 256, 35), (3, 256, 384, 17)] {
        let g = geometry(kernel, 1, c_in, c_out, size).with_images(1);
        let layer = format!("{kernel}x{kernel}_{c_in}_{c_out}");
        let [x, w, dy] = [g.input_len(), g.weight_len(), g.output_len()]
            .map(|len| (0..len).map(number).collect::<Vec<_>>());
        let mut dw = w.clone();
        let mut group = c.benchmark_group("once_per_step");
        group.throughput(Throughput::Elements(g.weight_len() as u64));
        for tile in Tile::ALL.into_iter().filter(|tile| tile.supports(&g)) {
            for pass in [Pass::Forward, Pass::InputGradient] {
                let mut weights = PreparedWeights::new(&pool, tile, pass, &g, &w, isa);
                group.bench_function(BenchmarkId::new(format!("prepare_{pass:?}_{tile:?}"), &layer), |b| {
                    b.iter(|| black_box(&mut weights).refill(&w));
                });
            }
            let mut sum = WeightGradientAccumulator::new(&pool, tile, &g, isa);
            group.bench_function(BenchmarkId::new(format!("finish_{tile:?}"), &layer), |b| {
                b.iter_custom(|times| {
                    let mut total = Duration::ZERO;
                    for _ in 0..times {
                        sum.accumulate(&pool, &g, &x, (&dy, None));
                        let start = Instant::now();
                        sum.finish(black_box(&mut dw), false);
                        total += start.elapsed();
                    }
                    total
                });
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(10);
    targets = layers, tiles, once_per_step
}
criterion_main!(benches);
