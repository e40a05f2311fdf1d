//! [`Graph`]: the forward pass of a module, traced once on shapes alone.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use tensor::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor};

use crate::error::AutogradError;
use crate::tape::Tape;
use crate::var::Var;

/// Values that an op saved for its backward pass.
pub(crate) type Saved = Box<dyn Any + Send>;

/// An [`Op`] behind a pointer, with what it saved behind one, too.
pub(crate) trait AnyOp<T: Element>: Any + Debug + Send + Sync {
    fn name(&self) -> &'static str;
    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError>;
    fn describe(&self, inputs: &[Shape]) -> String;
    fn looks_across(&self, inputs: &[Shape], of_samples: &[bool]) -> bool;
    fn flops(&self, inputs: &[Shape]) -> u64;
    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved);
    fn backward(&self, context: &Context, saved: Saved, gradient: Tensor<T>, sinks: &mut Sinks<'_, T>);
}

impl<T: Element, O: Op<T>> AnyOp<T> for O {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        Op::output_shape(self, inputs)
    }

    fn describe(&self, inputs: &[Shape]) -> String {
        Op::describe(self, inputs)
    }

    fn looks_across(&self, inputs: &[Shape], of_samples: &[bool]) -> bool {
        Op::looks_across(self, inputs, of_samples)
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        Op::flops(self, inputs)
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved) {
        let (output, saved) = Op::forward(self, context, inputs);
        // Dropped at once where no backward pass will come: it may be large, and the next op may write over it.
        let saved: Saved = if context.grad_enabled { Box::new(saved) } else { Box::new(()) };
        (output, saved)
    }

    fn backward(&self, context: &Context, saved: Saved, gradient: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let saved = saved.downcast().expect("the op saved it itself");
        Op::backward(self, context, *saved, gradient, sinks);
    }
}

/// The origin of a [`Node`]'s value.
#[derive(Debug, Clone)]
pub(crate) enum Source<T: Element> {
    /// The input of the graph.
    Input,
    /// A parameter, by its identity, and whether it gets a gradient.
    Parameter { identity: u64, learns: bool },
    /// A tensor that the module brought along.
    Constant(Tensor<T>),
    /// An op applied to earlier nodes.
    Op(Arc<dyn AnyOp<T>>),
}

/// A value of a [`Graph`]: the input, a parameter, a constant, or the output of an op.
#[derive(Debug, Clone)]
pub struct Node<T: Element> {
    pub(crate) source: Source<T>,
    pub(crate) inputs: Vec<usize>,
    pub(crate) shape: Shape,
    pub(crate) path: String,
}

impl<T: Element> Node<T> {
    /// The shape of the value.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The place in the module that applied the op ([`Tape::scope`]): `0.2`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The numbers of the op's inputs among the [nodes](Graph::nodes), all lower than its own; empty if it is no op.
    #[must_use]
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// The identity of the parameter, if it is one.
    #[must_use]
    pub fn parameter(&self) -> Option<u64> {
        match self.source {
            Source::Parameter { identity, .. } => Some(identity),
            _ => None,
        }
    }

