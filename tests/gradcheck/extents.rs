//! Extents of zero and one: what the rule of an op's shapes lets pass is computed, forward and backward, without a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tensor::ops::*;
use tensor::{BufferPool, Context, Element, Op, Shape, Tensor};

/// Forward and backward passes of an op: the shape of its output, and the gradients of all inputs.
type Passes<'a, T> = dyn Fn(&Context, Vec<Tensor<T>>, Tensor<T>) -> (Shape, Vec<Option<Tensor<T>>>) + 'a;

/// Computes the op, its shapes and its gradients', unless its rule refuses the inputs.
fn pass<T: Element, O: Op<T>>(op: &O, shapes: &[Shape]) -> bool {
    let Ok(expected) = op.output_shape(shapes) else { return false };
    let passes = |context: &Context, inputs, dy| {
        let _ = (op.describe(shapes), op.flops(shapes));
        let (y, saved) = op.forward(context, inputs);
        (y.shape(), op.gradients(context, saved, dy, &vec![true; shapes.len()]))
    };
    compute(O::NAME, shapes, expected, &passes);
    true
}

/// [`pass`] of inputs that the rule lets pass, compiled once for all ops.
fn compute<T: Element>(name: &str, shapes: &[Shape], expected: Shape, passes: &Passes<'_, T>) {
    let work = || {
        for conv in ["auto", "naive", "im2col", "direct", "winograd"] {
            let mut context = Context::training(BufferPool::new());
            context.conv = conv.parse().unwrap();
            let inputs = shapes.iter().map(|&shape| Tensor::full(shape, T::from_f64(0.0))).collect();
            let (y, gradients) = passes(&context, inputs, Tensor::full(expected, T::from_f64(1.0)));
            assert_eq!(y, expected);
            for (gradient, &shape) in gradients.iter().zip(shapes) {
                assert!(gradient.as_ref().is_none_or(|gradient| gradient.shape() == shape));
            }
            // What is asked for matters to convolutions in f32 alone.
            if !["conv2d", "mlp_conv"].contains(&name) || size_of::<T>() != size_of::<f32>() {
                break;
            }
        }
    };
    assert!(catch_unwind(AssertUnwindSafe(work)).is_ok(), "{name} of {shapes:?}");
}

/// Both element types.
fn both(op: &(impl Op<f32> + Op<f64>), shapes: &[&[usize]]) -> bool {
    let shapes: Vec<Shape> = shapes.iter().map(|&shape| Shape::new(shape)).collect();
    pass::<f64, _>(op, &shapes);
    pass::<f32, _>(op, &shapes)
}

/// All shapes of so many axes whose extents are among these.
fn shapes(axes: u32, extents: &[usize]) -> Vec<Vec<usize>> {
    let digit = |number: usize, axis| extents[number / extents.len().pow(axis) % extents.len()];
    (0..extents.len().pow(axes)).map(|number| (0..axes).map(|axis| digit(number, axis)).collect()).collect()
}

#[test]
fn convolutions() {
    let mut passed = 0;
    for x in shapes(4, &[0, 1, 9]) {
        for (o, kernel) in [0, 1, 16]
            .into_iter()
            .flat_map(|o| [[0, 1], [1, 1], [1, 3], [3, 3], [5, 5]].map(|kernel| (o, kernel)))
        {
            for (groups, stride, padding) in
                [(1, 1, 0), (1, 1, 1), (1, 2, 2), (x[1], 1, 1), (2, 1, 0), (0, 1, 0)]
            {
                let o = o * groups.max(1);
                let w = [o, x[1].checked_div(groups).unwrap_or(0), kernel[0], kernel[1]];
                let [stride, padding] = [[stride; 2], [padding; 2]];
                let op = Conv2d { groups, stride, padding, relu: stride == [2; 2], ..Conv2d::default() };
                passed += usize::from(both(&op, &[&x, &w]));
                both(&op, &[&x, &w, &[o]]);
                let pointwise = Conv2d { relu: true, ..Conv2d::default() };
                let chain = MlpConv { layers: vec![op, pointwise, pointwise] };
                both(&chain, &[&x, &w, &[o], &[1, o, 1, 1], &[1], &[2, 1, 1, 1], &[2]]);
            }
        }
    }
    assert!(passed > 500, "{passed}");
}

