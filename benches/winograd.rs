//! The network's 3x3 and 5x5 convolutions by Winograd against the implicit matrix product, pass by pass, shards of 8 images.
//!
//! Throughput is in floating-point operations of the direct convolution: criterion's "Gelem/s" are effective GFLOP/s, which
//! Winograd can raise above what the processor's multiply-add units can do. Weights are prepared beforehand, as a training
//! step does once for all its shards; `prepare` is that preparation, and `finish` the way back of the weight gradient.
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor::BufferPool;
use tensor::conv::implicit_gemm::{self, PackedWeights, Pass};
use tensor::conv::winograd::{self, Direction, PreparedWeights, WeightGradientAccumulator};
use tensor::conv::{ConvGeometry, winograd::Tile};
use tensor::simd::Isa;

/// Kernel, input channels, output channels, size of the square image: the networks at 224 (strides 3 and 4) and 96 pixels.
const LAYERS: [(usize, usize, usize, usize); 6] = [
    (5, 96, 256, 35),
    (5, 96, 256, 26),
    (5, 96, 256, 14),
    (3, 256, 384, 17),
    (3, 256, 384, 12),
    (3, 256, 384, 6),
];

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|index| (index * 37 % 101) as f32 / 101.0 - 0.5).collect()
}

fn passes(c: &mut Criterion) {
    let (pool, isa) = (BufferPool::new(), Isa::current());
    for (kernel, c_in, c_out, size) in LAYERS {
        let g = ConvGeometry {
            n: 8,
            c_in,
            h: size,
            w: size,
            c_out,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let layer = format!("{kernel}x{kernel}_{c_in}_{c_out}_{size}");
        let (x, w, bias, dy) =
            (numbers(g.input_len()), numbers(g.weight_len()), numbers(c_out), numbers(g.output_len()));
        let mask = numbers(g.output_len());
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let mut db = bias.clone();

        let mut group = c.benchmark_group("forward");
        group.throughput(Throughput::Elements(g.flops()));
        for tile in Tile::ALL.into_iter().filter(|tile| tile.supports(&g)) {
            let weights = PreparedWeights::new(tile, Direction::Forward, &g, &w, isa);
            group.bench_function(BenchmarkId::new(format!("{tile:?}"), &layer), |b| {
                b.iter(|| {
                    winograd::forward(&pool, &weights, &g, &x, Some(&bias), true, false, black_box(&mut y));
                });
            });
        }
        let weights = PackedWeights::new(&pool, isa, &g, Pass::Forward, &w);
        group.bench_function(BenchmarkId::new("implicit_gemm", &layer), |b| {
            b.iter(|| {
                implicit_gemm::forward(&pool, &g, &x, &weights, Some(&bias), true, false, black_box(&mut y));
            });
        });
        group.finish();

        let mut group = c.benchmark_group("input_gradient");
        group.throughput(Throughput::Elements(g.flops()));
        for tile in Tile::ALL.into_iter().filter(|tile| tile.supports(&g)) {
            let weights = PreparedWeights::new(tile, Direction::InputGradient, &g, &w, isa);
            group.bench_function(BenchmarkId::new(format!("{tile:?}"), &layer), |b| {
                b.iter(|| {
                    winograd::input_gradient(
                        &pool,
                        &weights,
                        &g,
                        &dy,
                        Some(&mask),
                        false,
                        black_box(&mut dx),
                    );
                });
            });
        }
        let weights = PackedWeights::new(&pool, isa, &g, Pass::InputGradient, &w);
        group.bench_function(BenchmarkId::new("implicit_gemm", &layer), |b| {
            b.iter(|| {
                implicit_gemm::input_gradient(
                    &pool,
                    &g,
                    &dy,
                    Some(&mask),
                    &weights,
                    false,
                    black_box(&mut dx),
                );
            });
        });
        group.finish();

        let mut group = c.benchmark_group("weight_gradient");
        group.throughput(Throughput::Elements(g.flops()));
        for tile in Tile::ALL.into_iter().filter(|tile| tile.supports(&g)) {
            let mut sum = WeightGradientAccumulator::new(tile, &g, isa);
            group.bench_function(BenchmarkId::new(format!("{tile:?}"), &layer), |b| {
                b.iter(|| black_box(&mut sum).accumulate(&pool, &g, &x, &dy, Some(&mask)));
            });
        }
        group.bench_function(BenchmarkId::new("implicit_gemm", &layer), |b| {
            b.iter(|| {
                let (dw, db) = (black_box(&mut dw[..]), Some(&mut db[..]));
                implicit_gemm::weight_gradient(&pool, isa, &g, &x, &dy, Some(&mask), true, dw, db);
            });
        });
        group.finish();
    }
}

/// What a step pays once per layer, whatever the batch. Throughput is in weights.
fn once_per_step(c: &mut Criterion) {
    let isa = Isa::current();
    for (kernel, c_in, c_out, size) in [LAYERS[0], LAYERS[3]] {
        let g = ConvGeometry {
            n: 1,
            c_in,
            h: size,
            w: size,
            c_out,
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [kernel / 2; 2],
            dilation: [1; 2],
            groups: 1,
        };
        let layer = format!("{kernel}x{kernel}_{c_in}_{c_out}");
        let w = numbers(g.weight_len());
        let mut group = c.benchmark_group("once_per_step");
        group.throughput(Throughput::Elements(g.weight_len() as u64));
        for tile in Tile::ALL.into_iter().filter(|tile| tile.supports(&g)) {
            for direction in [Direction::Forward, Direction::InputGradient] {
                let mut weights = PreparedWeights::new(tile, direction, &g, &w, isa);
                group.bench_function(
                    BenchmarkId::new(format!("prepare_{direction:?}_{tile:?}"), &layer),
                    |b| {
                        b.iter(|| black_box(&mut weights).refill(&w));
                    },
                );
            }
            let pool = BufferPool::new();
            let (x, dy) = (numbers(g.input_len()), numbers(g.output_len()));
            let mut dw = w.clone();
            let mut sum = WeightGradientAccumulator::new(tile, &g, isa);
            group.bench_function(BenchmarkId::new(format!("finish_{tile:?}"), &layer), |b| {
                b.iter_custom(|times| {
                    let mut total = Duration::ZERO;
                    for _ in 0..times {
                        sum.accumulate(&pool, &g, &x, &dy, None);
                        let start = Instant::now();
                        sum.finish(black_box(&mut dw), None, false);
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
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(10);
    targets = passes, once_per_step
}
criterion_main!(benches);
