//! The public gradient check on every method of a variable, several geometries each, and on a small network in network.

use autograd::{AutogradError, Tape, Var, gradcheck};
use tensor::{Purpose, RandomStream, Shape, Tensor, ops};

type Output<'t> = Result<Var<'t, f64>, AutogradError>;

fn random(shape: impl Into<Shape>, seed: u64) -> Tensor<f64> {
    let mut stream = RandomStream::new(seed, 0, Purpose::Other(1), 0);
    Tensor::from_fn(shape, |_| 2.0 * stream.uniform() - 1.0)
}

/// Checks `function` at random inputs of these shapes.
fn check<F>(name: &str, shapes: &[&[usize]], function: F)
where
    F: for<'t> Fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Output<'t>,
{
    let inputs: Vec<_> = (1..).zip(shapes).map(|(seed, &shape)| random(shape, seed)).collect();
    let report = gradcheck(name, &inputs, function).unwrap_or_else(|error| panic!("{shapes:?}: {error}"));
    assert!(report.compared > 0, "{name}: nothing was compared");
}

#[test]
fn convolutions_and_linear() {
    let base = ops::Conv2d::default();
    for (op, x, w) in [
        (base, [2, 3, 4, 5], [4, 3, 1, 1]),
        (ops::Conv2d { stride: [3, 2], padding: [0, 1], ..base }, [2, 1, 11, 8], [2, 1, 5, 4]),
        (ops::Conv2d { padding: [2, 2], ..base }, [1, 2, 9, 7], [3, 2, 5, 5]),
        (ops::Conv2d { padding: [1, 1], relu: true, ..base }, [1, 2, 8, 8], [3, 2, 3, 3]),
        (ops::Conv2d { groups: 2, dilation: [2, 1], ..base }, [1, 4, 6, 5], [4, 2, 3, 2]),
    ] {
        check("conv2d", &[&x, &w], |_, v| v[0].clone().conv2d(v[1].clone(), None, op));
        check("conv2d", &[&x, &w, &[w[0]]], |_, v| v[0].clone().conv2d(v[1].clone(), Some(v[2].clone()), op));
    }
    check("linear", &[&[3, 5], &[4, 5]], |_, v| v[0].clone().linear(v[1].clone(), None));
    check("linear", &[&[3, 5], &[4, 5], &[4]], |_, v| v[0].clone().linear(v[1].clone(), Some(v[2].clone())));
}

#[test]
fn pooling() {
    let max = ops::MaxPool2d::new(3, 2);
    let average = ops::AvgPool2d::new(3, 2);
    for shape in [[2, 2, 7, 9], [1, 1, 36, 38], [1, 3, 6, 8]] {
        check("max_pool2d", &[&shape], |_, v| v[0].clone().max_pool2d(max));
        check("max_pool2d", &[&shape], |_, v| v[0].clone().max_pool2d(ops::MaxPool2d { relu: true, ..max }));
        check("max_pool2d", &[&shape], |_, v| {
            v[0].clone().max_pool2d(ops::MaxPool2d { padding: [1, 1], ceil_mode: true, ..max })
        });
        check("avg_pool2d", &[&shape], |_, v| v[0].clone().avg_pool2d(average));
        check("avg_pool2d", &[&shape], |_, v| {
            let op = ops::AvgPool2d { padding: [1, 0], ceil_mode: true, count_include_pad: false, ..average };
            v[0].clone().avg_pool2d(op)
        });
        for output in [[1, 1], [2, 3]] {
            check("adaptive_avg_pool2d", &[&shape], |_, v| v[0].clone().adaptive_avg_pool2d(output));
        }
    }
}

