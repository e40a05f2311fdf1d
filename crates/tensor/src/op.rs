//! The contract that every op keeps.
//!
//! An op is a struct of its hyper-parameters with a shape rule, a forward pass that overwrites all of its output, and a
//! backward pass that gives each gradient that is wanted to its sink. Whoever made the sinks owns the sums and finishes them.

use std::fmt::Debug;

use crate::context::Context;
use crate::element::Element;
use crate::shape::{Shape, ShapeError, ensure};
use crate::sink::{GradientSum, Sinks};
use crate::tensor::Tensor;

/// A differentiable function of tensors. See the module's documentation, and `docs/adding-an-op.md` for an introduction.
pub trait Op<T: Element>: Debug + Send + Sync + 'static {
    /// Values of the forward pass for the backward pass: some of the inputs, the output, indices, or nothing.
    ///
    /// All else is freed or used again as soon as the forward pass is over.
    type Saved: Send + 'static;

    /// The name in errors and profiles, as PyTorch has it: `conv2d`, `max_pool2d`, ...
    const NAME: &'static str;

    /// The op with its settings, as errors and the summary of a network show it: `Conv2d(96, 256, 5x5, padding 2)`. The inputs
    /// may be some that [`Op::output_shape`] refuses.
    fn describe(&self, inputs: &[Shape]) -> String {
        let _ = inputs;
        Self::NAME.to_owned()
    }

    /// Floating-point operations of the forward pass, a multiplication and an addition counted one each, as if it were computed
    /// directly; 0 where they are negligible. The inputs have passed [`Op::output_shape`].
    fn flops(&self, inputs: &[Shape]) -> u64 {
        let _ = inputs;
        0
    }

    /// Tells whether the op looks across its batch: whether an output's entry along the first axis, that of the samples, depends
    /// on inputs' entries of other numbers. A batch is cut into micro-batches only for networks of ops that do not.
    ///
    /// `of_samples` says which inputs have the samples along their first axis; the others are parameters or constants. Unless
    /// written, an op looks across if one beyond the first has, as a weight that is made of the batch. The inputs have passed
    /// [`Op::output_shape`].
    fn looks_across(&self, inputs: &[Shape], of_samples: &[bool]) -> bool {
        let _ = inputs;
        of_samples.iter().skip(1).any(|&own| own)
    }

    /// The shape of the output for inputs of these shapes.
    ///
    /// # Errors
    /// [`ShapeError`], naming axes and sizes, if the inputs do not fit the op or each other.
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError>;

    /// Computes the output, all of it.
    ///
    /// The inputs are given away: one that has no other owner may be changed in place and become the output. They have
    /// passed [`Op::output_shape`]; if they have not, a panic is right. Where [`Context::grad_enabled`] is off, what is saved
    /// is dropped at once, so nothing need be computed for it alone.
    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Self::Saved);

    /// Adds the gradient with respect to each input that is wanted to its sink, from `dy`, that with respect to the output.
    ///
    /// A sink may hold a sum already, which an op only adds to.
    fn backward(&self, context: &Context, saved: Self::Saved, dy: Tensor<T>, sinks: &mut Sinks<'_, T>);

    /// The gradients of [`Op::backward`] by themselves: for each input `None` where it is not `wanted` or has no gradient.
    fn gradients(
        &self,
        context: &Context,
        saved: Self::Saved,
        dy: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        let backward = |sinks: &mut Sinks<'_, T>| self.backward(context, saved, dy, sinks);
        gradients_by_themselves(context, wanted, Box::new(backward))
    }
}

/// An op's backward pass into sinks.
type Backward<'a, T> = Box<dyn FnOnce(&mut Sinks<'_, T>) + 'a>;

/// [`Op::gradients`], compiled once for all ops.
fn gradients_by_themselves<T: Element>(
    context: &Context,
    wanted: &[bool],
    backward: Backward<'_, T>,
) -> Vec<Option<Tensor<T>>> {
    let mut sums: Vec<_> = wanted.iter().map(|_| GradientSum::new()).collect();
    let inputs: Vec<_> = wanted.iter().enumerate().map(|(input, &wanted)| wanted.then_some(input)).collect();
    backward(&mut Sinks::new(&mut sums, &inputs));
    sums.into_iter().map(|sum| sum.finish(context.pool())).collect()
}

/// A differentiable function of one tensor: an [`Op`] that counts its inputs, and computes a gradient only if it is wanted.
pub trait UnaryOp: Debug + Send + Sync + 'static {
    /// As [`Op::Saved`].
    type Saved<T: Element>: Send + 'static;

    /// As [`Op::NAME`].
    const NAME: &'static str;

    /// As [`Op::describe`].
    fn describe(&self) -> String {
        Self::NAME.to_owned()
    }

    /// As [`Op::looks_across`]. Unless written, the op does not, where the output has the samples along its first axis.
    fn looks_across(&self, input: Shape) -> bool {
        let _ = input;
        false
    }

    /// The shape of the output: that of the input, unless the op has a rule of its own.
    ///
    /// # Errors
    /// As [`Op::output_shape`].
    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }

    /// Computes the output, all of it, as [`Op::forward`] does.
    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Self::Saved<T>);

    /// Computes the gradient with respect to the input from `dy`, that with respect to the output.
    fn gradient<T: Element>(&self, context: &Context, saved: Self::Saved<T>, dy: Tensor<T>) -> Tensor<T>;
}

impl<T: Element, O: UnaryOp> Op<T> for O {
    type Saved = O::Saved<T>;

    const NAME: &'static str = O::NAME;

    fn describe(&self, _: &[Shape]) -> String {
        UnaryOp::describe(self)
    }

    fn looks_across(&self, inputs: &[Shape], _: &[bool]) -> bool {
        UnaryOp::looks_across(self, inputs[0])
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs(O::NAME, inputs, 1)?;
        self.shape(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, O::Saved<T>) {
        let [x] = <[Tensor<T>; 1]>::try_from(inputs).expect("the op takes one input");
        self.compute(context, x)
    }

    fn backward(&self, context: &Context, saved: O::Saved<T>, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        sinks.add(0, || self.gradient(context, saved, dy));
    }
}

/// Refuses any number of inputs but `expected`.
///
/// # Errors
/// [`ShapeError`] with both numbers.
pub fn expect_inputs(op: &'static str, inputs: &[Shape], expected: usize) -> Result<(), ShapeError> {
    ensure!(op, inputs.len() == expected, "expects {expected} inputs, found {}", inputs.len());
    Ok(())
}
