//! Matrix products of the network's 1x1 convolutions and stem, per instruction set, against the `matrixmultiply` crate.
//!
//! Throughput is in floating-point operations: criterion's "Gelem/s" are GFLOP/s. `in_cache` is the kernel
//! alone, on operands that stay in the first-level cache: read the others as shares of it. Each product includes the packing of its right
//! operand; weights are packed beforehand, as a training step does once for all its shards.
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor::BufferPool;
use tensor::gemm::{Elements, Epilogue, Link, Output, PackedA, Planes, gemm, gemm_deep};
use tensor::simd::Isa;

/// Channels, pixels of one image, images: the square 1x1 convolutions at 224 and at 96 pixels, and the last block.
const POINTWISE: [(usize, usize, usize); 7] =
    [(96, 5184, 1), (256, 1225, 1), (384, 289, 8), (10, 64, 8), (96, 841, 8), (256, 196, 8), (384, 36, 8)];

fn flops(m: usize, n: usize, k: usize) -> Throughput {
    Throughput::Elements((2 * m * n * k) as u64)
}

fn numbers(len: usize) -> Vec<f32> {
    (0..len).map(|index| (index * 37 % 101) as f32 / 101.0 - 0.5).collect()
}

/// `y = relu(w x + b)`, channels to channels.
fn forward(c: &mut Criterion) {
    let pool = BufferPool::new();
    let mut group = c.benchmark_group("pointwise_forward");
    for (channels, pixels, images) in POINTWISE {
        let len = images * channels * pixels;
        let (w, bias) = (numbers(channels * channels), numbers(channels));
        let (mut x, mut y) = (pool.take::<f32>(len), pool.take::<f32>(len));
        x.copy_from_slice(&numbers(len));
        let shape = format!("{channels}x{pixels}x{images}");
        group.throughput(flops(channels, images * pixels, channels));
        for isa in Isa::available() {
            let at = |o: usize, c: usize| w[o * channels + c];
            let a = PackedA::new(&pool, isa, &Elements { lanes: channels, depth: channels, at });
            let b =
                Planes { data: &x, mask: None, images, channels, pixels, image_stride: channels * pixels };
            group.bench_function(BenchmarkId::new(isa.name(), &shape), |bencher| {
                bencher.iter(|| {
                    let output = Output::planes(&mut y, channels, pixels, images, pixels, channels * pixels);
                    let epilogue = Epilogue { accumulate: false, bias: Some(&bias), relu: true };
                    gemm(&pool, &a, &b.pixel_lanes(), epilogue, &output, false);
                });
            });
        }
        group.bench_function(BenchmarkId::new("matrixmultiply", &shape), |bencher| {
            bencher.iter(|| {
                for (x, y) in x.chunks_exact(channels * pixels).zip(y.chunks_exact_mut(channels * pixels)) {
                    for (y, &bias) in y.chunks_exact_mut(pixels).zip(&bias) {
                        y.fill(bias);
                    }
                    <f32 as tensor::Element>::matmul(
                        [channels, channels, pixels],
                        &w,
                        [channels, 1],
                        x,
                        [pixels, 1],
                        true,
                        y,
                        [pixels, 1],
                    );
                }
            });
        });
    }
    group.finish();
}

/// `dw = (dy where y > 0) x^T` and the bias's gradient; the crate gets a `dy` without mask and no bias.
fn weight_gradient(c: &mut Criterion) {
    let pool = BufferPool::new();
    let mut group = c.benchmark_group("pointwise_weight_gradient");
    for (channels, pixels, images) in POINTWISE {
        let len = images * channels * pixels;
        let (x, dy, y) = (numbers(len), numbers(len), numbers(len));
        let (mut dw, mut db) = (vec![0.0; channels * channels], vec![0.0; channels]);
        let shape = format!("{channels}x{pixels}x{images}");
        group.throughput(flops(channels, channels, images * pixels));
        let planes =
            |data, mask| Planes { data, mask, images, channels, pixels, image_stride: channels * pixels };
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::new(isa.name(), &shape), |bencher| {
                let (a, b) = (planes(&dy, Some(&*y)), planes(&x, None).channel_lanes());
                bencher.iter(|| {
                    let (dw, db) = (&mut *dw, Some(&mut *db));
                    let link = Link { input: &b, dw, db, weights: None, rectified: None };
                    gemm_deep(&pool, isa, &a, &mut [link], false, None);
                });
            });
        }
        group.bench_function(BenchmarkId::new("matrixmultiply", &shape), |bencher| {
            bencher.iter(|| {
                let images = dy.chunks_exact(channels * pixels).zip(x.chunks_exact(channels * pixels));
                for (index, (dy, x)) in images.enumerate() {
                    <f32 as tensor::Element>::matmul(
                        [channels, pixels, channels],
                        dy,
                        [pixels, 1],
                        x,
                        [1, pixels],
                        index > 0,
                        &mut dw,
                        [channels, 1],
                    );
                }
            });
        });
    }
    group.finish();
}

/// The tile kernels without packing or traffic.
fn in_cache(c: &mut Criterion) {
    let mut group = c.benchmark_group("in_cache");
    let (m, n, k) = (96, 48, 96);
    let (a, b, mut y) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
    group.throughput(flops(m, n, k));
    for isa in Isa::available() {
        group.bench_function(isa.name(), |bencher| {
            let a = tensor::gemm::MatrixRef { data: &a, row_stride: 1, col_stride: m };
            bencher.iter(|| {
                tensor::gemm::gemm_unpacked(isa, (m, n, k), a, black_box(&b), n, &mut y, n, false);
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    targets = in_cache, forward, weight_gradient
}
criterion_main!(benches);
