//! Every convolution of `nin` at 224 pixels, pass by pass, by each algorithm that can compute it: micro-batches of 4 images, one
//! core. After these, the 3x3 and 5x5 ones of the other networks and image sizes.
//!
//! Throughput is in floating-point operations of the *direct* convolution, two for each multiply-add: criterion's "Gelem/s" are
//! GFLOP/s of the work that the layer's definition asks for, whichever way it is done. Winograd's algorithm does fewer, so that
//! its figure can be above what the processor's multiply-add units can do.
//!
//! Bias and ReLU are part of the forward pass, ReLU's mask part of the gradients, as in the network. Weights are packed or
//! transformed once and kept, as a training step does for all its micro-batches: what that costs is in `once_per_step`.
//! Winograd's tiles for 3x3 and for 5x5 windows stand side by side. The first layer's input gradient is never needed in training.
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tensor::conv::{self, ConvAlgorithm, ConvGeometry, Tile};
use tensor::ops::Conv2d;
use tensor::{BufferPool, Context, GradientSum, Op, Shape, Sinks, Tensor};

const IMAGES: usize = 4;

/// Kernel, stride, input channels, output channels, size of the square input. Padding keeps the size, but for the stem's.
const LAYERS: [[usize; 5]; 13] = [
    [11, 3, 1, 96, 224],
    [1, 1, 96, 96, 72],
    [5, 1, 96, 256, 35],
    [1, 1, 256, 256, 35],
    [3, 1, 256, 384, 17],
    [1, 1, 384, 384, 17],
    [3, 1, 384, 10, 8],
    [1, 1, 10, 10, 8],
    // `nin-d2l` at 224 pixels, `nin` at 96, `nin-cifar` at 28.
    [5, 1, 96, 256, 26],
    [3, 1, 256, 384, 12],
    [5, 1, 96, 256, 14],
    [3, 1, 256, 384, 6],
    [5, 1, 192, 192, 14],
];

/// Groups, and then the same of 3x3 and 5x5 convolutions in groups.
const GROUPED: [(usize, [usize; 5]); 5] = [
    (4, [3, 1, 128, 128, 28]),
    (2, [5, 1, 96, 256, 26]),
    (8, [3, 1, 256, 256, 14]),
    (8, [3, 1, 128, 128, 28]),
    (32, [3, 1, 128, 128, 28]),
];

/// A layer, with its ReLU, and its sizes for so many images.
fn convolution(
    images: usize,
    groups: usize,
    [kernel, stride, c_in, c_out, size]: [usize; 5],
) -> (Conv2d, ConvGeometry) {
    let (input, weight) = ([images, c_in, size, size], [c_out, c_in / groups, kernel, kernel]);
    let padding = if stride == 1 { kernel / 2 } else { 0 };
    let op = Conv2d { stride: [stride; 2], padding: [padding; 2], groups, relu: true, ..Conv2d::default() };
    (op, op.geometry(input.into(), weight.into()).expect("the network's sizes fit"))
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

/// The tiles that there are for a geometry, as algorithms.
fn tiles(g: &ConvGeometry) -> impl Iterator<Item = ConvAlgorithm> {
    let tiles = Tile::ALL.into_iter().map(|tile| ConvAlgorithm::Winograd(Some(tile)));
    tiles.filter(|&path| conv::choose::<f32>(g, path) == path)
}

/// The algorithms that there are for a geometry.
fn paths(g: &ConvGeometry) -> impl Iterator<Item = ConvAlgorithm> {
    [ConvAlgorithm::Direct].into_iter().chain(tiles(g)).chain([ConvAlgorithm::Im2col])
}

fn layers(c: &mut Criterion) {
    for (groups, layer) in LAYERS.into_iter().map(|layer| (1, layer)).chain(GROUPED) {
        let ((op, g), [kernel, _, c_in, c_out, _]) = (convolution(IMAGES, groups, layer), layer);
        let mut name = format!("{kernel}x{kernel}_{c_in}_{c_out}_at_{}", g.output_shape()[2]);
        if groups > 1 {
            name += &format!("_in_{groups}");
        }
        let context = Context::training(BufferPool::new());
        let inputs = [g.input_shape(), g.weight_shape(), [c_out].into()].map(|shape| fresh(&context, shape));

        let mut group = c.benchmark_group("forward");
        group.throughput(Throughput::Elements(g.flops()));
        for path in paths(&g) {
            let context = Context { conv: path, grad_enabled: false, ..context.clone() };
            group.bench_function(BenchmarkId::new(path.to_string(), &name), |b| {
                b.iter(|| op.forward(&context, black_box(&inputs).to_vec()));
            });
        }
        group.finish();

        let passes =
            [("input_gradient", [Some(0), None, None]), ("weight_gradient", [None, Some(0), Some(1)])];
        for (pass, wanted) in passes {
            let mut group = c.benchmark_group(pass);
            group.throughput(Throughput::Elements(g.flops()));
            for path in paths(&g) {
                let context = Context { conv: path, ..context.clone() };
                group.bench_function(BenchmarkId::new(path.to_string(), &name), |b| {
                    b.iter_batched(
                        || (op.forward(&context, inputs.to_vec()).1, fresh(&context, g.output_shape())),
                        |(saved, dy)| {
                            let mut sums = [GradientSum::new(), GradientSum::new()];
                            op.backward(&context, saved, dy, &mut Sinks::new(&mut sums, &wanted));
                            sums.map(|sum| sum.finish(context.pool()))
                        },
                        BatchSize::PerIteration,
                    );
                });
            }
            group.finish();
        }
    }
}

/// The price of Winograd's algorithm that a step pays once per layer, whatever the batch: the weights' way into its domain, and
/// the way of their gradient out of it. Throughput is in weights.
fn once_per_step(c: &mut Criterion) {
    for (kernel, c_in, c_out, size) in [(5, 96, 256, 35), (3, 256, 384, 17)] {
        let of = |images| convolution(images, 1, [kernel, 1, c_in, c_out, size]);
        let (op, g) = of(1);
        let name = format!("{kernel}x{kernel}_{c_in}_{c_out}");
        let mut group = c.benchmark_group("once_per_step");
        group.throughput(Throughput::Elements(g.weight_shape().elements() as u64));
        for conv in tiles(&g) {
            let context = Context { conv, ..Context::training(BufferPool::new()) };
            let [x, mut w, nothing] = [g.input_shape(), g.weight_shape(), of(0).1.input_shape()]
                .map(|shape| fresh(&context, shape));
            group.bench_function(BenchmarkId::new(format!("prepare_{conv}"), &name), |b| {
                b.iter(|| {
                    // Changed weights and no images: what is left is the way into the domain.
                    black_box(w.data_mut());
                    let _ = op.forward(&context, vec![nothing.clone(), w.clone()]);
                });
            });
            group.bench_function(BenchmarkId::new(format!("finish_{conv}"), &name), |b| {
                b.iter_batched(
                    || {
                        let (saved, mut sums) =
                            (op.forward(&context, vec![x.clone(), w.clone()]).1, [GradientSum::new()]);
                        let sinks = &mut Sinks::new(&mut sums, &[None, Some(0)]);
                        op.backward(&context, saved, fresh(&context, g.output_shape()), sinks);
                        sums
                    },
                    |sums| sums.map(|sum| sum.finish(context.pool())),
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1)).sample_size(10);
    targets = layers, once_per_step
}
criterion_main!(benches);
