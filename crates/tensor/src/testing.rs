//! Inputs for the ops' tests, and a central-difference check of a backward pass.

use crate::{BufferPool, Context, Element, Op, Purpose, RandomStream, Shape, Tensor};

impl<T: Element> Tensor<T> {
    /// The same values in another element type, each rounded to the nearest.
    pub(crate) fn cast<U: Element>(&self) -> Tensor<U> {
        let data = self.data();
        Tensor::from_fn(self.shape(), |index| U::from_f64(data[index].to_f64()))
    }
}

/// A training context whose pool hands out NaN, so that an element an op forgot to write is seen.
pub(crate) fn poisoned() -> Context {
    Context::training(BufferPool::poisoning())
}

/// Uniform numbers in [-1, 1).
pub(crate) fn random(shape: impl Into<Shape>, seed: u64) -> Tensor<f64> {
    let mut stream = RandomStream::new(seed, 0, Purpose::Other(7), 0);
    Tensor::from_fn(shape, |_| 2.0 * stream.uniform() - 1.0)
}

/// Distinct numbers at least 0.01 apart and at least 0.005 from 0, in random order: no step of the check crosses a kink.
pub(crate) fn distinct(shape: impl Into<Shape>, seed: u64) -> Tensor<f64> {
    let shape = shape.into();
    let order = RandomStream::new(seed, 0, Purpose::Other(8), 0).permutation(shape.elements());
    let middle = shape.elements() as f64 / 2.0;
    Tensor::from_fn(shape, |i| 0.01 * (order[i] as f64 - middle.floor() + 0.5))
}

/// The error of `op` for inputs of these shapes.
pub(crate) fn refusal(op: &impl Op<f32>, inputs: &[&[usize]]) -> String {
    let inputs: Vec<Shape> = inputs.iter().map(|&shape| Shape::new(shape)).collect();
    op.output_shape(&inputs).unwrap_err().to_string()
}

/// Compares every gradient of `op` with central differences of `sum of c y`, c random, for the `checked` inputs.
pub(crate) fn check_some_gradients(op: &impl Op<f64>, inputs: &[Tensor<f64>], checked: &[bool]) {
    let context = poisoned();
    let shapes: Vec<Shape> = inputs.iter().map(Tensor::shape).collect();
    let output_shape = op.output_shape(&shapes).unwrap();
    let output = |inputs| {
        let (output, _) = op.forward(&context, inputs);
        assert_eq!(output.shape(), output_shape, "{op:?}: the shape rule and the output differ");
        output
    };
    let gradients = |weights| {
        let (_, saved) = op.forward(&context, inputs.to_vec());
        op.gradients(&context, saved, weights, checked)
    };
    compare_gradients(&format!("{op:?}"), inputs, checked, &output, &gradients);
}

/// [`check_some_gradients`], compiled once for all ops: `output` is computed of inputs, `gradients` of the output's.
fn compare_gradients(
    op: &str,
    inputs: &[Tensor<f64>],
    checked: &[bool],
    output: &dyn Fn(Vec<Tensor<f64>>) -> Tensor<f64>,
    gradients: &dyn Fn(Tensor<f64>) -> Vec<Option<Tensor<f64>>>,
) {
    const STEP: f64 = 1e-5;
    let y = output(inputs.to_vec());
    assert!(y.data().iter().all(|y| y.is_finite()), "{op}: an output element was not written");
    let weights = random(y.shape(), 99);
    let gradients = gradients(weights.clone());
    let objective =
        |inputs| -> f64 { output(inputs).data().iter().zip(weights.data()).map(|(y, c)| y * c).sum() };
    for (number, input) in inputs.iter().enumerate() {
        if !checked[number] {
            assert!(
                gradients.get(number).is_none_or(Option::is_none),
                "{op}: gradient {number} was not asked for"
            );
            continue;
        }
        let gradient = gradients[number].as_ref().unwrap_or_else(|| panic!("{op}: no gradient {number}"));
        assert_eq!(gradient.shape(), input.shape(), "{op}: shape of gradient {number}");
        for index in 0..input.len() {
            let at = |step: f64| {
                let mut moved = inputs.to_vec();
                moved[number].data_mut()[index] += step;
                objective(moved)
            };
            let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let found = gradient.data()[index];
            assert!(
                (found - expected).abs() <= 1e-7 * (1.0 + expected.abs()),
                "{op}: gradient {number} at {index} is {found}, central differences say {expected}"
            );
        }
    }
}

/// The gradients of a function of two tensors of shapes that broadcast, and of the first or the second alone.
pub(crate) fn check_broadcast_gradients(op: &impl Op<f64>) {
    let shapes: [[&[usize]; 2]; 5] =
        [[&[2, 3, 2, 2], &[3, 1, 1]], [&[3, 1], &[2, 1, 4]], [&[], &[2, 2]], [&[4], &[4]], [&[1, 4], &[4]]];
    for [a, b] in shapes {
        let inputs = [random(a, 1), random(b, 2)];
        check_gradients(op, &inputs);
        check_some_gradients(op, &inputs, &[false, true]);
        check_some_gradients(op, &inputs, &[true, false]);
    }
}

/// [`check_some_gradients`] for all inputs; and none of them is computed when none is asked for.
pub(crate) fn check_gradients<O: Op<f64>>(op: &O, inputs: &[Tensor<f64>]) {
    check_some_gradients(op, inputs, &vec![true; inputs.len()]);
    check_some_gradients(op, inputs, &vec![false; inputs.len()]);
}
