//! [`Model`]: a file of the Open Neural Network Exchange in memory, written and read. Numbers of fields are those of version 8 of
//! the format, <https://github.com/onnx/onnx/blob/v1.12.0/onnx/onnx.proto>.

use tensor::{Shape, Tensor};

use crate::protobuf::{Fields, Message};

/// The version of the format and that of the set of operators.
const IR_VERSION: i64 = 8;
const OPERATORS: i64 = 17;

/// Types of elements and of attributes, by the format's numbers.
const FLOATS: i64 = 1;
const INTEGERS: i64 = 7;
const FLOAT_ATTRIBUTE: i64 = 1;
const INTEGER_ATTRIBUTE: i64 = 2;
const INTEGERS_ATTRIBUTE: i64 = 7;

/// A network: operators, the values that they begin with, and text.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) name: String,
    /// In an order in which they can be computed.
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<(String, Initializer)>,
    pub(super) input: Described,
    pub(super) output: Described,
    /// Values between them whose shapes are written.
    pub(super) between: Vec<Described>,
    pub(super) metadata: Vec<(String, String)>,
}

/// An operator of one output.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) inputs: Vec<String>,
    pub(super) output: String,
    pub(super) attributes: Vec<(String, Attribute)>,
}

/// A setting of an operator.
#[derive(Debug)]
pub(super) enum Attribute {
    Integer(i64),
    Integers(Vec<i64>),
    Float(f32),
}

/// A value that the file brings along.
#[derive(Debug)]
pub(super) enum Initializer {
    Floats(Tensor<f32>),
    /// A vector.
    Integers(Vec<i64>),
}

/// A tensor of `f32` by its name and extents.
#[derive(Debug, Default)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) extents: Vec<Extent>,
}

/// The extent of an axis.
#[derive(Debug, PartialEq)]
pub(super) enum Extent {
    Fixed(i64),
    /// Any, the same wherever the name is.
    Named(String),
    Any,
}

impl Model {
    /// The bytes of the file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let graph = Message::default()
            .each(&self.nodes, |graph, node| graph.bytes(1, node.encode()))
            .bytes(2, &self.name)
            .each(&self.initializers, |graph, (name, value)| graph.bytes(5, value.encode(name)))
            .bytes(11, self.input.encode())
            .bytes(12, self.output.encode())
            .each(&self.between, |graph, value| graph.bytes(13, value.encode()));
        Message::default()
            .integer(1, IR_VERSION)
            .bytes(2, env!("CARGO_PKG_NAME"))
            .bytes(3, env!("CARGO_PKG_VERSION"))
            .bytes(7, graph)
            .bytes(8, Message::default().bytes(1, "").integer(2, OPERATORS))
            .each(&self.metadata, |model, (key, text)| {
                model.bytes(14, Message::default().bytes(1, key).bytes(2, text))
            })
            .into_bytes()
    }

    /// The model of a file that [`Model::encode`] made; of one that others made, what that writes.
    pub(super) fn decode(file: &[u8]) -> Result<Self, String> {
        let model = Fields::read(file)?;
        let graph = Fields::read(model.bytes(7))?;
        let entry = |bytes| {
            let entry = Fields::read(bytes)?;
            Ok((entry.text(1)?, entry.text(2)?))
        };
        Ok(Self {
            name: graph.text(2)?,
            nodes: graph.each_bytes(1).map(Node::decode).collect::<Result<_, _>>()?,
            initializers: graph.each_bytes(5).map(Initializer::decode).collect::<Result<_, _>>()?,
            input: Described::decode(graph.bytes(11))?,
            output: Described::decode(graph.bytes(12))?,
            between: graph.each_bytes(13).map(Described::decode).collect::<Result<_, _>>()?,
            metadata: model.each_bytes(14).map(entry).collect::<Result<_, String>>()?,
        })
    }
}

impl Node {
    fn encode(&self) -> Message {
        Message::default()
            .each(&self.inputs, |node, input| node.bytes(1, input))
            .bytes(2, &self.output)
            .bytes(3, &self.name)
            .bytes(4, &self.kind)
            .each(&self.attributes, |node, (name, value)| node.bytes(5, value.encode(name)))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let node = Fields::read(bytes)?;
        Ok(Self {
            inputs: node.texts(1)?,
            output: node.text(2)?,
            name: node.text(3)?,
            kind: node.text(4)?,
            attributes: node.each_bytes(5).map(Attribute::decode).collect::<Result<_, _>>()?,
        })
    }
}

