//! [`Tape`]: the record of a forward pass.

use std::cell::RefCell;
use std::fmt::Display;
use std::sync::Arc;

use tensor::{Context, Element, Op, Shape, ShapeError, Tensor};

use crate::error::AutogradError;
use crate::graph::{self, AnyOp, Backward, Source};
use crate::var::Var;

/// A value that a gradient passes through: a leaf, or the output of an op.
pub(crate) struct Recorded<T: Element> {
    /// For each input of the op, the node that made it, `None` if it needs no gradient.
    pub inputs: Vec<Option<usize>>,
    /// `None` for a leaf.
    pub backward: Option<Backward<T>>,
    /// The identity of a parameter.
    pub parameter: Option<u64>,
    pub shape: Shape,
}

pub(crate) struct Record<T: Element> {
    #[allow(clippy::vec_box, reason = "the list stays small while it grows: a step allocates nothing large")]
    pub nodes: Vec<Box<Recorded<T>>>,
    pub spent: bool,
    random_ops: u32,
    /// The place of the module that runs: `0.2`.
    path: String,
}

/// The record of one forward pass. A micro-batch has a tape of its own.
///
/// Values belong to the [`Var`]s; the tape keeps only what the ops' backward passes named ([`Op::Saved`]), and where the
/// context does not record ([`Context::evaluation`]) it keeps nothing at all.
pub struct Tape<T: Element> {
    context: Context,
    pub(crate) record: RefCell<Record<T>>,
    /// The nodes so far, if this tape traces a graph instead of computing values.
    trace: Option<RefCell<Vec<graph::Node<T>>>>,
}

impl<T: Element> Tape<T> {
    /// An empty tape over these surroundings.
    #[must_use]
    pub fn new(context: Context) -> Self {
        let record = Record { nodes: Vec::new(), spent: false, random_ops: 0, path: String::new() };
        Self { context, record: RefCell::new(record), trace: None }
    }

    /// A tape on which variables have shapes and no values.
    pub(crate) fn tracing(context: Context) -> Self {
        Self { trace: Some(RefCell::default()), ..Self::new(context) }
    }

