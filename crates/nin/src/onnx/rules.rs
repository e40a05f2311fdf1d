//! The ONNX form of each op: a rule a function, and one list of them.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use autograd::{Graph, Node as Traced};
use tensor::{Op, Shape, Tensor, ops};

use super::ExportError;
use super::model::{Attribute, Described, Extent, Initializer, Model, Node};
use crate::data::whiten::{SCALE, Whitening};

/// A graph on its way into a model, node after node.
pub(super) struct Builder<'g> {
    /// One module, traced for inputs of two shapes: what differs is not the module's own.
    graphs: [&'g Graph<f32>; 2],
    /// The node that a rule is asked for.
    index: usize,
    /// The name of each node's value so far.
    names: Vec<String>,
    pub(super) model: Model,
}

/// The name of the value of an op, or why ONNX has no form for it.
type Answer = Result<String, String>;

/// Answers `None` for other ops than its own.
type Rule = for<'b, 'g> fn(&'b mut Builder<'g>) -> Option<Answer>;

/// One line for each op.
const RULES: &[Rule] = &[
    |to| to.same::<ops::Relu>("Relu"),
    |to| to.same::<ops::Sigmoid>("Sigmoid"),
    |to| to.same::<ops::Tanh>("Tanh"),
    |to| to.same::<ops::Hardswish>("HardSwish"),
    |to| to.same::<ops::Flatten>("Flatten"),
    |to| to.same::<ops::Abs>("Abs"),
    |to| to.same::<ops::Exp>("Exp"),
    |to| to.same::<ops::Log>("Log"),
    |to| to.same::<ops::Add>("Add"),
    |to| to.same::<ops::Sub>("Sub"),
    |to| to.same::<ops::Mul>("Mul"),
    // Evaluation drops nothing.
    |to| to.same::<ops::Dropout>("Identity"),
    |to| to.with("Concat", |op: &ops::Concat| [("axis", integer(op.axis))]),
    |to| to.with("Gemm", |_: &ops::Linear| [("transB", integer(1))]),
    |to| to.with("LeakyRelu", |op: &ops::LeakyRelu| [("alpha", float(op.slope))]),
    |to| to.op().map(|op| adaptive_avg_pool2d(to, op)),
    |to| to.op().map(|op| avg_pool2d(to, op)),
    |to| to.op().map(|op| batch_norm2d(to, op)),
    |to| to.op().map(|op| conv2d(to, op)),
    |to| to.op().map(|op| gelu(to, *op)),
    |to| to.op().map(|op| group_norm(to, op)),
    |to| to.op().map(|op| max_pool2d(to, op)),
    |to| to.op().map(|op| reshape(to, op)),
    |to| to.op().map(|op| rsqrt(to, op)),
    |to| to.op().map(|op: &ops::Scale| Ok(to.times(&to.input(0), op.factor))),
    |to| to.op::<ops::Silu>().map(|_| silu(to)),
    |to| to.op().map(|op| softmax(to, op)),
    |to| to.op().map(|op| reduce::<true>(to, op)),
    |to| to.op().map(|op| reduce::<false>(to, op)),
];

/// [`RULES`], tried one after the other.
pub(super) fn answer(to: &mut Builder<'_>) -> Answer {
    let known = RULES.iter().find_map(|rule| rule(to));
    known.unwrap_or_else(|| Err("there is no ONNX form of this op".to_owned()))
}

impl<'g> Builder<'g> {
    /// An empty model of a graph, and of the same module for an input of another shape.
    pub(super) fn new(graphs: [&'g Graph<f32>; 2]) -> Self {
        Self { graphs, index: 0, names: Vec::new(), model: Model::default() }
    }

    /// Goes on to the next node, once the one before has its name.
    pub(super) fn name(&mut self, name: String) {
        self.names.push(name);
        self.index = self.names.len();
    }

    /// The node that is next in the graph.
    pub(super) fn node(&self) -> &'g Traced<f32> {
        &self.graphs[0].nodes()[self.index]
    }