impl Attribute {
    fn encode(&self, name: &str) -> Message {
        let attribute = Message::default().bytes(1, name);
        match self {
            Self::Float(value) => attribute.float(2, *value).integer(20, FLOAT_ATTRIBUTE),
            Self::Integer(value) => attribute.integer(3, *value).integer(20, INTEGER_ATTRIBUTE),
            Self::Integers(values) => attribute
                .each(values, |attribute, value| attribute.integer(8, *value))
                .integer(20, INTEGERS_ATTRIBUTE),
        }
    }

    fn decode(bytes: &[u8]) -> Result<(String, Self), String> {
        let attribute = Fields::read(bytes)?;
        let value = match attribute.integer(20) {
            FLOAT_ATTRIBUTE => Self::Float(attribute.float(2)),
            INTEGER_ATTRIBUTE => Self::Integer(attribute.integer(3)),
            INTEGERS_ATTRIBUTE => Self::Integers(attribute.integers(8)),
            other => return Err(format!("an attribute of type {other}")),
        };
        Ok((attribute.text(1)?, value))
    }
}

impl Initializer {
    fn encode(&self, name: &str) -> Message {
        let (kind, extents, bytes): (_, _, &[u8]) = match self {
            Self::Floats(tensor) => (FLOATS, tensor.shape().to_vec(), bytemuck::cast_slice(tensor.data())),
            Self::Integers(values) => (INTEGERS, vec![values.len()], bytemuck::cast_slice(values)),
        };
        Message::default()
            .each(extents, |tensor, extent| tensor.integer(1, extent as i64))
            .integer(2, kind)
            .bytes(8, name)
            .bytes(9, bytes)
    }

    fn decode(bytes: &[u8]) -> Result<(String, Self), String> {
        let tensor = Fields::read(bytes)?;
        let (name, kind, raw) = (tensor.text(8)?, tensor.integer(2), tensor.bytes(9));
        let extents = tensor.integers(1).into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>();
        let extents = extents.map_err(|error| format!("{name}: {error}"))?;
        let shape = Shape::checked(&extents).map_err(|error| format!("{name}: {error}"))?;
        let fits = |width| shape.elements().checked_mul(width) == Some(raw.len());
        let value = match kind {
            FLOATS if fits(size_of::<f32>()) => {
                let mut tensor = Tensor::zeros(shape);
                bytemuck::cast_slice_mut(tensor.data_mut()).copy_from_slice(raw);
                Self::Floats(tensor)
            }
            INTEGERS if fits(size_of::<i64>()) => {
                let (integers, _) = raw.as_chunks();
                Self::Integers(integers.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect())
            }
            _ => return Err(format!("{name}: {} bytes are no {shape} of type {kind}", raw.len())),
        };
        Ok((name, value))
    }
}

impl Described {
    fn encode(&self) -> Message {
        let shape = Message::default().each(&self.extents, |shape, extent| shape.bytes(1, extent.encode()));
        let tensor = Message::default().integer(1, FLOATS).bytes(2, shape);
        Message::default().bytes(1, &self.name).bytes(2, Message::default().bytes(1, tensor))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let value = Fields::read(bytes)?;
        let shape = Fields::read(Fields::read(Fields::read(value.bytes(2))?.bytes(1))?.bytes(2))?;
        let extents = shape.each_bytes(1).map(Extent::decode).collect::<Result<_, _>>()?;
        Ok(Self { name: value.text(1)?, extents })
    }
}

impl Extent {
    fn encode(&self) -> Message {
        match self {
            Self::Fixed(extent) => Message::default().integer(1, *extent),
            Self::Named(name) => Message::default().bytes(2, name),
            Self::Any => Message::default(),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let axis = Fields::read(bytes)?;
        Ok(match (axis.integers(1).pop(), axis.texts(2)?.pop()) {
            (Some(extent), _) => Self::Fixed(extent),
            (None, Some(name)) => Self::Named(name),
            (None, None) => Self::Any,
        })
    }
}
