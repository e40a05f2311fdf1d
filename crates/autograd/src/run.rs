//! [`Bound`]: a [`Plan`] with the values of its parameters, which is run, forward and back, by micro-batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use tensor::ops::Moments;
use tensor::ops::batch_norm2d::{self, ChannelSums};
use tensor::{Context, Element, GradientSum, GradientSums, Sinks, Tensor};

use crate::graph::{INPUT, Saved, Source};
use crate::plan::Plan;

/// Values while a plan runs, by the numbers of their nodes. Each is given away by its last use, so that the op may write over it.
type Values<T> = BTreeMap<usize, Tensor<T>>;

const KEPT: &str = "the forward pass ran in a context that keeps what backward needs";
const OWN: &str = "the op saved it itself";

/// The share that a micro-batch brings to an op at which its batch meets, such as batch normalization.
///
/// A pass over a micro-batch stops there and answers its part. Once all parts are there they are [joined](Part::join) in the
/// order of the micro-batches, so that no bit depends on threads, and every pass goes on with the result.
#[derive(Debug, Clone)]
pub enum Part {
    /// On the way forward: the moments of each channel.
    Moments(Vec<Moments>),
    /// On the way back: sums for each channel.
    Sums(Vec<ChannelSums>),
}

impl Part {
    /// The whole batch's, from those of its micro-batches in their order.
    ///
    /// # Panics
    /// If there are none, or not all are of one op on one way.
    #[must_use]
    pub fn join<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let parts: Vec<&Self> = parts.into_iter().collect();
        match parts[0] {
            Self::Moments(_) => {
                Self::Moments(batch_norm2d::combine(parts.iter().map(|part| part.moments()), Moments::merge))
            }
            Self::Sums(_) => {
                Self::Sums(batch_norm2d::combine(parts.iter().map(|part| part.sums()), ChannelSums::merge))
            }
        }
    }

    fn moments(&self) -> &[Moments] {
        let Self::Moments(moments) = self else { panic!("the pass is on its way forward") };
        moments
    }

    fn sums(&self) -> &[ChannelSums] {
        let Self::Sums(sums) = self else { panic!("the pass is on its way back") };
        sums
    }
}

/// A pass over one micro-batch: forward, and back if a backward pass follows.
#[derive(Debug)]
pub struct Run<T: Element> {
    /// Values on the way forward, gradients on the way back.
    values: Values<T>,
    /// Values that the op of each node saved through which a gradient passes.
    saved: BTreeMap<usize, Saved>,
    /// Nodes that are computed on the way forward, or are left on the way back.
    next: usize,
    output: Option<Tensor<T>>,
    /// This micro-batch's own part, where it waits for the rest of its batch.
    own_part: Option<Part>,
}

impl<T: Element> Default for Run<T> {
    /// A pass of nothing, in place of one that is moved elsewhere.
    fn default() -> Self {
        Self { values: Values::new(), saved: BTreeMap::new(), next: 0, output: None, own_part: None }
    }
}

impl<T: Element> Run<T> {
    /// The output.
    ///
    /// # Panics
    /// If the pass is not over, or the output was taken.
    #[must_use]
    pub fn output(&self) -> &Tensor<T> {
        self.output.as_ref().expect("the forward pass is over")
    }

    /// The output, given away.
    ///
    /// # Panics
    /// As [`Run::output`].
    #[must_use]
    pub fn take_output(&mut self) -> Tensor<T> {
        self.output.take().expect("the forward pass is over")
    }
}

/// Places to which a backward pass adds the gradients of parameters, by the numbers that a plan was [bound](Bound::new) with.
pub trait ParameterSums<T: Element> {
    /// The sum so far, taken away for an op to add to.
    fn take(&mut self, number: usize) -> GradientSum<T>;

    /// The sum, given back.
    fn put(&mut self, number: usize, sum: GradientSum<T>);
}

impl<T: Element> ParameterSums<T> for Vec<GradientSum<T>> {
    fn take(&mut self, number: usize) -> GradientSum<T> {
        std::mem::take(&mut self[number])
    }

