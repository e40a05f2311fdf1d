//! Matrix products of the network's 1x1 convolutions, against the `matrixmultiply` crate. `NIN_ISA` says by which instruction
//! set; the crate chooses its own.
//!
//! Throughput is in floating-point operations: criterion's "Gelem/s" are GFLOP/s. The first layer stays in the first-level cache:
//! read the others as shares of it. Each product includes the packing of its right operand; weights are packed beforehand, as a
//! training step does once for all its micro-batches.
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor::conv::ConvAlgorithm;
use tensor::ops::Conv2d;
use tensor::simd::Isa;
use tensor::{BufferPool, Context, GradientSum, Op, Shape, Sinks, Tensor};

/// Channels, pixels of one image, images: a small one, the square 1x1 convolutions at 224 and at 96 pixels, and the last block.
const POINTWISE: [(usize, usize, usize); 8] = [
    (96, 48, 1),
    (96, 5184, 1),
    (256, 1225, 1),
    (384, 289, 8),
    (10, 64, 8),
    (96, 841, 8),
    (256, 196, 8),
    (384, 36, 8),
];

/// Numbers in storage from the context's pool that nothing else shares.
fn numbers(context: &Context, shape: Shape) -> Tensor<f32> {
    let mut tensor = Tensor::empty_in(context.pool(), shape);
    let number = |index: usize| (index * 37 % 101) as f32 / 101.0 - 0.5;
    tensor.data_mut().iter_mut().enumerate().for_each(|(index, value)| *value = number(index));
    tensor
}

/// The output, `y = relu(w x + b)`, `dw = dy x^T` alone, and all of a layer's gradients: `g = dy where y > 0`, its sums, `dw = g
/// x^T` and `dx = w^T g`.
fn pointwise(c: &mut Criterion) {
    if let Some(isa) = std::env::var_os("NIN_ISA") {
        let isa: Isa = isa.to_string_lossy().parse().expect("NIN_ISA names an instruction set");
        isa.select().expect("nothing was computed yet");
    }
    let context = Context::training(BufferPool::new());
    let ours = (Isa::current().name(), ConvAlgorithm::Direct);
    for (channels, pixels, images) in POINTWISE {
        let (input, weight) = ([images, channels, 1, pixels], [channels, channels, 1, 1]);
        let op = |relu| Conv2d { relu, ..Conv2d::default() };
        let g = op(true).geometry(input.into(), weight.into()).expect("a pointwise convolution");
        let inputs =
            [g.input_shape(), g.weight_shape(), [channels].into()].map(|shape| numbers(&context, shape));
        let shape = format!("{channels}x{pixels}x{images}");
        for (name, conv) in [ours, ("matrixmultiply", ConvAlgorithm::Im2col)] {
            let context = Context { conv, ..context.clone() };
            let id = || BenchmarkId::new(name, &shape);

            let mut group = c.benchmark_group("pointwise_forward");
            group.throughput(Throughput::Elements(g.flops()));
            group.bench_function(id(), |b| {
                let context = Context { grad_enabled: false, ..context.clone() };
                b.iter(|| op(true).forward(&context, black_box(&inputs).to_vec()));
            });
            group.finish();

            for (pass, relu, products, wanted) in [
                ("pointwise_weight_gradient", false, 1, [None, Some(0), None]),
                ("pointwise_backward", true, 2, [Some(0), Some(1), Some(2)]),
            ] {
                let mut group = c.benchmark_group(pass);
                group.throughput(Throughput::Elements(products * g.flops()));
                group.bench_function(id(), |b| {
                    b.iter_batched(
                        || {
                            let (_, saved) = op(relu).forward(&context, inputs.to_vec());
                            (saved, numbers(&context, g.output_shape()))
                        },
                        |(saved, dy)| {
                            let mut sums = [GradientSum::new(), GradientSum::new(), GradientSum::new()];
                            op(relu).backward(&context, saved, dy, &mut Sinks::new(&mut sums, &wanted));
                            sums
                        },
                        BatchSize::PerIteration,
                    );
                });
                group.finish();
            }
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(std::time::Duration::from_secs(1));
    targets = pointwise
}
criterion_main!(benches);