#[test]
fn pools_and_normalizations() {
    let mut passed = 0;
    for x in shapes(4, &[0, 1, 2, 5]) {
        for (kernel, stride, padding) in [(1, 1, 0), (2, 2, 1), (3, 1, 1), (0, 1, 0), (2, 0, 0)] {
            for ceil_mode in [false, true] {
                let max = MaxPool2d { padding: [padding; 2], ceil_mode, ..MaxPool2d::new(kernel, stride) };
                let avg = AvgPool2d { padding: [padding; 2], ceil_mode, ..AvgPool2d::new(kernel, stride) };
                passed += usize::from(both(&max, &[&x])) + usize::from(both(&avg, &[&x]));
            }
        }
        for output in [[0, 1], [1, 1], [2, 3]] {
            passed += usize::from(both(&AdaptiveAvgPool2d { output }, &[&x]));
        }
        let c: &[usize] = &[x[1]];
        for groups in [0, 1, 2, 5] {
            passed += usize::from(both(&GroupNorm::new(groups), &[&x, c, c]));
        }
        let norm = BatchNorm2d::default();
        passed += usize::from(both(&norm, &[&x, c, c])) + usize::from(both(&norm, &[&x, c, c, c, c]));
    }
    assert!(passed > 1000, "{passed}");
}

#[test]
fn all_others() {
    let mut passed = 0;
    let all: Vec<Vec<usize>> = (0..=4).flat_map(|axes| shapes(axes, &[0, 1, 3])).collect();
    for x in &all {
        let x: &[usize] = x;
        both(&Abs, &[x]);
        both(&Exp, &[x]);
        both(&Log, &[x]);
        both(&Relu, &[x]);
        both(&Sigmoid, &[x]);
        both(&Tanh, &[x]);
        both(&Gelu::Erf, &[x]);
        both(&Gelu::Tanh, &[x]);
        both(&Silu, &[x]);
        both(&Hardswish, &[x]);
        both(&LeakyRelu { slope: 0.1 }, &[x]);
        both(&Rsqrt { eps: 1.0 }, &[x]);
        both(&Scale { factor: 2.0 }, &[x]);
        both(&Dropout { p: 0.5, layer: 0 }, &[x]);
        both(&Flatten, &[x]);
        both(&Reshape { shape: Shape::from([0, 3]) }, &[x]);
        both(&Reshape { shape: Shape::from([1, 3, 1]) }, &[x]);
        both(&MseLoss::default(), &[x, x]);
        both(&BceWithLogits::default(), &[x, x]);
        let axes = [None].into_iter().chain((0..4).map(Some));
        for axis in axes {
            passed += usize::from(both(&Softmax { axis }, &[x]));
            for keepdim in [false, true] {
                both(&Sum { axes: axis.map(|axis| vec![axis]), keepdim }, &[x]);
                both(&Mean { axes: axis.map(|axis| vec![axis]), keepdim }, &[x]);
            }
        }
        for axes in [vec![], vec![0, 1]] {
            both(&Sum { axes: Some(axes.clone()), keepdim: false }, &[x]);
            both(&Mean { axes: Some(axes), keepdim: true }, &[x]);
        }
        for y in &all {
            passed += usize::from(both(&Add, &[x, y])) + usize::from(both(&Mul, &[x, y]));
            assert_eq!(both(&Sub, &[x, y]), both(&Add, &[x, y]));
            for axis in 0..=x.len() {
                both(&Concat { axis }, &[x, y, x]);
            }
            both(&Linear, &[x, y]);
            both(&Linear, &[x, y, &y[..y.len().min(1)]]);
            both(&SoftmaxCrossEntropy::default(), &[x, y]);
        }
    }
    assert!(passed > 1000, "{passed}");
}
