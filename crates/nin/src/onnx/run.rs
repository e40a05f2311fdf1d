//! [`Network`]: a [`Model`] that runs, on the ops of `tensor`. It knows nothing of what the model was made of.

use std::collections::BTreeMap;

use autograd::{AutogradError, Var};
use tensor::{Context, Element, Shape, ShapeError, Tensor, UnaryOp, ops};

use super::model::{Attribute, Described, Extent, Initializer, Model, Node};
use crate::nn::{Module, Output, Parameter};

/// The operators of a model as a module, with the initializers as parameters. It refuses values whose shapes are not as the model
/// describes them.
#[derive(Debug)]
pub(super) struct Network {
    nodes: Vec<Node>,
    parameters: Vec<(String, Parameter<f32>)>,
    integers: BTreeMap<String, Vec<i64>>,
    input: String,
    output: String,
    described: Vec<Described>,
}

fn refused(message: String) -> AutogradError {
    ShapeError::new("onnx", message).into()
}

impl From<Model> for Network {
    fn from(model: Model) -> Self {
        let (mut parameters, mut integers) = (Vec::new(), BTreeMap::new());
        for (name, value) in model.initializers {
            match value {
                Initializer::Floats(value) => {
                    let mut parameter = Parameter::new(value.shape(), false, (1, 1));
                    parameter.value = value;
                    parameters.push((name, parameter));
                }
                Initializer::Integers(values) => drop(integers.insert(name, values)),
            }
        }
        let (input, output) = (model.input.name.clone(), model.output.name.clone());
        let described = model.between.into_iter().chain([model.input, model.output]).collect();
        Self { nodes: model.nodes, parameters, integers, input, output, described }
    }
}

impl Module<f32> for Network {
    fn forward<'t>(&self, x: Var<'t, f32>) -> Output<'t, f32> {
        let images = x.shape();
        let mut values = Values { floats: BTreeMap::new(), integers: self.integers.clone() };
        for (name, parameter) in &self.parameters {
            values.insert(name, parameter.on(&x))?;
        }
        values.insert(&self.input, x.clone())?;
        for node in &self.nodes {
            if node.kind == "Shape" {
                let shape = values.of(node, 0)?.shape();
                let extents = shape.iter().map(|&extent| extent as i64).collect();
                values.integers.insert(node.output.clone(), extents);
                continue;
            }
            let y = x.tape().scope(&node.name, || node.apply(&values))?;
            values.insert(&node.output, y)?;
        }
        for described in &self.described {
            let value = values.floats.get(described.name.as_str());
            let shape = value.map_or(Shape::scalar(), Var::shape);
            if value.is_none() || !described.fits(shape, images) {
                let Described { name, extents } = described;
                return Err(refused(format!("{name} is described as {extents:?} and has shape {shape}")));
            }
        }
        Ok(values.floats[self.output.as_str()].clone())
    }

    fn visit<'a>(&'a self, _: &str, visit: &mut dyn FnMut(String, &'a Parameter<f32>)) {
        self.parameters.iter().for_each(|(name, parameter)| visit(name.clone(), parameter));
    }
}

impl Described {
    /// Tells whether a value may have this shape where the images have that one.
    fn fits(&self, shape: Shape, images: Shape) -> bool {
        let fits = |(extent, &found): (&Extent, &usize)| match extent {
            Extent::Fixed(extent) => *extent == found as i64,
            Extent::Named(name) => {
                let axis = ["N", "C", "H", "W"].iter().position(|axis| axis == name);
                axis.and_then(|axis| images.get(axis)) == Some(&found)
            }
            Extent::Any => true,
        };
        self.extents.len() == shape.len() && self.extents.iter().zip(shape.iter()).all(fits)
    }
}

/// The values so far, by their names.
struct Values<'t, 'n> {
    floats: BTreeMap<&'n str, Var<'t, f32>>,
    integers: BTreeMap<String, Vec<i64>>,
}

impl<'t, 'n> Values<'t, 'n> {
    fn insert(&mut self, name: &'n str, value: Var<'t, f32>) -> Result<(), AutogradError> {
        match self.floats.insert(name, value) {
            Some(_) => Err(refused(format!("two values are called {name}"))),
            None => Ok(()),
        }
    }

