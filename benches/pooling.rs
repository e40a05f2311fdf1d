//! The ops between the convolutions: pooling, ReLU and dropout, forward and backward, on the network's shapes, micro-batches of
//! 8 images. Throughput is in bytes of the input: what a pass over it cannot avoid reading. A 3x3 window with stride 2 takes 9
//! operations for each output and 4 inputs, so that a GiB/s of pooling is 0.6 GFLOP/s; of ReLU and dropout 0.27.
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor::{BufferPool, Context, Op, Tensor, ops};

/// N, C, H, W before each of the network's pooling layers, at 224 pixels.
const SHAPES: [[usize; 4]; 3] = [[8, 96, 72, 72], [8, 256, 35, 35], [8, 384, 17, 17]];

/// Numbers on both sides of 0 without a pattern that a branch predictor could learn.
fn numbers(shape: [usize; 4]) -> Tensor<f32> {
    let mut state = 1u32;
    Tensor::from_fn(shape, |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    })
}

fn bench<O: Op<f32> + Copy>(c: &mut Criterion, name: &str, op: O) {
    let mut group = c.benchmark_group(name);
    for shape in SHAPES {
        let context = Context::training(BufferPool::new());
        let x = numbers(shape);
        let [_, channels, height, width] = shape;
        let label = format!("{channels}x{height}x{width}");
        group.throughput(Throughput::Bytes(4 * x.len() as u64));
        group.bench_function(BenchmarkId::new("forward", &label), |bencher| {
            bencher.iter(|| black_box(op.forward(&context, vec![x.clone()])));
        });
        let dy =
            Tensor::<f32>::full(Op::<f32>::output_shape(&op, &[x.shape()]).expect("the shapes fit"), 0.5);
        // A gradient has one owner, as on the tape, so that an op may work in it.
        let prepare = || {
            (op.forward(&context, vec![x.clone()]).1, {
                let mut own = Tensor::empty_in(context.pool(), dy.shape());
                own.data_mut().copy_from_slice(dy.data());
                own
            })
        };
        group.bench_function(BenchmarkId::new("backward", &label), |bencher| {
            bencher.iter_batched(
                prepare,
                |(saved, dy)| op.gradients(&context, saved, dy, &[true]),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn ops_between_convolutions(c: &mut Criterion) {
    bench(c, "max_pool2d_3_2", ops::MaxPool2d::new(3, 2));
    bench(c, "avg_pool2d_3_2", ops::AvgPool2d::new(3, 2));
    bench(c, "global_avg_pool2d", ops::AdaptiveAvgPool2d::GLOBAL);
    bench(c, "relu", ops::Relu);
    bench(c, "dropout", ops::Dropout { p: 0.5, layer: 0 });
}

criterion_group!(benches, ops_between_convolutions);
criterion_main!(benches);
