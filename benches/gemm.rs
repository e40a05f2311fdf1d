//! Matrix products of the network's 1x1 convolutions and stem, per instruction set, against the `matrixmultiply` crate.
//!
//! Throughput is in floating-point operations: criterion's "Gelem/s" are GFLOP/s. `in_cache` is the kernel
//! alone, on operands that stay in the first-level cache: read the others as shares of it. Each product includes the packing of its right
//! operand; weights are packed beforehand, as a training step does once for all its micro-batches.
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor::BufferPool;
use tensor::kernels::{Gradients, Images, Weights, gradients, multiply_in_place, product};
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
            let weights = Weights::new(&pool, isa, [channels, channels], &w);
            let images = Images { images, channels, pixels };
            group.bench_function(BenchmarkId::new(isa.name(), &shape), |bencher| {
                bencher.iter(|| product(&pool, &weights, images, &x, Some(&bias), true, &mut y));
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
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::new(isa.name(), &shape), |bencher| {
                let images = Images { images, channels, pixels };
                bencher.iter(|| {
                    let wanted = Gradients { dw: &mut dw, db: None, dx: None };
                    gradients(&pool, isa, images, (&dy, None), (&x, channels), wanted);
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
        let transposed: Vec<f32> =
            (0..channels * channels).map(|i| w[i % channels * channels + i / channels]).collect();
        for isa in Isa::available() {
            group.bench_function(BenchmarkId::new(isa.name(), &shape), |bencher| {
                let weights = Weights::new(&pool, isa, [channels, channels], &transposed);
                let images = Images { images, channels, pixels };
                bencher.iter(|| {
                    let dx = Some((&weights, &mut *dx));
                    let wanted = Gradients { dw: &mut dw, db: Some(&mut db), dx };
                    gradients(&pool, isa, images, (&dy, Some(&y)), (&x, channels), wanted);
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
            bencher.iter(|| multiply_in_place(isa, [m, n, k], &a, black_box(&b), &mut y));
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
