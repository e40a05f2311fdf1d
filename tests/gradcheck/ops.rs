//! The public gradient check on the methods of a variable. The tests of the ops check more geometries of each, those of the
//! networks whole networks.

use autograd::{AutogradError, Tape, Var, gradcheck};
use tensor::{Purpose, RandomStream, Shape, Tensor, ops};

type Output<'t> = Result<Var<'t, f64>, AutogradError>;

/// Checks `function` at random inputs of these shapes.
fn check<F>(name: &str, shapes: &[&[usize]], function: F)
where
    F: for<'t> Fn(&'t Tape<f64>, &[Var<'t, f64>]) -> Output<'t>,
{
    let random = |(seed, &shape)| {
        let mut stream = RandomStream::new(seed, 0, Purpose::Other(1), 0);
        Tensor::from_fn(Shape::new(shape), |_| 2.0 * stream.uniform() - 1.0)
    };
    let inputs: Vec<_> = (1..).zip(shapes).map(random).collect();
    let report = gradcheck(name, &inputs, function).unwrap_or_else(|error| panic!("{shapes:?}: {error}"));
    assert_eq!(report.zero_gradients, 0, "{name}: an input has a gradient of zeros");
}

#[test]
fn layers() {
    let op = ops::Conv2d { groups: 2, stride: [3, 2], padding: [0, 1], ..ops::Conv2d::default() };
    let (x, w): (&[usize], &[usize]) = (&[2, 4, 8, 9], &[6, 2, 3, 2]);
    check("conv2d", &[x, w], |_, v| v[0].clone().conv2d(v[1].clone(), None, op));
    check("conv2d", &[x, w, &[6]], |_, v| v[0].clone().conv2d(v[1].clone(), Some(v[2].clone()), op));
    check("linear", &[&[3, 5], &[4, 5]], |_, v| v[0].clone().linear(v[1].clone(), None));
    check("linear", &[&[3, 5], &[4, 5], &[4]], |_, v| v[0].clone().linear(v[1].clone(), Some(v[2].clone())));
    check("max_pool2d", &[x], |tape, v| tape.apply(ops::MaxPool2d::new(3, 2), [v[0].clone()]));
    check("avg_pool2d", &[x], |tape, v| tape.apply(ops::AvgPool2d::new(3, 2), [v[0].clone()]));
    check("adaptive_avg_pool2d", &[x], |tape, v| {
        tape.apply(ops::AdaptiveAvgPool2d { output: [2, 3] }, [v[0].clone()])
    });
    check("group_norm", &[x, &[4], &[4]], |_, v| {
        v[0].clone().group_norm(v[1].clone(), v[2].clone(), ops::GroupNorm::new(2))
    });
    for evaluation in [false, true] {
        check("batch_norm2d", &[x, &[4], &[4]], |tape, v| {
            let statistics = [0.3, 0.8].map(|value| tape.constant(Tensor::full([4], value)));
            let statistics = evaluation.then_some(statistics);
            v[0].clone().batch_norm2d(v[1].clone(), v[2].clone(), statistics, ops::BatchNorm2d::default())
        });
    }
    check("dropout", &[x], |_, v| v[0].clone().dropout(0.4));
}

#[test]
fn elementwise_reductions_and_loss() {
    let shape: &[usize] = &[2, 3, 4];
    check("relu", &[shape], |_, v| v[0].clone().relu());
    check("sigmoid", &[shape], |tape, v| tape.apply(ops::Sigmoid, [v[0].clone()]));
    check("tanh", &[shape], |tape, v| tape.apply(ops::Tanh, [v[0].clone()]));
    check("gelu", &[shape], |tape, v| tape.apply(ops::Gelu::Erf, [v[0].clone()]));
    check("gelu", &[shape], |tape, v| tape.apply(ops::Gelu::Tanh, [v[0].clone()]));
    check("silu", &[shape], |tape, v| tape.apply(ops::Silu, [v[0].clone()]));
    check("hardswish", &[shape], |tape, v| tape.apply(ops::Hardswish, [v[0].clone()]));
    check("leaky_relu", &[shape], |tape, v| tape.apply(ops::LeakyRelu { slope: 0.1 }, [v[0].clone()]));
    check("scale", &[shape], |_, v| v[0].clone().scale(-1.5));
    check("sum", &[shape], |_, v| v[0].clone().sum(ops::Sum { axes: Some(vec![0, 2]), keepdim: true }));
    check("mean", &[shape], |_, v| v[0].clone().mean(ops::Mean { axes: Some(vec![1]), keepdim: false }));
    check("add", &[shape, &[3, 1]], |_, v| v[0].clone().add(v[1].clone()));
    check("sub", &[shape, &[3, 1]], |_, v| v[0].clone().sub(v[1].clone()));
    check("abs", &[shape], |_, v| v[0].clone().abs());
    check("exp", &[shape], |_, v| v[0].clone().exp());
    check("log", &[shape], |_, v| v[0].clone().exp()?.log());
    check("mul", &[shape, &[3, 1]], |_, v| v[0].clone().mul(v[1].clone()));
    // An input that is used twice gets both gradients.
    check("square", &[shape], |_, v| v[0].clone().mul(v[0].clone()));
    check("concat", &[shape, &[2, 1, 4]], |_, v| v[0].clone().concat([v[1].clone(), v[0].clone()], 1));
    check("softmax", &[shape], |tape, v| tape.apply(ops::Softmax { axis: Some(1) }, [v[0].clone()]));
    check("flatten", &[shape], |_, v| v[0].clone().flatten());
    check("reshape", &[shape], |_, v| v[0].clone().reshape([6, 4]));
    check("softmax_cross_entropy", &[&[3, 5]], |tape, v| {
        let labels = tape.constant(Tensor::from_slice([3], &[2.0, 0.0, 4.0])?);
        v[0].clone().softmax_cross_entropy(labels, ops::SoftmaxCrossEntropy::default())
    });
}
