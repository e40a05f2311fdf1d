//! [`Plan`]: a fused [`Graph`], and what of it is computed when.

use tensor::Element;
use tensor::ops::BatchNorm2d;

use crate::graph::{Graph, Source};

/// A graph that is ready to run. It holds no values of parameters: runs on any number of threads may share it.
#[derive(Debug)]
pub struct Plan<T: Element> {
    pub(crate) graph: Graph<T>,
    /// Tells of each node whether a gradient passes through it.
    pub(crate) differentiable: Vec<bool>,
    /// Tells of each node whether its value is the same for every input and has no gradient: computed once, when a plan is bound.
    pub(crate) fixed: Vec<bool>,
    /// Tells of each fixed node whether a run reads it.
    pub(crate) read: Vec<bool>,
    /// For each node the last that reads it, one beyond all for the output; its own number if none does.
    pub(crate) last_use: Vec<usize>,
    /// For each node its inputs through which a gradient passes, `None` for the others.
    pub(crate) wanted: Vec<Vec<Option<usize>>>,
}

impl<T: Element> Plan<T> {
    /// Fuses a graph and plans its run. The gradient of the graph's input is computed only if `input_gradient`.
    #[must_use]
    pub fn new(graph: Graph<T>, input_gradient: bool) -> Self {
        Self::of_graph(graph.fused(), input_gradient, true)
    }

    /// Plans a run that no backward pass follows. Normalizations by running statistics become part of the convolutions before
    /// them.
    #[must_use]
    pub fn inference(graph: Graph<T>) -> Self {
        Self::of_graph(graph.with_folded_batch_norms().fused(), false, false)
    }

    /// Plans a run of the graph as it was traced, that no backward pass follows: for a look at each op ([`Bound::visit`]).
    ///
    /// [`Bound::visit`]: crate::Bound::visit
    #[must_use]
    pub fn unfused(graph: Graph<T>) -> Self {
        Self::of_graph(graph, false, false)
    }

    /// Parameters have gradients only if the plan `trains` them.
    fn of_graph(graph: Graph<T>, input_gradient: bool, trains: bool) -> Self {
        let nodes = graph.nodes.len();
        let (mut differentiable, mut fixed) = (vec![false; nodes], vec![false; nodes]);
        for (index, node) in graph.nodes.iter().enumerate() {
            (differentiable[index], fixed[index]) = match &node.source {
                Source::Input => (input_gradient, false),
                Source::Parameter { learns, .. } => (trains && *learns, true),
                Source::Constant(_) => (false, true),
                Source::Op(_) => {
                    let gradient = node.inputs.iter().any(|&input| differentiable[input]);
                    (gradient, !gradient && node.inputs.iter().all(|&input| fixed[input]))
                }
            };
        }
        let mut read = vec![false; nodes];
        read[graph.output] = fixed[graph.output];
        for (_, node) in graph.nodes.iter().enumerate().filter(|&(index, _)| !fixed[index]) {
            node.inputs.iter().for_each(|&input| read[input] = fixed[input]);
        }
        let last_reader = |(index, readers): (usize, Vec<usize>)| readers.last().copied().unwrap_or(index);
        let last_use = graph.readers().into_iter().enumerate().map(last_reader).collect();
        let with_gradient = |&input: &usize| differentiable[input].then_some(input);
        let wanted = graph.nodes.iter().map(|node| node.inputs.iter().map(with_gradient).collect()).collect();
        Self { graph, differentiable, fixed, read, last_use, wanted }
    }

    /// The fused graph.
    #[must_use]
    pub fn graph(&self) -> &Graph<T> {
        &self.graph
    }

    /// Tells whether node `index` is an op that every run computes, not only the binding of parameters.
    #[must_use]
    pub fn runs(&self, index: usize) -> bool {
        self.graph.nodes[index].is_op() && !self.fixed[index]
    }

    /// Elements of the largest set of ops' outputs and input that a forward pass without a backward pass needs at once, if no op
    /// writes over its input. Parameters and constants do not count.
    #[must_use]
    pub fn peak_elements(&self) -> usize {
        let (mut live, mut peak) = (0, 0);
        let moves = |&index: &usize| !self.fixed[index];
        let size = |index: usize| self.graph.nodes[index].shape.elements();
        for index in (0..self.fixed.len()).filter(moves) {
            live += size(index);
            peak = peak.max(live);
            let over = (0..=index).filter(moves).filter(|&own| self.last_use[own] == index);
            live -= over.map(size).sum::<usize>();
        }
        peak
    }