    fn put(&mut self, number: usize, sum: GradientSum<T>) {
        self[number] = sum;
    }
}

/// The sums of one op's inputs, by their nodes. Each leaves its place when the op first asks for it: that of a parameter the
/// caller's, that of another node the values of the pass.
struct Places<'a, T: Element, S> {
    bound: &'a Bound<T>,
    parameters: &'a mut S,
    values: &'a mut Values<T>,
    taken: BTreeMap<usize, GradientSum<T>>,
}

impl<T: Element, S: ParameterSums<T>> Places<'_, T, S> {
    fn take(&mut self, node: usize) -> GradientSum<T> {
        match self.bound.sum_of(node) {
            Some(number) => self.parameters.take(number),
            None => self.values.remove(&node).map_or_else(GradientSum::new, GradientSum::from),
        }
    }

    /// Puts the sum of a node back, with what the op added to it. One that the op did not ask for is taken, too: its turn passes
    /// when it is put back.
    fn put_back(&mut self, context: &Context, node: usize) {
        let sum = self.taken.remove(&node).unwrap_or_else(|| self.take(node));
        match self.bound.sum_of(node) {
            Some(number) => self.parameters.put(number, sum),
            None => self.values.extend(sum.finish(context.pool()).map(|gradient| (node, gradient))),
        }
    }
}

impl<T: Element, S: ParameterSums<T>> GradientSums<T> for Places<'_, T, S> {
    fn sum(&mut self, node: usize) -> &mut GradientSum<T> {
        if !self.taken.contains_key(&node) {
            let sum = self.take(node);
            self.taken.insert(node, sum);
        }
        self.taken.get_mut(&node).expect("it was taken")
    }
}

/// The inputs of an op through which a gradient passes, each once.
fn first_uses(wanted: &[Option<usize>]) -> impl Iterator<Item = usize> {
    let inputs = wanted.iter().enumerate();
    inputs.filter_map(|(at, &input)| input.filter(|_| !wanted[..at].contains(&input)))
}

/// A plan with the values of its parameters: what runs, on any number of threads.
#[derive(Debug)]
pub struct Bound<T: Element> {
    plan: Arc<Plan<T>>,
    /// The values of the fixed nodes that a run reads.
    fixed: Values<T>,
    /// The caller's numbers of the parameters, by their nodes.
    numbers: BTreeMap<usize, usize>,
}