#[test]
fn elementwise_and_reductions() {
    for shape in [&[2, 3, 4, 5][..], &[7], &[]] {
        check("relu", &[shape], |_, v| v[0].clone().relu());
        check("sigmoid", &[shape], |_, v| v[0].clone().sigmoid());
        check("tanh", &[shape], |_, v| v[0].clone().tanh());
        check("gelu", &[shape], |_, v| v[0].clone().gelu(ops::Gelu::Erf));
        check("gelu", &[shape], |_, v| v[0].clone().gelu(ops::Gelu::Tanh));
        check("silu", &[shape], |tape, v| tape.apply(ops::Silu, [v[0].clone()]));
        check("hardswish", &[shape], |_, v| v[0].clone().hardswish());
        check("leaky_relu", &[shape], |_, v| v[0].clone().leaky_relu(0.1));
        check("scale", &[shape], |_, v| v[0].clone().scale(-1.5));
        check("sum", &[shape], |_, v| v[0].clone().sum(ops::Sum::default()));
        check("mean", &[shape], |_, v| v[0].clone().mean(ops::Mean::default()));
    }
    for [a, b] in [[&[2, 3, 4, 5][..], &[3, 1, 5]], [&[7], &[7]], [&[], &[2, 2]], [&[3, 1], &[1, 4]]] {
        check("add", &[a, b], |_, v| v[0].clone().add(v[1].clone()));
        check("mul", &[a, b], |_, v| v[0].clone().mul(v[1].clone()));
    }
    check("concat", &[&[2, 3, 4], &[2, 1, 4], &[2, 2, 4]], |_, v| {
        v[0].clone().concat(v[1..].iter().cloned(), 1)
    });
    check("concat", &[&[2, 3]], |_, v| v[0].clone().concat([v[0].clone()], 0));
    for groups in [1, 2, 4] {
        check("group_norm", &[&[2, 4, 3, 2], &[4], &[4]], |_, v| {
            v[0].clone().group_norm(v[1].clone(), v[2].clone(), ops::GroupNorm::new(groups))
        });
    }
    check("batch_norm2d", &[&[3, 2, 3, 2], &[2], &[2]], |_, v| {
        v[0].clone().batch_norm2d(v[1].clone(), v[2].clone(), None, ops::BatchNorm2d::default())
    });
    check("batch_norm2d", &[&[3, 2, 3, 2], &[2], &[2]], |tape, v| {
        let statistics = [0.3, 0.8].map(|value| tape.constant(Tensor::full([2], value)));
        v[0].clone().batch_norm2d(v[1].clone(), v[2].clone(), Some(statistics), ops::BatchNorm2d::default())
    });
    // An input that is used twice gets both gradients.
    check("square", &[&[2, 3]], |_, v| v[0].clone().mul(v[0].clone()));
    check("dropout", &[&[3, 2, 4, 5]], |_, v| v[0].clone().dropout(0.4));
    check("softmax", &[&[2, 3, 4]], |_, v| v[0].clone().softmax(ops::Softmax { axis: Some(1) }));
    check("flatten", &[&[2, 3, 4]], |_, v| v[0].clone().flatten());
    check("reshape", &[&[2, 3, 4]], |_, v| v[0].clone().reshape([6, 4]));
    check("sum", &[&[2, 3, 4]], |_, v| v[0].clone().sum(ops::Sum { axes: Some(vec![0, 2]), keepdim: true }));
    check("mean", &[&[2, 3, 4]], |_, v| v[0].clone().mean(ops::Mean { axes: Some(vec![1]), keepdim: false }));
    for label_smoothing in [0.0, 0.1] {
        check("softmax_cross_entropy", &[&[3, 5]], |tape, v| {
            let op = ops::SoftmaxCrossEntropy { label_smoothing, ..ops::SoftmaxCrossEntropy::default() };
            v[0].clone().softmax_cross_entropy(labels(tape, &[2.0, 0.0, 4.0]), op)
        });
    }
}

/// Class labels on a tape.
fn labels<'t>(tape: &'t Tape<f64>, labels: &[f64]) -> Var<'t, f64> {
    tape.constant(Tensor::from_slice([labels.len()], labels).unwrap())
}

/// A block of the paper: a convolution and two 1x1 convolutions, each followed by ReLU.
fn block<'t>(x: Var<'t, f64>, parameters: &[Var<'t, f64>], op: ops::Conv2d) -> Output<'t> {
    let pointwise = ops::Conv2d { relu: true, ..ops::Conv2d::default() };
    let layer = |x: Var<'t, f64>, at: usize, op| {
        x.conv2d(parameters[2 * at].clone(), Some(parameters[2 * at + 1].clone()), op)
    };
    layer(layer(layer(x, 0, op)?, 1, pointwise)?, 2, pointwise)
}

#[test]
fn a_small_network_in_network() {
    let block_of = |input: usize, output: usize, kernel: usize| -> Vec<Vec<usize>> {
        let pointwise = || [vec![output, output, 1, 1], vec![output]];
        [vec![output, input, kernel, kernel], vec![output]]
            .into_iter()
            .chain(pointwise())
            .chain(pointwise())
            .collect()
    };
    let mut shapes = vec![vec![2, 1, 19, 19]];
    shapes.extend(block_of(1, 4, 5));
    shapes.extend(block_of(4, 3, 3));
    let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    check("nin", &shapes, |tape, v| {
        let rectified = ops::Conv2d { relu: true, ..ops::Conv2d::default() };
        let x = block(v[0].clone(), &v[1..7], ops::Conv2d { stride: [2, 2], ..rectified })?;
        let x = x.max_pool2d(ops::MaxPool2d::new(3, 2))?.dropout(0.5)?;
        let x = block(x, &v[7..13], ops::Conv2d { padding: [1, 1], ..rectified })?;
        let logits = x.adaptive_avg_pool2d([1, 1])?.flatten()?;
        logits.softmax_cross_entropy(labels(tape, &[2.0, 0.0]), ops::SoftmaxCrossEntropy::default())
    });
}