    /// Tells whether micro-batches of a batch must wait for each other: [`Bound::advance`](crate::Bound::advance)
    /// then answers a [`Part`](crate::Part).
    #[must_use]
    pub fn meets(&self) -> bool {
        (0..self.graph.nodes.len()).any(|index| self.meeting(index).is_some())
    }

    /// The op of node `index`, if micro-batches meet at it.
    pub(crate) fn meeting(&self, index: usize) -> Option<&BatchNorm2d> {
        let node = &self.graph.nodes[index];
        node.op::<BatchNorm2d>().filter(|op| op.meets(node.inputs.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tensor::ops::{Conv2d, MaxPool2d, MlpConv, Relu, Sigmoid};
    use tensor::{Context, GradientSum, Op, Shape, ShapeError, Sinks, Tensor};

    use super::*;
    use crate::{AutogradError, Bound, Gradcheck, ParameterSums, Tape, Var};

    fn filled(shape: impl Into<Shape>, seed: usize) -> Tensor<f64> {
        Tensor::from_fn(shape, |i| (((i + 31 * seed) * 7919 % 1013) as f64 / 500.0 - 1.0) / 2.0)
    }

    /// `y = x + w`, whose passes tell when they computed a gradient.
    #[derive(Debug)]
    struct Told(Arc<Mutex<Vec<&'static str>>>);

    impl Op<f64> for Told {
        type Saved = ();

        const NAME: &'static str = "told";

        fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
            Ok(inputs[0])
        }

        fn forward(&self, _: &Context, mut inputs: Vec<Tensor<f64>>) -> (Tensor<f64>, ()) {
            (inputs.swap_remove(0), ())
        }

        fn backward(&self, _: &Context, (): (), dy: Tensor<f64>, sinks: &mut Sinks<'_, f64>) {
            sinks.add(1, || {
                self.0.lock().unwrap().push("computed");
                dy
            });
        }
    }

    /// Sums that tell when they are taken and put back.
    struct Watched(Arc<Mutex<Vec<&'static str>>>, Vec<GradientSum<f64>>);

    impl ParameterSums<f64> for Watched {
        fn take(&mut self, number: usize) -> GradientSum<f64> {
            self.0.lock().unwrap().push("taken");
            self.1.take(number)
        }

        fn put(&mut self, number: usize, sum: GradientSum<f64>) {
            self.0.lock().unwrap().push("put");
            self.1.put(number, sum);
        }
    }

    /// Other threads wait for a sum from when it is taken until it is put back.
    #[test]
    fn a_sum_is_taken_when_the_op_asks_for_it() {
        let (told, context) = (Arc::new(Mutex::new(Vec::new())), Context::default());
        let w = filled([2], 1);
        let graph = Graph::trace(&context, [2], |x| {
            x.tape().apply(Told(Arc::clone(&told)), [x.clone(), x.tape().parameter(7, w.clone())])
        });
        let bound = Bound::new(Arc::new(Plan::new(graph.unwrap(), false)), &context, |_| (0, w.clone()));
        let run = bound.forward(&context, filled([2], 2));
        let mut sums = Watched(Arc::clone(&told), vec![GradientSum::new()]);
        bound.backward(&context, run, filled([2], 3), &mut sums);
        assert_eq!(*told.lock().unwrap(), ["computed", "taken", "put"]);
        assert_eq!(sums.1.remove(0).finish(context.pool()), Some(filled([2], 3)));
    }

    /// A stem with ReLU and 1x1 convolutions, a branch that joins again, a weight that is used twice, a pooling that takes a
    /// ReLU, and a ReLU that two ops read.
    fn branchy<'t>(
        x: Var<'t, f64>,
        parameter: impl Fn(usize) -> Var<'t, f64>,
    ) -> Result<Var<'t, f64>, AutogradError> {
        let tape = x.tape();
        let padded = Conv2d { padding: [1, 1], ..Conv2d::default() };
        let x = x.conv2d(parameter(0), Some(parameter(1)), padded)?.relu()?;
        let x = x.conv2d(parameter(2), Some(parameter(3)), Conv2d::default())?.relu()?;
        let skip = x.clone();
        let y = x.conv2d(parameter(4), None, padded)?.relu()?;
        let y = y.conv2d(parameter(4), None, padded)?;
        let sum = y.add(skip)?.relu()?;
        let pooled = tape.apply(MaxPool2d::new(2, 2), [sum.clone()])?;
        let again = sum.conv2d(parameter(2), Some(parameter(3)), Conv2d::default())?;
        let again = tape.apply(MaxPool2d::new(2, 2), [again.relu()?])?;
        tape.apply(Sigmoid, [pooled.add(again)?])
    }

    fn branchy_of<'t>(x: Var<'t, f64>, parameters: &[Tensor<f64>]) -> Result<Var<'t, f64>, AutogradError> {
        let tape = x.tape();
        branchy(x, |index| tape.parameter(100 + index as u64, parameters[index].clone()))
    }

