//! [`Plan`]: a fused [`Graph`] that is run, forward and backward.

use std::sync::Arc;

use tensor::{Context, Element, Op, Shape, ShapeError, Tensor};

use crate::graph::{Graph, Saved, Source, Values};

/// A graph that is ready to run. It holds no values: runs on any number of threads may share it.
#[derive(Debug)]
pub struct Plan<T: Element> {
    graph: Graph<T>,
    /// The node of each parameter that is used.
    parameters: Vec<usize>,
    /// Tells of each node whether a gradient passes through it.
    differentiable: Vec<bool>,
}

/// A forward pass that a backward pass may follow.
#[derive(Debug)]
pub struct Run<T: Element> {
    output: Tensor<T>,
    /// What the op of each node saved; `None` where no gradient passes.
    saved: Vec<Option<Saved>>,
}

impl<T: Element> Run<T> {
    /// The output.
    #[must_use]
    pub fn output(&self) -> &Tensor<T> {
        &self.output
    }

    /// The output, given away: no backward pass will follow.
    #[must_use]
    pub fn into_output(self) -> Tensor<T> {
        self.output
    }
}

impl<T: Element> Plan<T> {
    /// Fuses a graph and plans its run. The gradient of the graph's input is computed only if `input_gradient`.
    #[must_use]
    pub fn new(graph: Graph<T>, input_gradient: bool) -> Self {
        let graph = graph.fused();
        let parameters = (0..graph.nodes.len()).filter(|&index| graph.nodes[index].parameter().is_some());
        let parameters: Vec<usize> = parameters.collect();
        let mut differentiable = vec![false; graph.nodes.len()];
        for (index, node) in graph.nodes.iter().enumerate() {
            differentiable[index] = match &node.source {
                Source::Input => input_gradient,
                Source::Parameter(_) => true,
                Source::Constant(_) => false,
                Source::Op(_) => node.inputs.iter().any(|&input| differentiable[input]),
            };
        }
        Self { graph, parameters, differentiable }
    }

    /// The fused graph.
    #[must_use]
    pub fn graph(&self) -> &Graph<T> {
        &self.graph
    }

    /// The identities of the parameters that are used, each once, in the order of their first use.
    pub fn parameters(&self) -> impl Iterator<Item = u64> {
        self.parameters.iter().filter_map(|&node| self.graph.nodes[node].parameter())
    }

    /// Computes the output. `parameters` are values in the order of [`Plan::parameters`].
    ///
    /// # Panics
    /// If the input or a parameter does not have the shape that was traced.
    pub fn forward(&self, context: &Context, input: Tensor<T>, parameters: &[Tensor<T>]) -> Run<T> {
        assert_eq!(parameters.len(), self.parameters.len(), "a value for each parameter");
        let mut values = Values::new(&self.graph);
        let mut saved: Vec<Option<Saved>> = Vec::new();
        saved.resize_with(self.graph.nodes.len(), || None);
        let (mut input, mut parameters) = (Some(input), parameters.iter());
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let value = match &node.source {
                Source::Input => input.take().expect("there is one input"),
                Source::Parameter(_) => parameters.next().expect("counted above").clone(),
                Source::Constant(value) => value.clone(),
                Source::Op(op) => {
                    let (value, kept) = op.forward(context, values.inputs(node, index));
                    if context.grad_enabled && self.differentiable[index] {
                        saved[index] = Some(kept);
                    }
                    value
                }
            };
            values.set(node, index, value);
        }
        Run { output: values.take(self.graph.output), saved }
    }

    /// Computes the gradients of `sum(output * gradient)`: `add` is called with the number among [`Plan::parameters`] and the
    /// gradient of each parameter that the output depends on. Answers the gradient of the input, if it is computed at all.
    ///
    /// # Panics
    /// If the gradient does not have the output's shape, or the forward pass ran in a context that keeps nothing.
    pub fn backward(
        &self,
        context: &Context,
        run: Run<T>,
        gradient: Tensor<T>,
        mut add: impl FnMut(usize, Tensor<T>),
    ) -> Option<Tensor<T>> {
        assert_eq!(gradient.shape(), self.graph.output_shape(), "the gradient of the output");
        let Run { output, mut saved } = run;
        drop(output);
        let mut arrived: Vec<Option<Tensor<T>>> = Vec::new();
        arrived.resize_with(self.graph.nodes.len(), || None);
        arrived[self.graph.output] = Some(gradient);
        for (index, node) in self.graph.nodes.iter().enumerate().rev() {
            let Source::Op(op) = &node.source else { continue };
            let Some(gradient) = arrived[index].take() else { continue };
            if !self.differentiable[index] {
                continue;
            }
            let saved = saved[index]
                .take()
                .expect("the forward pass ran in a context that keeps what backward needs");
            let wanted: Vec<bool> = node.inputs.iter().map(|&input| self.differentiable[input]).collect();
            let of_inputs = op.backward(context, saved, gradient, &wanted);
            for (&input, gradient) in node.inputs.iter().zip(of_inputs) {
                match (&mut arrived[input], gradient) {
                    (Some(sum), Some(gradient)) => sum.add_assign(&gradient),
                    (first, Some(gradient)) => *first = Some(gradient),
                    (_, None) => {}
                }
            }
        }
        for (number, &node) in self.parameters.iter().enumerate() {
            if let Some(gradient) = arrived[node].take() {
                add(number, gradient);
            }
        }
        let input = self.graph.nodes.iter().position(|node| matches!(node.source, Source::Input));
        input.and_then(|input| arrived[input].take())
    }
}

