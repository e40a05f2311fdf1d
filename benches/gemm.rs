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

/// `dw = dy x^T` alone.
fn weight_gradient(c: &mut Criterion) {
    let pool = BufferPool::new();
    let mut group = c.benchmark_group("pointwise_weight_gradient");
    for (channels, pixels, images) in POINTWISE {
        let len = images * channels * pixels;
        let (x, dy) = (numbers(len), numbers(len));
        let mut dw = vec![0.0; channels * channels];
        let shape = format!("{channels}x{pixels}x{images}");
        group.throughput(flops(channels, channels, images * pixels));
        let planes =
            |data| Planes { data, mask: None, images, channels, pixels, image_stride: channels * pixels };
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::new(isa.name(), &shape), |bencher| {
                let (a, b) = (planes(&dy), planes(&x).channel_lanes());
                bencher.iter(|| {
                    let link = Link { input: &b, dw: &mut dw, db: None, weights: None, rectified: None };
                    gemm_deep(&pool, isa, &a, &mut [link], false, None);
                });
            });
        }
        group.bench_function(BenchmarkId::new("matrixmultiply", &shape), |bencher| {
            bencher.iter(|| weight_gradient_of_each_image([channels, pixels], &dy, &x, &mut dw));
        });
    }
    group.finish();
}

/// All of a layer's gradients: `g = dy where y > 0`, its sums, `dw = g x^T` and `dx = w^T g`.
fn backward(c: &mut Criterion) {
    let pool = BufferPool::new();
    let mut group = c.benchmark_group("pointwise_backward");
    for (channels, pixels, images) in POINTWISE {
        let len = images * channels * pixels;
        let (x, dy, y, w) =
            (numbers(len), numbers(len), numbers(len + 7).split_off(7), numbers(channels * channels));
        let (mut dw, mut db) = (vec![0.0; channels * channels], vec![0.0; channels]);
        let (mut g, mut dx) = (pool.take::<f32>(len), pool.take::<f32>(len));
        let shape = format!("{channels}x{pixels}x{images}");
        group.throughput(flops(channels, 2 * channels, images * pixels));
        let planes =
            |data, mask| Planes { data, mask, images, channels, pixels, image_stride: channels * pixels };
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::new(isa.name(), &shape), |bencher| {
                let at = |i: usize, o: usize| w[o * channels + i];
                let weights = PackedA::new(&pool, isa, &Elements { lanes: channels, depth: channels, at });
                let (a, b) = (planes(&dy, Some(&*y)), planes(&x, None).channel_lanes());
                bencher.iter(|| {
                    let (dw, db) = (&mut *dw, Some(&mut *db));
                    let link = Link { input: &b, dw, db, weights: Some(&weights), rectified: None };
                    let out = Output::planes(&mut dx, channels, pixels, images, pixels, channels * pixels);
                    gemm_deep(&pool, isa, &a, &mut [link], false, Some(&out));
                });
            });
        }
        group.bench_function(BenchmarkId::new("matrixmultiply", &shape), |bencher| {
            bencher.iter(|| {
                for ((g, &dy), &y) in g.iter_mut().zip(&dy).zip(&y) {
                    *g = if y > 0.0 { dy } else { 0.0 };
                }
                db.fill(0.0);
                for (index, plane) in g.chunks_exact(pixels).enumerate() {
                    let parts = plane.chunks(16).map(|part| part.iter().sum::<f32>());
                    db[index % channels] += parts.sum::<f32>();
                }
                weight_gradient_of_each_image([channels, pixels], &g, &x, &mut dw);
                let images = g.chunks_exact(channels * pixels).zip(dx.chunks_exact_mut(channels * pixels));
                for (g, dx) in images {
                    let sizes = [channels, channels, pixels];
                    let strides = ([1, channels], [pixels, 1]);
                    <f32 as tensor::Element>::matmul(
                        sizes,
                        &w,
                        strides.0,
                        g,
                        strides.1,
                        false,
                        dx,
                        [pixels, 1],
                    );
                }
            });
        });
    }
    group.finish();
}

/// `dw = dy x^T` by the `matrixmultiply` crate, image by image.
fn weight_gradient_of_each_image([channels, pixels]: [usize; 2], dy: &[f32], x: &[f32], dw: &mut [f32]) {
    let images = dy.chunks_exact(channels * pixels).zip(x.chunks_exact(channels * pixels));
    for (index, (dy, x)) in images.enumerate() {
        let (sizes, strides) = ([channels, pixels, channels], ([pixels, 1], [1, pixels]));
        <f32 as tensor::Element>::matmul(sizes, dy, strides.0, x, strides.1, index > 0, dw, [channels, 1]);
    }
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
    targets = in_cache, forward, weight_gradient, backward
}
criterion_main!(benches);