    /// An input of a node.
    fn of(&self, node: &Node, number: usize) -> Output<'t, f32> {
        let value = node.inputs.get(number).and_then(|name| self.floats.get(name.as_str()));
        value.cloned().ok_or_else(|| refused(format!("input {number} of {} is not there", node.name)))
    }

    fn integers_of(&self, node: &Node, number: usize) -> Result<&[i64], AutogradError> {
        let value = node.inputs.get(number).and_then(|name| self.integers.get(name));
        value
            .map(Vec::as_slice)
            .ok_or_else(|| refused(format!("input {number} of {} is not there", node.name)))
    }
}

impl Node {
    fn apply<'t>(&self, values: &Values<'t, '_>) -> Output<'t, f32> {
        let input = |number| values.of(self, number);
        let (x, more) = (input(0)?, 1..self.inputs.len());
        match self.kind.as_str() {
            "Identity" => Ok(x),
            "Relu" => x.relu(),
            "Sigmoid" => ops::Sigmoid.forward(x),
            "Tanh" => ops::Tanh.forward(x),
            "HardSwish" => ops::Hardswish.forward(x),
            "Erf" => Erf.forward(x),
            "LeakyRelu" => ops::LeakyRelu { slope: self.float("alpha")? }.forward(x),
            // The only exponent that is written is -1/2; another would show in the numbers.
            "Pow" => ops::Rsqrt { eps: 0.0 }.forward(x),
            "Abs" => x.abs(),
            "Exp" => x.exp(),
            "Log" => x.log(),
            "Add" => x.add(input(1)?),
            "Sub" => x.sub(input(1)?),
            "Mul" => x.mul(input(1)?),
            "Concat" => x.concat(more.map(input).collect::<Result<Vec<_>, _>>()?, self.number("axis")?),
            "Flatten" => x.flatten(),
            "Reshape" => {
                let shape = self.reshaped(x.shape(), values.integers_of(self, 1)?)?;
                x.reshape(shape)
            }
            "Softmax" => ops::Softmax { axis: Some(self.number("axis")?) }.forward(x),
            "ReduceMean" => {
                x.mean(ops::Mean { axes: Some(self.numbers("axes")?), keepdim: self.flag("keepdims")? })
            }
            "ReduceSum" => {
                let axes = values.integers_of(self, 1)?.iter().map(|&axis| self.whole(axis));
                x.sum(ops::Sum {
                    axes: Some(axes.collect::<Result<_, _>>()?),
                    keepdim: self.flag("keepdims")?,
                })
            }
            "Gemm" if self.flag("transB")? => {
                x.linear(input(1)?, more.skip(1).map(input).next().transpose()?)
            }
            "Conv" => {
                let op = ops::Conv2d {
                    stride: self.pair("strides")?,
                    padding: self.padding()?,
                    dilation: self.pair("dilations")?,
                    groups: self.number("group")?,
                    relu: false,
                };
                x.conv2d(input(1)?, more.skip(1).map(input).next().transpose()?, op)
            }
            "MaxPool" => {
                let (kernel, stride) = (self.pair("kernel_shape")?, self.pair("strides")?);
                let (padding, ceil_mode) = (self.padding()?, self.flag("ceil_mode")?);
                ops::MaxPool2d { kernel, stride, padding, ceil_mode, relu: false }.forward(x)
            }
            "AveragePool" => {
                let (kernel, stride) = (self.pair("kernel_shape")?, self.pair("strides")?);
                let (padding, ceil_mode) = (self.padding()?, self.flag("ceil_mode")?);
                let count_include_pad = self.flag("count_include_pad")?;
                ops::AvgPool2d { kernel, stride, padding, ceil_mode, count_include_pad }.forward(x)
            }
            "GlobalAveragePool" => ops::AdaptiveAvgPool2d::GLOBAL.forward(x),
            "BatchNormalization" => {
                let op = ops::BatchNorm2d { eps: self.float("epsilon")?, statistics: None };
                x.batch_norm2d(input(1)?, input(2)?, Some([input(3)?, input(4)?]), op)
            }
            "InstanceNormalization" => {
                let groups = x.shape().get(1).copied().unwrap_or_default();
                let op = ops::GroupNorm { groups, eps: self.float("epsilon")? };
                x.group_norm(input(1)?, input(2)?, op)
            }
            other => Err(refused(format!("{}: no operator {other} is known", self.name))),
        }
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    fn missing(&self, name: &str) -> AutogradError {
        refused(format!("{} has no {name} of this use", self.name))
    }

    fn float(&self, name: &str) -> Result<f64, AutogradError> {
        match self.attribute(name) {
            Some(Attribute::Float(value)) => Ok(f64::from(*value)),
            _ => Err(self.missing(name)),
        }
    }

    fn whole(&self, integer: i64) -> Result<usize, AutogradError> {
        usize::try_from(integer).map_err(|error| refused(format!("{}: {integer}: {error}", self.name)))
    }

    fn number(&self, name: &str) -> Result<usize, AutogradError> {
        match self.attribute(name) {
            Some(Attribute::Integer(value)) => self.whole(*value),
            _ => Err(self.missing(name)),
        }
    }

    /// Off if it is not there.
    fn flag(&self, name: &str) -> Result<bool, AutogradError> {
        Ok(self.attribute(name).is_some() && self.number(name)? == 1)
    }

    fn numbers(&self, name: &str) -> Result<Vec<usize>, AutogradError> {
        match self.attribute(name) {
            Some(Attribute::Integers(values)) => values.iter().map(|&value| self.whole(value)).collect(),
            _ => Err(self.missing(name)),
        }
    }

    fn pair(&self, name: &str) -> Result<[usize; 2], AutogradError> {
        self.numbers(name)?.try_into().map_err(|_| self.missing(name))
    }

    /// None if it is not there.
    fn padding(&self) -> Result<[usize; 2], AutogradError> {
        if self.attribute("pads").is_none() {
            return Ok([0, 0]);
        }
        match self.numbers("pads")?[..] {
            [top, left, bottom, right] if [top, left] == [bottom, right] => Ok([top, left]),
            _ => Err(self.missing("pads")),
        }
    }

    /// The shape that a tensor gets: 0 keeps an axis, -1 is for the elements that are left.
    fn reshaped(&self, shape: Shape, extents: &[i64]) -> Result<Shape, AutogradError> {
        let kept = |(axis, &extent): (usize, &i64)| match extent {
            0 => shape.get(axis).map_or(0, |&kept| kept as i64),
            other => other,
        };
        let mut extents: Vec<i64> = extents.iter().enumerate().map(kept).collect();
        let known = extents.iter().filter(|&&extent| extent != -1);
        let known = known.copied().try_fold(1i64, i64::checked_mul).unwrap_or_default();
        if let Some(open) = extents.iter_mut().find(|extent| **extent == -1) {
            *open = (shape.elements() as i64).checked_div(known).unwrap_or_default();
        }
        let extents = extents.into_iter().map(|extent| self.whole(extent)).collect::<Result<Vec<_>, _>>()?;
        Ok(Shape::checked(&extents)?)
    }
}

/// The error function, which only GELU is made of.
#[derive(Debug, Clone, Copy)]
struct Erf;

impl UnaryOp for Erf {
    /// The input.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "erf";

    fn compute<T: Element>(&self, _: &Context, x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        let erf = |x: T| {
            let tail = (-x * x).exp_nonpositive() * x.abs().erfcx();
            if x < T::ZERO { tail - T::ONE } else { T::ONE - tail }
        };
        (Tensor::from_fn(x.shape(), |index| erf(x.data()[index])), x)
    }

    fn gradient<T: Element>(&self, _: &Context, x: Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
        let slope = |x: T| T::from_f64(std::f64::consts::FRAC_2_SQRT_PI) * (-x * x).exp_nonpositive();
        dy.data_mut().iter_mut().zip(x.data()).for_each(|(dy, &x)| *dy *= slope(x));
        dy
    }
}