    /// The input of the graph that is traced.
    pub(crate) fn input(&self, shape: Shape) -> Var<'_, T> {
        self.traced(Source::Input, Vec::new(), shape)
    }

    /// The nodes that were traced.
    pub(crate) fn into_trace(self) -> Vec<graph::Node<T>> {
        self.trace.map_or(Vec::new(), RefCell::into_inner)
    }

    /// A new node of the graph that is traced.
    fn traced(&self, source: Source<T>, inputs: Vec<usize>, shape: Shape) -> Var<'_, T> {
        let trace = self.trace.as_ref().expect("the tape traces");
        let path = self.record.borrow().path.clone();
        trace.borrow_mut().push(graph::Node { source, inputs, shape, path });
        Var::traced(self, shape, trace.borrow().len() - 1)
    }

    /// Tells whether a graph is traced: variables have shapes and no values.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.trace.is_some()
    }

    /// Runs a part of a module under its name, which nodes of a graph and errors of shapes then bear: a module within a module
    /// has a path such as `0.2`.
    pub fn scope<R>(&self, name: impl Display, work: impl FnOnce() -> R) -> R {
        let before = self.record.borrow().path.len();
        {
            use std::fmt::Write;
            let path = &mut self.record.borrow_mut().path;
            let point = if path.is_empty() { "" } else { "." };
            write!(path, "{point}{name}").expect("a string takes any text");
        }
        let result = work();
        self.record.borrow_mut().path.truncate(before);
        result
    }

    /// The error of an op, with the path of the module that applied it and the shape that it was given.
    fn located(&self, error: ShapeError, description: &str, input: Option<Shape>) -> ShapeError {
        let path = &self.record.borrow().path;
        match input {
            Some(input) if !path.is_empty() => {
                let message =
                    format!("layer {path}, {description}: {} (its input is {input})", error.message);
                ShapeError::new(error.op, message)
            }
            _ => error,
        }
    }

    /// Ends a trace in which a value is asked for.
    #[track_caller]
    pub(crate) fn refuse_value(&self) -> ! {
        let path = &self.record.borrow().path;
        let place = if path.is_empty() { String::new() } else { format!(" by layer {path}") };
        panic!(
            "a value is asked for{place} while a graph is traced, on shapes alone: a module whose control flow depends on values \
             runs on a `Tape` for each batch instead of a plan (in nin, `nn::gradients_of` hands the tape's gradients to an \
             optimizer, and docs/from-pytorch.md shows it)"
        );
    }

    /// The surroundings that ops on this tape run with.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The number of recorded nodes: 0 in evaluation.
    #[must_use]
    pub fn len(&self) -> usize {
        self.record.borrow().nodes.len()
    }

    /// Tells whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value that needs no gradient, such as a batch of images.
    pub fn constant(&self, value: Tensor<T>) -> Var<'_, T> {
        if self.is_tracing() {
            let shape = value.shape();
            return self.traced(Source::Constant(value), Vec::new(), shape);
        }
        Var::new(self, value, None)
    }

    /// A value whose gradient [`TapeGradients::get`](crate::TapeGradients::get) will answer.
    pub fn leaf(&self, value: Tensor<T>) -> Var<'_, T> {
        self.add_leaf(value, None)
    }

    /// A leaf with an identity that outlives the tape: the gradient is found by it
    /// ([`TapeGradients::parameter`](crate::TapeGradients::parameter)). Asked twice for one identity, the tape answers the same
    /// node, so a weight that is used in two places gets the sum of both gradients.
    pub fn parameter(&self, identity: u64, value: Tensor<T>) -> Var<'_, T> {
        if self.is_tracing() {
            return self.traced_parameter(identity, value.shape(), true);
        }
        let known = self.record.borrow().nodes.iter().position(|node| node.parameter == Some(identity));
        match known {
            Some(node) => Var::new(self, value, Some(node)),
            None => self.add_leaf(value, Some(identity)),
        }
    }

    /// A parameter that needs no gradient, such as one that is frozen or a running statistic: a constant, but for a graph, which
    /// takes its value anew for each run.
    pub fn frozen(&self, identity: u64, value: Tensor<T>) -> Var<'_, T> {
        if self.is_tracing() {
            return self.traced_parameter(identity, value.shape(), false);
        }
        self.constant(value)
    }

    fn traced_parameter(&self, identity: u64, shape: Shape, learns: bool) -> Var<'_, T> {
        let trace = self.trace.as_ref().expect("the tape traces");
        let known = trace.borrow().iter().position(|node| node.parameter() == Some(identity));
        match known {
            Some(node) => Var::traced(self, shape, node),
            None => self.traced(Source::Parameter { identity, learns }, Vec::new(), shape),
        }
    }

    fn add_leaf(&self, value: Tensor<T>, parameter: Option<u64>) -> Var<'_, T> {
        if self.is_tracing() {
            return self.constant(value);
        }
        if !self.context.grad_enabled {
            return Var::new(self, value, None);
        }
        let node = Recorded { inputs: Vec::new(), backward: None, parameter, shape: value.shape() };
        let node = self.push(node);
        Var::new(self, value, Some(node))
    }

    fn push(&self, node: Recorded<T>) -> usize {
        let nodes = &mut self.record.borrow_mut().nodes;
        nodes.push(Box::new(node));
        nodes.len() - 1
    }

    /// A number for the next op that draws random numbers, such as dropout: 0, 1, ... in the order of the forward pass.
    pub fn next_random_op(&self) -> u32 {
        let mut record = self.record.borrow_mut();
        record.random_ops += 1;
        record.random_ops - 1
    }

    /// Applies an op to inputs, of this tape or without a gradient, and records it if any of them needs a gradient.
    ///
    /// An input that has no other owner may be overwritten by the op: give away what you do not need, clone what you do
    /// (a clone is a reference count).
    ///
    /// # Errors
    /// [`AutogradError::Shape`] if the op refuses the shapes, [`AutogradError::OtherTape`] for an input of another tape.
    pub fn apply<'t>(
        &'t self,
        op: impl Op<T>,
        inputs: impl IntoIterator<Item = Var<'t, T>>,
    ) -> Result<Var<'t, T>, AutogradError> {
        self.apply_any(Arc::new(op), inputs.into_iter().collect())
    }

    /// [`Tape::apply`], compiled once for all ops.
    fn apply_any<'t>(
        &'t self,
        op: Arc<dyn AnyOp<T>>,
        inputs: Vec<Var<'t, T>>,
    ) -> Result<Var<'t, T>, AutogradError> {
        if inputs.iter().any(|input| !std::ptr::eq(input.tape(), self)) {
            return Err(AutogradError::OtherTape { op: op.name() });
        }
        let shapes: Vec<Shape> = inputs.iter().map(Var::shape).collect();
        let shape = op.output_shape(&shapes);
        let shape =
            shape.map_err(|error| self.located(error, &op.describe(&shapes), shapes.first().copied()))?;
        if self.is_tracing() {
            let inputs = inputs.iter().filter_map(Var::node).collect();
            return Ok(self.traced(Source::Op(op), inputs, shape));
        }
        let (values, nodes): (Vec<_>, Vec<_>) = inputs.into_iter().map(Var::into_parts).unzip();
        let recorded = self.context.grad_enabled && nodes.iter().any(Option::is_some);
        let (output, saved) = op.forward(&self.context, values);
        debug_assert_eq!(
            output.shape(),
            shape,
            "{}: the shape rule and the forward pass disagree",
            op.name()
        );
        let backward = Some(Backward { op, saved });
        let node = recorded.then(|| self.push(Recorded { inputs: nodes, backward, parameter: None, shape }));
        Ok(Var::new(self, output, node))
    }
}

impl<T: Element> std::fmt::Debug for Tape<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tape").field("nodes", &self.len()).field("context", &self.context).finish()
    }
}