/// A plan as an op: its inputs are the graph's input and the values of [`Plan::parameters`]. So a plan can be part of a tape, and
/// the gradient checker can be run on exactly what training runs.
#[derive(Debug, Clone)]
pub struct PlanOp<T: Element>(pub Arc<Plan<T>>);

impl<T: Element> Op<T> for PlanOp<T> {
    type Saved = Run<T>;

    fn name(&self) -> &'static str {
        "plan"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let graph = &self.0.graph;
        let input = graph.nodes.iter().position(|node| matches!(node.source, Source::Input));
        let expected = input.iter().chain(&self.0.parameters).map(|&node| graph.nodes[node].shape);
        let expected: Vec<Shape> = expected.collect();
        if inputs != expected {
            let message = format!("was traced for inputs {expected:?}, found {inputs:?}");
            return Err(ShapeError::new("plan", message));
        }
        Ok(graph.output_shape())
    }

    fn forward(&self, context: &Context, mut inputs: Vec<Tensor<T>>) -> (Tensor<T>, Run<T>) {
        let parameters = inputs.split_off(1);
        let run = self.0.forward(context, inputs.remove(0), &parameters);
        (run.output.clone(), run)
    }

    fn backward(
        &self,
        context: &Context,
        saved: Run<T>,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        let mut all = Vec::new();
        all.resize_with(1 + self.0.parameters.len(), || None);
        let input =
            self.0.backward(context, saved, grad_output, |number, gradient| all[1 + number] = Some(gradient));
        all[0] = input;
        for (gradient, &wanted) in all.iter_mut().zip(wanted) {
            if !wanted {
                *gradient = None;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use tensor::ops::{Conv2d, MaxPool2d, MlpConv, Relu};

    use super::*;
    use crate::{AutogradError, Gradcheck, Tape, Var};

    fn filled(shape: impl Into<Shape>, seed: usize) -> Tensor<f64> {
        Tensor::from_fn(shape, |i| (((i + 31 * seed) * 7919 % 1013) as f64 / 500.0 - 1.0) / 2.0)
    }

    /// A stem with ReLU and 1x1 convolutions, a branch that joins again, a weight that is used twice, a pooling that takes a
    /// ReLU, and a ReLU that two ops read.
    fn branchy<'t>(x: Var<'t, f64>, parameters: &[Tensor<f64>]) -> Result<Var<'t, f64>, AutogradError> {
        let tape = x.tape();
        let parameter = |index: usize| tape.parameter(100 + index as u64, parameters[index].clone());
        let padded = Conv2d { padding: [1, 1], ..Conv2d::default() };
        let x = x.conv2d(parameter(0), Some(parameter(1)), padded)?.relu()?;
        let x = x.conv2d(parameter(2), Some(parameter(3)), Conv2d::default())?.relu()?;
        let skip = x.clone();
        let y = x.conv2d(parameter(4), None, padded)?.relu()?;
        let y = y.conv2d(parameter(4), None, padded)?;
        let sum = y.add(skip)?.relu()?;
        let pooled = sum.clone().max_pool2d(MaxPool2d::square(2, 2))?;
        let again = sum.conv2d(parameter(2), Some(parameter(3)), Conv2d::default())?;
        let again = again.relu()?.max_pool2d(MaxPool2d::square(2, 2))?;
        pooled.add(again)?.sigmoid()
    }

    fn parameters() -> Vec<Tensor<f64>> {
        let shapes: [&[usize]; 5] = [&[3, 2, 3, 3], &[3], &[3, 3, 1, 1], &[3], &[3, 3, 3, 3]];
        let filled = shapes.iter().enumerate().map(|(seed, shape)| filled(Shape::from(*shape), seed));
        filled.collect()
    }

    #[test]
    fn a_branchy_module_is_fused_and_gives_the_tapes_bits() {
        let (x, parameters) = (filled([2, 2, 6, 6], 9), parameters());
        let graph = Graph::trace(x.shape(), |x| branchy(x, &parameters)).unwrap();
        let plan = Plan::new(graph.clone(), true);
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
        let output = branchy(input.clone(), &parameters).unwrap();
        let expected = output.value().clone();
        let gradient = filled(expected.shape(), 5);
        let gradients = tape.backward_with(output, gradient.clone()).unwrap();

        let values: Vec<_> = plan.parameters().map(|own| parameters[own as usize - 100].clone()).collect();
        let run = plan.forward(&context, x.clone(), &values);
        assert_eq!(run.output(), &expected);
        let identities: Vec<u64> = plan.parameters().collect();
        let mut seen = Vec::new();
        let of_input = plan.backward(&context, run, gradient, |number, found| {
            assert_eq!(Some(&found), gradients.parameter(identities[number]), "parameter {number}");
            seen.push(number);
        });
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(of_input.as_ref(), gradients.get(&input));

        let evaluation = Context::evaluation(context.pool().clone());
        assert_eq!(plan.forward(&evaluation, x.clone(), &values).into_output(), expected);
        let visited = graph.visit(&evaluation, x, |own| parameters[own as usize - 100].clone(), |_, _| ());
        assert_eq!(visited, expected);
    }

    #[test]
    fn gradients_of_what_training_runs() {
        let parameters = parameters();
        let graph = Graph::trace([2, 2, 6, 6], |x| branchy(x, &parameters)).unwrap();
        let plan = Arc::new(Plan::new(graph, true));
        let inputs: Vec<_> = [filled([2, 2, 6, 6], 9)].into_iter().chain(parameters).collect();
        let check = Gradcheck { elements: 40, ..Gradcheck::default() };
        check
            .run("plan", &inputs, |tape, inputs| tape.apply(PlanOp(Arc::clone(&plan)), inputs.to_vec()))
            .unwrap();
    }

    #[test]
    fn a_shape_that_does_not_fit_names_the_place() {
        let weight = filled([3, 2, 5, 5], 1);
        let error = Graph::trace([1, 2, 4, 4], |x| {
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
        let graph = Graph::<f64>::trace([3], |x| {
            let y = x.clone().relu()?;
            told = Some(x.tape().backward(y).unwrap_err());
            assert!(x.tape().is_tracing() && x.shape() == Shape::from([3]));
            let constant = x.tape().constant(filled([3], 1));
            x.add(constant)
        });
        assert_eq!(told, Some(AutogradError::NotRecorded));
        let plan = Plan::new(graph.unwrap(), false);
        let x = filled([3], 2);
        let expected: Vec<f64> = x.data().iter().zip(filled([3], 1).data()).map(|(a, b)| a + b).collect();
        assert_eq!(plan.forward(&Context::default(), x, &[]).output().data(), expected);
    }
}