    /// The tensor that the module brought along, if it is one.
    #[must_use]
    pub fn constant(&self) -> Option<&Tensor<T>> {
        match &self.source {
            Source::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// Tells whether it is the input of the graph.
    #[must_use]
    pub fn is_input(&self) -> bool {
        matches!(self.source, Source::Input)
    }

    /// Tells whether it is the output of an op.
    #[must_use]
    pub fn is_op(&self) -> bool {
        matches!(self.source, Source::Op(_))
    }

    /// The op, if it is one of this type.
    #[must_use]
    pub fn op<O: Op<T>>(&self) -> Option<&O> {
        match &self.source {
            Source::Op(op) => (&**op as &dyn Any).downcast_ref(),
            _ => None,
        }
    }
}

/// The number of the input among the nodes of a graph: it is traced first.
pub(crate) const INPUT: usize = 0;

/// The ops of a forward pass, each with the shape of its output, in an order in which they can be computed.
///
/// It belongs to one shape of input, N x C x H x W, and holds no values but constants: parameters are named by their identity.
#[derive(Debug, Clone)]
pub struct Graph<T: Element> {
    pub(crate) nodes: Vec<Node<T>>,
    pub(crate) output: usize,
}

impl<T: Element> Graph<T> {
    /// Traces `forward`: runs it once on a variable that has a shape and no value, in surroundings that say whether it is for
    /// training.
    ///
    /// # Errors
    /// [`AutogradError`] if a shape does not fit or the output is of another tape.
    pub fn trace(
        context: &Context,
        input: impl Into<Shape>,
        forward: impl for<'t> FnOnce(Var<'t, T>) -> Result<Var<'t, T>, AutogradError>,
    ) -> Result<Self, AutogradError> {
        let tape = Tape::tracing(context.clone());
        let output = forward(tape.input(input.into()))?;
        if !std::ptr::eq(output.tape(), &raw const tape) {
            return Err(AutogradError::OtherTape { op: "trace" });
        }
        let output = output.node().expect("every variable of a tape that traces is a node");
        Ok(Self { nodes: tape.into_trace(), output })
    }

    /// The nodes, each after its inputs. The first is the input of the graph.
    #[must_use]
    pub fn nodes(&self) -> &[Node<T>] {
        &self.nodes
    }

    /// The number of the input among the [nodes](Graph::nodes).
    #[must_use]
    pub fn input(&self) -> usize {
        INPUT
    }

    /// The number of the output among the [nodes](Graph::nodes).
    #[must_use]
    pub fn output(&self) -> usize {
        self.output
    }

    /// The shape of the output.
    #[must_use]
    pub fn output_shape(&self) -> Shape {
        self.nodes[self.output].shape
    }

    /// The shapes of the inputs of node `index`.
    #[must_use]
    pub fn input_shapes(&self, index: usize) -> Vec<Shape> {
        self.nodes[index].inputs.iter().map(|&input| self.nodes[input].shape).collect()
    }

    /// The op of node `index` with its settings: `Conv2d(96, 256, 5x5, padding 2)`. Empty if it is no op.
    #[must_use]
    pub fn describe(&self, index: usize) -> String {
        match &self.nodes[index].source {
            Source::Op(op) => op.describe(&self.input_shapes(index)),
            _ => String::new(),
        }
    }

    /// Floating-point operations of node `index` in the forward pass ([`Op::flops`]).
    #[must_use]
    pub fn flops(&self, index: usize) -> u64 {
        match &self.nodes[index].source {
            Source::Op(op) => op.flops(&self.input_shapes(index)),
            _ => 0,
        }
    }

    /// Tells whether the module looks across its batch, so that the samples' outputs for a batch are not those for parts of it:
    /// whether a value that depends on the input no longer has the samples along its first axis, so many entries for each, or
    /// an op looks across them ([`Op::looks_across`]). An op at which a batch meets ([`Plan::meets`](crate::Plan::meets)) is not
    /// meant.
    #[must_use]
    pub fn looks_across(&self) -> bool {
        let samples = self.nodes[INPUT].shape.first().copied().unwrap_or(1);
        let apart = |shape: Shape| shape.first().is_some_and(|rows| rows.is_multiple_of(samples));
        let mut depends = vec![false; self.nodes.len()];
        self.nodes.iter().enumerate().any(|(index, node)| {
            let of_samples: Vec<bool> = node.inputs.iter().map(|&input| depends[input]).collect();
            depends[index] = index == INPUT || of_samples.contains(&true);
            let crosses = |op: &Arc<dyn AnyOp<T>>| op.looks_across(&self.input_shapes(index), &of_samples);
            depends[index] && (!apart(node.shape) || matches!(&node.source, Source::Op(op) if crosses(op)))
        })
    }

    /// For each node those that read it, in their order, once for each use. The output is read by one beyond all nodes, too.
    #[must_use]
    pub fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|&input| readers[input].push(index));
        }
        readers[self.output].push(self.nodes.len());
        readers
    }

    /// The output of node `index`, an op, for these inputs. `context` says whether a backward pass will follow: it is the
    /// answer's second part.
    ///
    /// # Panics
    /// If the node is no op, or the inputs do not have the shapes of [`Graph::input_shapes`].
    pub fn apply(&self, index: usize, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Backward<T>) {
        let Source::Op(op) = &self.nodes[index].source else { panic!("node {index} is no op") };
        assert!(inputs.iter().map(Tensor::shape).eq(self.input_shapes(index)), "inputs of node {index}");
        let (output, saved) = op.forward(context, inputs);
        (output, Backward { op: Arc::clone(op), saved })
    }
}