    fn parameters() -> Vec<Tensor<f64>> {
        let shapes: [&[usize]; 5] = [&[3, 2, 3, 3], &[3], &[3, 3, 1, 1], &[3], &[3, 3, 3, 3]];
        let filled = shapes.iter().enumerate().map(|(seed, shape)| filled(Shape::from(*shape), seed));
        filled.collect()
    }

    #[test]
    fn a_branchy_module_is_fused_and_gives_the_tapes_bits() {
        let (x, parameters) = (filled([2, 2, 6, 6], 9), parameters());
        let graph = Graph::trace(&Context::default(), x.shape(), |x| branchy_of(x, &parameters)).unwrap();
        let plan = Arc::new(Plan::new(graph.clone(), true));
        let count =
            |of: fn(&crate::Node<f64>) -> bool| plan.graph().nodes().iter().filter(|&node| of(node)).count();
        assert_eq!(
            count(|node| node.op::<MlpConv>().is_some_and(|op| op.layers.iter().all(|layer| layer.relu))),
            1
        );
        assert_eq!(count(|node| node.op::<Relu>().is_some()), 1, "the one that two ops read");
        assert_eq!(count(|node| node.op::<MaxPool2d>().is_some_and(|op| op.relu)), 1);
        assert_eq!(count(|node| node.op::<Conv2d>().is_some_and(|op| op.relu)), 1);
        assert_eq!(plan.graph().output_shape(), graph.output_shape());

        let context = Context::default();
        let tape = Tape::new(context.clone());
        let input = tape.leaf(x.clone());
        let output = branchy_of(input.clone(), &parameters).unwrap();
        let expected = output.value().clone();
        let gradient = filled(expected.shape(), 5);
        let gradients = tape.backward_with(output, gradient.clone()).unwrap();

        let value = |own: u64| (own as usize - 100, parameters[own as usize - 100].clone());
        let bound = Bound::new(Arc::clone(&plan), &context, value);
        let run = bound.forward(&context, x.clone());
        assert_eq!(run.output(), &expected);
        let mut uses: Vec<_> = bound.uses().collect();
        uses.sort_unstable();
        assert_eq!(uses, [0, 1, 2, 2, 3, 3, 4, 4], "one op has the first four, others the last three again");
        let mut sums: Vec<_> = (0..5).map(|_| GradientSum::new()).collect();
        let of_input = bound.backward(&context, run, gradient, &mut sums);
        for (number, sum) in sums.into_iter().enumerate() {
            let sum = sum.finish(context.pool());
            assert_eq!(sum.as_ref(), gradients.parameter(100 + number as u64), "parameter {number}");
        }
        assert_eq!(of_input.as_ref(), gradients.get(&input));
        let evaluation = Context::evaluation(context.pool().clone());
        assert_eq!(bound.forward(&evaluation, x.clone()).take_output(), expected);
        let unfused = Bound::new(Arc::new(Plan::unfused(graph.clone())), &evaluation, value);
        let mut seen = Vec::new();
        let visited = unfused.visit(&evaluation, x, |index, value| seen.push((index, value.shape())));
        assert_eq!(visited.output(), &expected);
        let nodes = graph.nodes().iter().enumerate().filter(|(_, node)| node.is_op());
        assert_eq!(seen, nodes.map(|(index, node)| (index, node.shape())).collect::<Vec<_>>());
    }

    /// On a tape, whose bits a plan has.
    #[test]
    fn gradients_of_a_branchy_module() {
        let inputs: Vec<_> = [filled([2, 2, 6, 6], 9)].into_iter().chain(parameters()).collect();
        let check = Gradcheck { elements: 40, ..Gradcheck::default() };
        check
            .run("branchy", &inputs, |_, inputs| {
                branchy(inputs[0].clone(), |index| inputs[index + 1].clone())
            })
            .unwrap();
    }