impl<T: Element> Bound<T> {
    /// Gives a plan the values of its parameters, and computes what depends on them alone. `parameter` answers for an identity
    /// the number of the parameter, under which gradients are summed, and its value.
    ///
    /// # Panics
    /// If a parameter does not have the shape that was traced.
    #[must_use]
    pub fn new(plan: Arc<Plan<T>>, context: &Context, parameter: impl Fn(u64) -> (usize, Tensor<T>)) -> Self {
        let graph = &plan.graph;
        let (mut fixed, mut numbers) = (Values::<T>::new(), BTreeMap::new());
        for (index, node) in graph.nodes.iter().enumerate().filter(|&(index, _)| plan.fixed[index]) {
            let value = match &node.source {
                Source::Parameter { identity, .. } => {
                    let (number, value) = parameter(*identity);
                    numbers.insert(index, number);
                    value
                }
                Source::Constant(value) => value.clone(),
                // Its inputs are fixed, too.
                Source::Op(op) => {
                    op.forward(context, node.inputs.iter().map(|input| fixed[input].clone()).collect()).0
                }
                Source::Input => unreachable!("an input is never fixed"),
            };
            assert_eq!(value.shape(), node.shape, "node {index}: not the shape that was traced");
            fixed.insert(index, value);
        }
        fixed.retain(|&index, _| plan.read[index]);
        Self { plan, fixed, numbers }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Arc<Plan<T>> {
        &self.plan
    }

    /// The number of a parameter, if the node is one.
    fn sum_of(&self, node: usize) -> Option<usize> {
        self.numbers.get(&node).copied()
    }

    /// The number of each parameter that gets a gradient, once for each op that adds to it in a backward pass.
    pub fn uses(&self) -> impl Iterator<Item = usize> {
        self.plan.wanted.iter().flat_map(|wanted| first_uses(wanted)).filter_map(|input| self.sum_of(input))
    }

    /// Computes the output for an input that is a batch by itself.
    ///
    /// # Panics
    /// If the input does not have the shape that was traced.
    pub fn forward(&self, context: &Context, input: Tensor<T>) -> Run<T> {
        self.visit(context, input, |_, _| ())
    }

    /// [`Bound::forward`] that shows `see` the number and the value of each op that runs. It may change the value, which is what
    /// later ops get.
    ///
    /// # Panics
    /// As [`Bound::forward`].
    pub fn visit(
        &self,
        context: &Context,
        input: Tensor<T>,
        mut see: impl FnMut(usize, &mut Tensor<T>),
    ) -> Run<T> {
        let (mut run, mut joined) = (self.begin(input), None);
        while let Some(part) = self.advance_and_see(context, &mut run, joined.as_ref(), &mut see) {
            joined = Some(part);
        }
        run
    }

    /// A pass that has not computed anything yet: [`Bound::advance`] does.
    #[must_use]
    pub fn begin(&self, input: Tensor<T>) -> Run<T> {
        let mut run = Run::default();
        self.keep(&mut run.values, INPUT, input);
        run
    }

    /// Keeps the value of node `index` if it is used.
    fn keep(&self, values: &mut Values<T>, index: usize, value: Tensor<T>) {
        let expected = self.plan.graph.nodes[index].shape;
        assert_eq!(value.shape(), expected, "node {index}: not the shape that was traced");
        if self.plan.last_use[index] > index {
            values.insert(index, value);
        }
    }

    /// The inputs of node `index`.
    fn inputs(&self, values: &mut Values<T>, index: usize) -> Vec<Tensor<T>> {
        let all = &self.plan.graph.nodes[index].inputs;
        let value = |(position, &input): (usize, &usize)| {
            let last = self.plan.last_use[input] == index && !all[position + 1..].contains(&input);
            let value = if last { values.remove(&input) } else { values.get(&input).cloned() };
            value.unwrap_or_else(|| self.fixed[&input].clone())
        };
        all.iter().enumerate().map(value).collect()
    }

    /// Goes on with a forward pass until it is over (`None`) or waits for the rest of its batch: call it again with the parts of
    /// all micro-batches, joined.
    ///
    /// # Panics
    /// If the pass waits and no joined part is given.
    pub fn advance(&self, context: &Context, run: &mut Run<T>, joined: Option<&Part>) -> Option<Part> {
        self.advance_and_see(context, run, joined, |_, _| ())
    }

    fn advance_and_see(
        &self,
        context: &Context,
        run: &mut Run<T>,
        joined: Option<&Part>,
        mut see: impl FnMut(usize, &mut Tensor<T>),
    ) -> Option<Part> {
        let graph = &self.plan.graph;
        let fixed = |index: usize| self.fixed[&index].clone();
        while let Some(node) = graph.nodes.get(run.next) {
            let index = run.next;
            let (Source::Op(op), false) = (&node.source, self.plan.fixed[index]) else {
                run.next += 1;
                continue;
            };
            let (mut value, kept) = if let Some(op) = self.plan.meeting(index) {
                if run.own_part.is_none() {
                    let input = node.inputs[0];
                    let x = run.values.get(&input).cloned().unwrap_or_else(|| fixed(input));
                    run.own_part = Some(Part::Moments(batch_norm2d::partial_moments(&x)));
                    return run.own_part.clone();
                }
                run.own_part = None;
                let moments = joined.expect("the pass waits for its batch").moments();
                let inputs = self.inputs(&mut run.values, index);
                let (value, kept) = op.forward_of_batch(context, inputs, Some(moments));
                (value, Box::new(kept) as Saved)
            } else {
                op.forward(context, self.inputs(&mut run.values, index))
            };
            if context.grad_enabled && self.plan.differentiable[index] {
                run.saved.insert(index, kept);
            }
            see(index, &mut value);
            self.keep(&mut run.values, index, value);
            run.next += 1;
        }
        run.output = Some(run.values.remove(&graph.output).unwrap_or_else(|| fixed(graph.output)));
        None
    }

    /// Computes the gradients of `sum(output * gradient)` for an input that is a batch by itself, and adds those of parameters to
    /// `sums`, by their numbers. Answers the gradient of the input, if it is computed at all.
    ///
    /// # Panics
    /// If the gradient does not have the output's shape, there is no sum of a parameter's number, or the forward pass ran in a
    /// context that keeps nothing.
    pub fn backward(
        &self,
        context: &Context,
        run: Run<T>,
        gradient: Tensor<T>,
        sums: &mut impl ParameterSums<T>,
    ) -> Option<Tensor<T>> {
        let (mut run, mut joined) = (self.turn(run, gradient), None);
        while let Some(part) = self.retreat(context, &mut run, joined.as_ref(), sums) {
            joined = Some(part);
        }
        run.output
    }

    /// The way back of a pass, given the gradient of its output: [`Bound::retreat`] computes it.
    ///
    /// # Panics
    /// As [`Bound::backward`].
    #[must_use]
    pub fn turn(&self, mut run: Run<T>, gradient: Tensor<T>) -> Run<T> {
        let Plan { graph, differentiable, .. } = &*self.plan;
        assert_eq!(gradient.shape(), graph.output_shape(), "the gradient of the output");
        run.output = None;
        if differentiable[graph.output] {
            run.values.insert(graph.output, gradient);
        }
        run
    }

    /// Goes on with a backward pass until it is over (`None`) or waits for the rest of its batch, as [`Bound::advance`] does.
    /// When it is over, the gradient of the input, if it is computed at all, is the run's output.
    ///
    /// # Panics
    /// As [`Bound::backward`], and as [`Bound::advance`].
    pub fn retreat(
        &self,
        context: &Context,
        run: &mut Run<T>,
        joined: Option<&Part>,
        sums: &mut impl ParameterSums<T>,
    ) -> Option<Part> {
        while let Some(index) = run.next.checked_sub(1) {
            // The gradient of an input stays for the end.
            if self.plan.graph.nodes[index].is_op() && run.values.contains_key(&index) {
                if self.plan.meeting(index).is_some() && run.own_part.is_none() {
                    run.own_part = Some(Self::part_of_sums(run, index));
                    return run.own_part.clone();
                }
                self.gradients_to_inputs(context, run, joined, sums);
            }
            run.next -= 1;
        }
        run.output = run.values.remove(&INPUT);
        None
    }

    /// The part that a pass on its way back brings to node `index`, at which micro-batches meet.
    fn part_of_sums(run: &Run<T>, index: usize) -> Part {
        let saved: Option<&batch_norm2d::Saved<T>> = run.saved.get(&index).expect(KEPT).downcast_ref();
        Part::Sums(saved.expect(OWN).partial_sums(&run.values[&index]))
    }

    /// Turns the gradient of the output of the op that is next into those of its inputs.
    fn gradients_to_inputs(
        &self,
        context: &Context,
        run: &mut Run<T>,
        joined: Option<&Part>,
        sums: &mut impl ParameterSums<T>,
    ) {
        let index = run.next - 1;
        let gradient = run.values.remove(&index).expect("a gradient has come to the op");
        let saved = run.saved.remove(&index).expect(KEPT);
        let wanted = &self.plan.wanted[index];
        let mut places =
            Places { bound: self, parameters: sums, values: &mut run.values, taken: BTreeMap::new() };
        let sinks = &mut Sinks::new(&mut places, wanted);
        if let Some(op) = self.plan.meeting(index) {
            let own_part = run.own_part.take().expect("it brought its part before");
            let parts = [own_part.sums(), joined.expect("the pass waits for its batch").sums()];
            op.backward_of_batch(context, *saved.downcast().expect(OWN), gradient, parts, sinks);
        } else if let Source::Op(op) = &self.plan.graph.nodes[index].source {
            op.backward(context, saved, gradient, sinks);
        }
        first_uses(wanted).for_each(|input| places.put_back(context, input));
    }
}