    /// The error of the node that is next.
    pub(super) fn refused(&self, reason: String) -> ExportError {
        let (path, mut place) = (self.node().path(), self.graphs[0].describe(self.index));
        if place.is_empty() {
            place = "the module".to_owned();
        }
        if !path.is_empty() {
            place = format!("layer {path}, {place}");
        }
        ExportError::NoForm { place, reason }
    }

    /// With a node's value as that of the model.
    pub(super) fn ending(mut self, output: usize, name: &str) -> Self {
        let (extents, mut before) = (self.extents(output), self.value(output));
        if !self.graphs[0].nodes()[output].is_op() {
            before = self.push("Identity", [&before], []);
        }
        for node in &mut self.model.nodes {
            let inputs = node.inputs.iter_mut();
            inputs
                .chain([&mut node.output])
                .filter(|value| **value == before)
                .for_each(|value| name.clone_into(value));
        }
        self.model.output = Described { name: name.to_owned(), extents };
        self
    }

    /// The op, if it is one of this type.
    fn op<O: Op<f32>>(&self) -> Option<&'g O> {
        self.node().op()
    }

    /// The name of the value of a node that is done.
    pub(super) fn value(&self, index: usize) -> String {
        self.names[index].clone()
    }

    /// The name of an input of the op.
    fn input(&self, number: usize) -> String {
        self.value(self.node().inputs()[number])
    }

    fn inputs(&self) -> Vec<String> {
        self.node().inputs().iter().map(|&input| self.value(input)).collect()
    }

    /// The shape of an input of the op.
    fn shape(&self, number: usize) -> Shape {
        self.graphs[0].nodes()[self.node().inputs()[number]].shape()
    }

    /// The extents of a node's value in both graphs.
    fn pairs(&self, index: usize) -> Vec<[usize; 2]> {
        let [own, other] = self.graphs.map(|graph| graph.nodes()[index].shape());
        own.iter().zip(other.iter()).map(|(&own, &other)| [own, other]).collect()
    }

    /// The extents of a node's value. Axes that follow the images' are named or left open.
    pub(super) fn extents(&self, index: usize) -> Vec<Extent> {
        let input = self.graphs[0].input();
        let images = self.pairs(input);
        let extent = |(axis, pair): (usize, [usize; 2])| match axis {
            _ if pair[0] == pair[1] => Extent::Fixed(pair[0] as i64),
            0 if images[0] == pair => Extent::Named("N".to_owned()),
            2 | 3 if index == input => Extent::Named(["H", "W"][axis - 2].to_owned()),
            _ => Extent::Any,
        };
        self.pairs(index).into_iter().enumerate().map(extent).collect()
    }

    /// Adds an operator, named for the place of the op and its kind.
    pub(super) fn push<const SETTINGS: usize>(
        &mut self,
        kind: &str,
        inputs: impl IntoIterator<Item = impl Into<String>>,
        attributes: [(&str, Attribute); SETTINGS],
    ) -> String {
        let name = self.unused(kind);
        let attributes = attributes.map(|(name, value)| (name.to_owned(), value)).into();
        let inputs = inputs.into_iter().map(Into::into).collect();
        let output = name.clone();
        self.model.nodes.push(Node { name: name.clone(), kind: kind.to_owned(), inputs, output, attributes });
        name
    }

    /// A name in the place of the op that nothing bears yet.
    fn unused(&self, what: &str) -> String {
        let path = self.graphs[0].nodes().get(self.index).map_or("", Traced::path);
        let name = if path.is_empty() { what.to_owned() } else { format!("{path}/{what}") };
        let used = |name: &String| {
            self.model.nodes.iter().any(|node| node.output == *name)
                || self.model.initializers.iter().any(|(own, _)| own == name)
        };
        let numbered = (1..).map(|number| format!("{name}_{number}"));
        std::iter::once(name.clone())
            .chain(numbered)
            .find(|name| !used(name))
            .expect("there is no last number")
    }

    /// Adds numbers that are no parameter.
    pub(super) fn constant(&mut self, value: Tensor<f32>) -> String {
        self.initializer(Initializer::Floats(value))
    }

    fn scalar(&mut self, number: f64) -> String {
        self.constant(Tensor::full(Shape::scalar(), number as f32))
    }

    fn integers(&mut self, integers: Vec<i64>) -> String {
        self.initializer(Initializer::Integers(integers))
    }

    fn initializer(&mut self, value: Initializer) -> String {
        let name = self.unused("Constant");
        self.model.initializers.push((name.clone(), value));
        name
    }

    fn times_value(&mut self, a: &str, b: &str) -> String {
        self.push("Mul", [a, b], [])
    }

    fn times(&mut self, x: &str, factor: f64) -> String {
        let factor = self.scalar(factor);
        self.times_value(x, &factor)
    }

    fn plus(&mut self, x: &str, number: f64) -> String {
        let number = self.scalar(number);
        self.push("Add", [x, &number], [])
    }

    /// The op under its ONNX name, if it is of this type and has no settings.
    fn same<O: Op<f32>>(&mut self, kind: &str) -> Option<Answer> {
        self.with(kind, |_: &O| [])
    }

    /// The op under its ONNX name with its settings, if it is of this type.
    fn with<O: Op<f32>, const SETTINGS: usize>(
        &mut self,
        kind: &str,
        settings: impl Fn(&O) -> [(&'static str, Attribute); SETTINGS],
    ) -> Option<Answer> {
        let settings = settings(self.op()?);
        Some(Ok(self.push(kind, self.inputs(), settings)))
    }
}

fn integer(value: usize) -> Attribute {
    Attribute::Integer(value as i64)
}

fn integers(values: impl IntoIterator<Item = usize>) -> Attribute {
    Attribute::Integers(values.into_iter().map(|value| value as i64).collect())
}

fn float(value: f64) -> Attribute {
    Attribute::Float(value as f32)
}

/// ONNX names the padding at the begin of all axes and then at their end.
fn pads([vertical, horizontal]: [usize; 2]) -> Attribute {
    integers([vertical, horizontal, vertical, horizontal])
}

/// The whitening of pixels, which are the input, by the operators of global contrast normalization and of ZCA, whose matrix is
/// symmetric.
pub(super) fn whitened(to: &mut Builder<'_>, pixels: &str, whitening: &Whitening) -> String {
    let [c, h, w] = whitening.image_shape();
    let means = || [("axes", integers(1..4)), ("keepdims", integer(1))];
    let mean = to.push("ReduceMean", [pixels], means());
    let less = to.times(&mean, -1.0);
    let centered = to.push("Add", [pixels, &less], []);
    let squares = to.times_value(&centered, &centered);
    let square = to.push("ReduceMean", [squares], means());
    // An image that is the same everywhere becomes zeros, not NaN.
    let square = to.plus(&square, 1e-9);
    let exponent = to.scalar(-0.5);
    let factor = to.push("Pow", [square, exponent], []);
    let factor = to.times(&factor, SCALE / ((c * h * w) as f64).sqrt());
    let y = to.times_value(&centered, &factor);
    let Some([mean, matrix]) = whitening.zca() else { return y };
    let less = to.constant(Tensor::from_fn([1, c, h, w], |index| -mean.data()[index]));
    let y = to.push("Add", [y, less], []);
    let y = to.push("Flatten", [y], []);
    let matrix = to.constant(matrix.clone());
    let y = to.push("Gemm", [y, matrix], [("transB", integer(1))]);
    // 0 keeps N.
    let shape = to.integers([0, c, h, w].map(|extent| extent as i64).into());
    to.push("Reshape", [y, shape], [])
}

fn conv2d(to: &mut Builder<'_>, op: &ops::Conv2d) -> Answer {
    let kernel = to.shape(1);
    let settings = [
        ("kernel_shape", integers(kernel[2..].iter().copied())),
        ("strides", integers(op.stride)),
        ("pads", pads(op.padding)),
        ("dilations", integers(op.dilation)),
        ("group", integer(op.groups)),
    ];
    let y = to.push("Conv", to.inputs(), settings);
    Ok(if op.relu { to.push("Relu", [y], []) } else { y })
}

/// The settings of a pooling's windows.
///
/// PyTorch leaves out a last window that would begin behind the input and the padding before it; ONNX did not, before version 22
/// of its operators. There is none if a window reaches from the padding on over a whole step.
fn windows(
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    ceil_mode: bool,
) -> Result<[(&'static str, Attribute); 4], String> {
    if ceil_mode && (0..2).any(|axis| kernel[axis] < stride[axis] + padding[axis]) {
        return Err("windows that begin in the padding behind the image are counted in another way by ONNX"
            .to_owned());
    }
    Ok([
        ("kernel_shape", integers(kernel)),
        ("strides", integers(stride)),
        ("pads", pads(padding)),
        ("ceil_mode", integer(usize::from(ceil_mode))),
    ])
}

fn max_pool2d(to: &mut Builder<'_>, op: &ops::MaxPool2d) -> Answer {
    let settings = windows(op.kernel, op.stride, op.padding, op.ceil_mode)?;
    let x = if op.relu { to.push("Relu", to.inputs(), []) } else { to.input(0) };
    Ok(to.push("MaxPool", [x], settings))
}

fn avg_pool2d(to: &mut Builder<'_>, op: &ops::AvgPool2d) -> Answer {
    let counts = op.count_include_pad && op.padding != [0, 0];
    if counts && op.ceil_mode {
        return Err(
            "ONNX does not tell padding that counts from what ceil mode adds, which does not".to_owned()
        );
    }
    let [kernel, strides, pads, ceil] = windows(op.kernel, op.stride, op.padding, op.ceil_mode)?;
    let counts = ("count_include_pad", integer(usize::from(counts)));
    Ok(to.push("AveragePool", to.inputs(), [kernel, strides, pads, ceil, counts]))
}

fn adaptive_avg_pool2d(to: &mut Builder<'_>, op: &ops::AdaptiveAvgPool2d) -> Answer {
    if op.output == [1, 1] {
        return Ok(to.push("GlobalAveragePool", to.inputs(), []));
    }
    let sizes = to.pairs(to.node().inputs()[0]);
    let mut windows = [0; 2];
    for (axis, [size, other]) in sizes[2..].iter().enumerate() {
        if size != other || !size.is_multiple_of(op.output[axis]) {
            return Err(format!("its {size} rows or columns are not fixed, or make no equal windows"));
        }
        windows[axis] = size / op.output[axis];
    }
    let settings = [("kernel_shape", integers(windows)), ("strides", integers(windows))];
    Ok(to.push("AveragePool", to.inputs(), settings))
}

fn batch_norm2d(to: &mut Builder<'_>, op: &ops::BatchNorm2d) -> Answer {
    if to.inputs().len() != 5 {
        return Err("it normalizes by the statistics of the batch, not by running ones".to_owned());
    }
    Ok(to.push("BatchNormalization", to.inputs(), [("epsilon", float(op.eps))]))
}

/// Each group as a channel of its own, normalized; then weight and bias of the channels themselves.
fn group_norm(to: &mut Builder<'_>, op: &ops::GroupNorm) -> Answer {
    let [x, weight, bias] = [0, 1, 2].map(|number| to.input(number));
    let shape = to.push("Shape", [&x], []);
    let groups = to.integers(vec![0, op.groups as i64, -1, 1]);
    let y = to.push("Reshape", [&x, &groups], []);
    let [ones, zeros] = [1.0, 0.0].map(|number| to.constant(Tensor::full([op.groups], number)));
    let y = to.push("InstanceNormalization", [y, ones, zeros], [("epsilon", float(op.eps))]);
    let y = to.push("Reshape", [y, shape], []);
    let channels = to.integers(vec![-1, 1, 1]);
    let [weight, bias] = [weight, bias].map(|own| to.push("Reshape", [&own, &channels], []));
    let y = to.times_value(&y, &weight);
    Ok(to.push("Add", [y, bias], []))
}

fn silu(to: &mut Builder<'_>) -> Answer {
    let x = to.input(0);
    let gate = to.push("Sigmoid", [&x], []);
    Ok(to.times_value(&x, &gate))
}

/// Version 17 has no operator of its own.
fn gelu(to: &mut Builder<'_>, op: ops::Gelu) -> Answer {
    let x = to.input(0);
    let gate = match op {
        ops::Gelu::Erf => {
            let z = to.times(&x, FRAC_1_SQRT_2);
            to.push("Erf", [z], [])
        }
        ops::Gelu::Tanh => {
            let square = to.times_value(&x, &x);
            let z = to.times(&square, 0.044_715);
            let z = to.plus(&z, 1.0);
            let z = to.times_value(&x, &z);
            let z = to.times(&z, FRAC_2_SQRT_PI * FRAC_1_SQRT_2);
            to.push("Tanh", [z], [])
        }
    };
    let gate = to.plus(&gate, 1.0);
    let y = to.times_value(&x, &gate);
    Ok(to.times(&y, 0.5))
}

fn rsqrt(to: &mut Builder<'_>, op: &ops::Rsqrt) -> Answer {
    let x = to.plus(&to.input(0), op.eps);
    let exponent = to.scalar(-0.5);
    Ok(to.push("Pow", [x, exponent], []))
}

fn softmax(to: &mut Builder<'_>, op: &ops::Softmax) -> Answer {
    let axis = op.axis.unwrap_or(to.node().shape().len() - 1);
    Ok(to.push("Softmax", to.inputs(), [("axis", integer(axis))]))
}

/// The axes, all of them by number: ONNX takes none for all. Version 17 has those of a mean among the settings and those of a sum
/// among the inputs.
fn reduce<const MEAN: bool>(to: &mut Builder<'_>, op: &ops::Reduce<MEAN>) -> Answer {
    let axes = op.axes.clone().unwrap_or_else(|| (0..to.shape(0).len()).collect());
    let keepdims = ("keepdims", integer(usize::from(op.keepdim)));
    if axes.is_empty() {
        return Ok(to.push("Identity", to.inputs(), []));
    }
    if MEAN {
        return Ok(to.push("ReduceMean", to.inputs(), [("axes", integers(axes)), keepdims]));
    }
    let axes = to.integers(axes.into_iter().map(|axis| axis as i64).collect());
    Ok(to.push("ReduceSum", [to.input(0), axes], [keepdims]))
}

/// An axis that follows the images' is that of the input, written 0, or the one that is left over, written -1.
fn reshape(to: &mut Builder<'_>, _: &ops::Reshape) -> Answer {
    let (before, after) = (to.pairs(to.node().inputs()[0]), to.pairs(to.index));
    let mut extents = Vec::new();
    for (axis, pair) in after.iter().enumerate() {
        extents.push(match pair {
            [own, other] if own == other => *own as i64,
            pair if before.get(axis) == Some(pair) => 0,
            _ => -1,
        });
    }
    if extents.iter().filter(|&&extent| extent == -1).count() > 1 {
        return Err("several axes of the new shape depend on that of the images".to_owned());
    }
    let extents = to.integers(extents);
    Ok(to.push("Reshape", [to.input(0), extents], []))
}