    #[test]
    fn a_shape_that_does_not_fit_names_the_place() {
        let weight = filled([3, 2, 5, 5], 1);
        let error = Graph::trace(&Context::default(), [1, 2, 4, 4], |x| {
            let tape = x.tape();
            let weight = tape.parameter(1, weight.clone());
            tape.scope("stem", || tape.scope(0, || x.conv2d(weight, None, Conv2d::default())))
        });
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("conv2d: layer stem.0, Conv2d(2, 3, 5x5): a window of 5 does not fit H = 4"),
            "{error}"
        );
        assert!(error.ends_with("(its input is 1 x 2 x 4 x 4)"), "{error}");
    }

    #[test]
    fn a_traced_variable_is_told_from_one_with_a_value() {
        let mut told = None;
        let graph = Graph::<f64>::trace(&Context::default(), [3], |x| {
            let y = x.clone().relu()?;
            told = Some(x.tape().backward(y).unwrap_err());
            assert!(x.tape().is_tracing() && x.shape() == Shape::from([3]));
            let constant = x.tape().constant(filled([3], 1));
            x.add(constant)
        });
        assert_eq!(told, Some(AutogradError::NotRecorded));
        let plan = Arc::new(Plan::new(graph.unwrap(), false));
        let x = filled([3], 2);
        let expected: Vec<f64> = x.data().iter().zip(filled([3], 1).data()).map(|(a, b)| a + b).collect();
        let bound = Bound::new(plan, &Context::default(), |_| unreachable!("there is no parameter"));
        assert_eq!(bound.forward(&Context::default(), x).output().data(), expected);
    }

    #[test]
    #[should_panic(
        expected = "a value is asked for by layer stem.0 while a graph is traced, on shapes alone: a module whose"
    )]
    fn a_look_at_a_value_while_tracing_says_where_and_what_else_to_do() {
        let trace = Graph::<f64>::trace(&Context::default(), [3], |x| {
            let looks = |x: Var<'_, f64>| x.value().data()[0] > 0.0;
            let positive = x.tape().scope("stem", || x.tape().scope(0, || looks(x.clone())));
            if positive { x.relu() } else { Ok(x) }
        });
        drop(trace);
    }

    /// x + BN(conv(x)) with a bias or none, then ReLU.
    fn normalized<'t>(x: &Var<'t, f64>, own: &[Tensor<f64>]) -> Result<Var<'t, f64>, AutogradError> {
        let tape = x.tape();
        let parameter = |index: usize| tape.parameter(index as u64, own[index].clone());
        let padded = Conv2d { padding: [1, 1], ..Conv2d::default() };
        let mut sum = x.clone();
        for bias in [None, Some(parameter(1))] {
            let y = sum.clone().conv2d(parameter(0), bias, padded)?;
            let running = (!tape.context().training)
                .then(|| [4, 5].map(|index| tape.frozen(index as u64, own[index].clone())));
            let y = y.batch_norm2d(parameter(2), parameter(3), running, BatchNorm2d::default())?;
            sum = sum.add(y)?.relu()?;
        }
        Ok(sum)
    }

    fn of_normalized() -> Vec<Tensor<f64>> {
        let shapes: [&[usize]; 6] = [&[2, 2, 3, 3], &[2], &[2], &[2], &[2], &[2]];
        let mut all: Vec<_> =
            shapes.iter().enumerate().map(|(seed, shape)| filled(Shape::from(*shape), seed)).collect();
        all[5].data_mut().iter_mut().for_each(|variance| *variance += 1.0);
        all
    }

    #[test]
    fn a_normalization_is_folded_into_the_convolution_before_it() {
        let (own, x) = (of_normalized(), filled([2, 2, 5, 4], 9));
        let evaluation = Context::evaluation(Context::default().pool().clone());
        let graph = Graph::trace(&evaluation, x.shape(), |x| normalized(&x, &own)).unwrap();
        let plan = Arc::new(Plan::inference(graph.clone()));
        let nodes = plan.graph().nodes();
        assert!(nodes.iter().all(|node| node.op::<BatchNorm2d>().is_none()));
        let run = (0..nodes.len()).filter(|&index| !plan.fixed[index] && nodes[index].is_op());
        assert_eq!(run.count(), 6, "two convolutions, sums and ReLUs");
        let value = |identity: u64| (identity as usize, own[identity as usize].clone());
        let unfused = Bound::new(Arc::new(Plan::unfused(graph)), &evaluation, value);
        let expected = unfused.forward(&evaluation, x.clone()).take_output();
        let found = Bound::new(plan, &evaluation, value).forward(&evaluation, x).take_output();
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-12;
        assert!(found.data().iter().zip(expected.data()).all(near), "{found:?}, {expected:?}");
    }
}