/// The backward pass of one op ([`Graph::apply`]).
#[derive(Debug)]
pub struct Backward<T: Element> {
    pub(crate) op: Arc<dyn AnyOp<T>>,
    pub(crate) saved: Saved,
}

impl<T: Element> Backward<T> {
    /// Adds the gradient of each input that is wanted to its sink, from that of the output.
    ///
    /// # Panics
    /// If the context of the forward pass did not say that this would follow.
    pub fn run(self, context: &Context, gradient: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        self.op.backward(context, self.saved, gradient, sinks);
    }
}

#[cfg(test)]
mod tests {
    use tensor::ops;

    use super::*;

    /// A mean over the samples looks across them, wherever the samples are the first axis; not so one of a parameter.
    #[test]
    fn what_looks_across_its_batch() {
        type Forward = for<'t> fn(Var<'t, f32>) -> Result<Var<'t, f32>, AutogradError>;
        let cases: [(&str, bool, Forward); 18] = [
            ("as it is", false, |x| Ok(x)),
            ("mean over features", false, |x| x.mean(ops::Mean { axes: Some(vec![1, 2]), keepdim: false })),
            ("mean over samples", true, |x| x.mean(ops::Mean { axes: Some(vec![0]), keepdim: true })),
            // It is 4 x 5: as many features as samples.
            ("mean over as many", true, |x| x.mean(ops::Mean { axes: Some(vec![0]), keepdim: false })),
            ("mean over all", true, |x| x.mean(ops::Mean::default())),
            ("mean of a constant", false, |x| {
                let one = x.tape().constant(Tensor::zeros([4, 5])).mean(ops::Mean::default())?;
                x.add(one)
            }),
            ("mean of a sample's parts", false, |x| {
                x.reshape([16, 5])?.mean(ops::Mean { axes: Some(vec![1]), keepdim: false })
            }),
            ("parts and back", false, |x| x.reshape([16, 5])?.relu()?.reshape([4, 4, 5])),
            ("reshape", true, |x| x.reshape([1, 16, 5])),
            ("softmax of features", false, |x| x.tape().apply(ops::Softmax::default(), [x])),
            ("softmax of samples", true, |x| x.tape().apply(ops::Softmax { axis: Some(0) }, [x])),
            ("channels together", false, |x| x.tape().apply(ops::Concat::default(), [x.clone(), x.clone()])),
            ("samples together", true, |x| x.tape().apply(ops::Concat { axis: 0 }, [x.clone(), x.clone()])),
            ("gates", false, |x| x.clone().mul(x.relu()?)),
            ("gates of samples, broadcast", false, |x| {
                let gates = x.clone().mean(ops::Mean { axes: Some(vec![1, 2]), keepdim: true })?;
                x.mul(gates)
            }),
            ("each pair of samples", true, |x| {
                let y = x.mean(ops::Mean { axes: Some(vec![1, 2]), keepdim: false })?;
                y.clone().reshape([4, 1])?.sub(y)
            }),
            ("similarities", true, |x| {
                let rows = x.reshape([4, 20])?;
                rows.clone().linear(rows, None)
            }),
            ("a loss", true, |x| x.clone().mse_loss(x, ops::MseLoss::default())),
        ];
        for (name, expected, forward) in cases {
            let graph = Graph::trace(&Context::default(), [4, 4, 5], forward).unwrap();
            assert_eq!(graph.looks_across(), expected, "{name}");
        }
    }
}
