//! Networks as ONNX files, for ONNX Runtime, browsers and whatever else reads the Open Neural Network Exchange.
//!
//! The graph of a module's forward pass in evaluation is written op by op (`rules.rs`): any module that can be traced can be
//! written. A file is read back and run before anybody gets it (`run.rs`).

mod model;
mod rules;
mod run;

use std::sync::Arc;

use autograd::{AutogradError, Graph, Node};
use serde_json::json;
use tensor::{BufferPool, Context, Shape, Tensor};

use self::model::{Described, Initializer, Model};
use self::rules::Builder;
use self::run::Network;
use crate::data::{Image, Normalization, Whitening};
use crate::nn::{Module, bound, parameters};

/// The names of the graph's input and output.
const INPUT: &str = "input";
const OUTPUT: &str = "logits";

/// The most that logits of the file may differ from the module's, as a share of the largest.
const TOLERANCE: f32 = 1e-5;

/// An error of an export.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A part of the module has no ONNX form: which layer and op, and why.
    #[error("{place}: {reason}")]
    NoForm {
        /// The layer and the op with its settings.
        place: String,
        /// The reason for which there is no form.
        reason: String,
    },
    /// The module does not fit the images.
    #[error(transparent)]
    Module(#[from] AutogradError),
    /// The file cannot say what it was to say: how many names of classes or channels there are, and how many were expected.
    #[error("{0}")]
    About(String),
    /// The file that would have been written does not compute what the module does.
    #[error("the ONNX file was not written, since it is not the network: {0}")]
    Check(String),
}

/// Facts about a network that a file has beside its ops, all of them as text in the file's metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Export {
    /// The network's name: that of the file's graph.
    pub name: String,
    /// Names of the classes, K of them, or none: `classes`, a list as in JSON.
    pub classes: Vec<String>,
    /// The number that pixels are divided by: 255 if they have 8 bits. `unit`.
    pub unit: f32,
    /// The normalization after that: `mean` and `std`, lists as in JSON.
    pub normalization: Option<Normalization>,
    /// The whitening of whole images in the place of that: `whitening`, by name.
    pub whitening: Option<Whitening>,
    /// Has the graph begin with the division and the normalization, or with the whitening, so that its input is pixels from 0 to
    /// `unit`. Otherwise its input is what the network's is. `input` in the metadata is `pixels`, `normalized` or `whitened`.
    pub normalize: bool,
}

impl Default for Export {
    /// A network of which nothing is known but that its pixels have 8 bits.
    fn default() -> Self {
        let (name, classes) = ("network".to_owned(), Vec::new());
        Self { name, classes, unit: 255.0, normalization: None, whitening: None, normalize: false }
    }
}

impl Export {
    /// The whitening that is in the graph.
    fn whitens(&self) -> Option<&Whitening> {
        self.whitening.as_ref().filter(|_| self.normalize)
    }
}

/// A file, ready to be written ([`atomic_write`](crate::disk::atomic_write)).
#[derive(Debug, Clone, PartialEq)]
pub struct Exported {
    /// The bytes of the file.
    pub file: Vec<u8>,
    /// Tells whether images of other sizes than those that it was made for go in, too.
    pub any_size: bool,
}

/// The ONNX file (opset 17, version 8 of the format) of a module, for images such as these, N x C x H x W as the module sees
/// them.
///
/// Initializers have the names of the module's parameters, operators those of the places in which ops are applied and of their
/// kind: `layer1.0.conv1/Conv`. The input is called `input`, the output `logits`. N may be any in use, H and W, too, if the
/// module takes images of another size than these.
///
/// The file is read again and run on the images, and on larger ones if it takes them; it is only given out if its logits are the
/// module's, to 1e-5 of the largest.
///
/// # Errors
/// [`ExportError::NoForm`] if an op has no ONNX form, [`ExportError::Module`] if the module does not take the images,
/// [`ExportError::About`] if what is said about it cannot be, [`ExportError::Check`] if the file is not what it should be.
pub fn export(
    module: &dyn Module<f32>,
    images: &Tensor<f32>,
    about: &Export,
) -> Result<Exported, ExportError> {
    let [n, c, h, w] = images.shape().nchw("onnx").map_err(AutogradError::from)?;
    let other = if n == 1 { 2 } else { 1 };
    let checked = |any_size, other: [usize; 4]| {
        let file = encode(module, [images.shape(), other.into()], about)?;
        let numbers = images.data().iter().copied().cycle().take(other.iter().product());
        let others = Tensor::from_slice(other, &numbers.collect::<Vec<_>>()).map_err(AutogradError::from)?;
        check(&file, module, &[images, &others], about)?;
        Ok(Exported { file, any_size })
    };
    // A matrix is for one size.
    if about.whitens().is_some() {
        return checked(false, [other, c, h, w]);
    }
    checked(true, [other, c, 2 * h, 3 * w]).or_else(|_: ExportError| checked(false, [other, c, h, w]))
}

fn evaluation() -> Context {
    Context::evaluation(Arc::clone(BufferPool::global()))
}

/// The file of what is the same for images of both shapes.
fn encode(module: &dyn Module<f32>, shapes: [Shape; 2], about: &Export) -> Result<Vec<u8>, ExportError> {
    let trace = |shape| Graph::trace(&evaluation(), shape, |x| module.forward(x));
    let [graph, other] = [trace(shapes[0])?, trace(shapes[1])?];
    let mut to = Builder::new([&graph, &other]);
    let skeleton = |graph: &Graph<f32>| {
        let of =
            |node: &Node<f32>| (node.inputs().to_vec(), node.parameter(), node.is_op(), node.shape().len());
        graph.nodes().iter().map(of).collect::<Vec<_>>()
    };
    if skeleton(&graph) != skeleton(&other) {
        return Err(to.refused("it does something else for images of another shape".to_owned()));
    }
    let parameters = parameters(module);
    for (index, node) in graph.nodes().iter().enumerate() {
        let name = if let Some(identity) = node.parameter() {
            let own = parameters.iter().find(|(_, own)| own.identity == identity);
            let own = own.ok_or_else(|| to.refused("it uses a parameter that is not visited".to_owned()));
            let (name, own) = own?;
            to.model.initializers.push((name.clone(), Initializer::Floats(own.value.clone())));
            name.clone()
        } else if let Some(value) = node.constant() {
            to.constant(value.clone())
        } else if node.is_input() {
            to.model.input = Described { name: INPUT.to_owned(), extents: to.extents(index) };
            normalized(&mut to, about, shapes[0])?
        } else {
            rules::answer(&mut to).map_err(|reason| to.refused(reason))?
        };
        if node.is_op() && index != graph.output() {
            to.model.between.push(Described { name: name.clone(), extents: to.extents(index) });
        }
        to.name(name);
    }
    let Builder { mut model, .. } = to.ending(graph.output(), OUTPUT);
    model.name.clone_from(&about.name);
    model.metadata = metadata(about, graph.output_shape())?;
    Ok(model.encode())
}

/// The value of the input as the module sees it.
fn normalized(to: &mut Builder<'_>, about: &Export, images: Shape) -> Result<String, ExportError> {
    if let Some(whitening) = about.whitens() {
        let [c, h, w] = whitening.image_shape();
        if images[1..] != [c, h, w] {
            let found = format!("whitening of images of {c} x {h} x {w} for those of {images}");
            return Err(ExportError::About(found));
        }
        return Ok(rules::whitened(to, INPUT, whitening));
    }
    let channels = images[1];
    let mut factors = [vec![1.0 / f64::from(about.unit); channels], vec![0.0; channels]];
    if let Some(Normalization { mean, std }) = &about.normalization {
        if [mean.len(), std.len()] != [channels; 2] {
            let found = format!("{} means and {} deviations for {channels} channels", mean.len(), std.len());
            return Err(ExportError::About(found));
        }
        for (channel, (mean, std)) in mean.iter().zip(std).enumerate() {
            factors[0][channel] /= f64::from(*std);
            factors[1][channel] = -f64::from(*mean) / f64::from(*std);
        }
    }
    if !about.normalize {
        return Ok(INPUT.to_owned());
    }
    let [scale, shift] = factors
        .map(|factors| to.constant(Tensor::from_fn([1, channels, 1, 1], |channel| factors[channel] as f32)));
    let scaled = to.push("Mul", [INPUT, &scale], []);
    Ok(to.push("Add", [scaled, shift], []))
}

/// Text for programs that read the file.
fn metadata(about: &Export, logits: Shape) -> Result<Vec<(String, String)>, ExportError> {
    let Export { classes, unit, normalization, whitening, normalize, .. } = about;
    if !classes.is_empty() && logits.get(1) != Some(&classes.len()) {
        return Err(ExportError::About(format!("{} names of classes for logits of {logits}", classes.len())));
    }
    let input = match (normalize, whitening) {
        (true, _) => "pixels",
        (false, None) => "normalized",
        (false, Some(_)) => "whitened",
    };
    let mut all = vec![("input", input.to_owned()), ("unit", unit.to_string())];
    if let Some(Normalization { mean, std }) = normalization {
        all.extend([("mean", json!(mean).to_string()), ("std", json!(std).to_string())]);
    }
    if let Some(whitening) = whitening {
        all.push(("whitening", whitening.kind().to_string()));
    }
    if !classes.is_empty() {
        all.push(("classes", json!(classes).to_string()));
    }
    Ok(all.into_iter().map(|(key, text)| (key.to_owned(), text)).collect())
}

/// Reads a file and compares what it computes for images, N x C x H x W as the module sees them, with what the module does.
fn check(
    file: &[u8],
    module: &dyn Module<f32>,
    several: &[&Tensor<f32>],
    about: &Export,
) -> Result<(), ExportError> {
    let model = Model::decode(file).map_err(ExportError::Check)?;
    if model.encode() != file {
        return Err(ExportError::Check("it reads back as something else".to_owned()));
    }
    let network = Network::from(model);
    for &images in several {
        let (pixels, images) = match about.whitens() {
            None => (before_normalization(images, about), images.clone()),
            Some(whitening) => whitened(images, whitening)?,
        };
        let expected = evaluate(module, images)?;
        let found = evaluate(&network, pixels);
        let found = found.map_err(|error| ExportError::Check(error.to_string()))?;
        if found.shape() != expected.shape() {
            let reason = format!("its output is {}, expected {}", found.shape(), expected.shape());
            return Err(ExportError::Check(reason));
        }
        let largest = expected.data().iter().fold(0.0, |largest: f32, logit| largest.max(logit.abs()));
        for (found, expected) in found.data().iter().zip(expected.data()) {
            let near = (found - expected).abs() <= TOLERANCE * largest;
            if !near {
                return Err(ExportError::Check(format!("a logit is {found}, expected {expected}")));
            }
        }
    }
    Ok(())
}

/// The input of the file for images as the module sees them.
fn before_normalization(images: &Tensor<f32>, about: &Export) -> Tensor<f32> {
    let mut input = images.clone();
    if about.normalize {
        let planes = input.data_mut().chunks_mut(images.shape()[2..].iter().product());
        for (number, plane) in planes.enumerate() {
            let channel = number % images.shape()[1];
            let own = about.normalization.as_ref().map(|own| (own.mean[channel], own.std[channel]));
            let (mean, std) = own.unwrap_or((0.0, 1.0));
            plane.iter_mut().for_each(|value| *value = (*value * std + mean) * about.unit);
        }
    }
    input
}

/// Pixels of the shape of some images, from whose numbers they are made, and what a whitening makes of them.
fn whitened(images: &Tensor<f32>, whitening: &Whitening) -> Result<(Tensor<f32>, Tensor<f32>), ExportError> {
    let pixel = |index: usize| (128.0 + 50.0 * images.data()[index]).round().clamp(0.0, 255.0);
    let pixels = Tensor::from_fn(images.shape(), pixel);
    let each = pixels.data().chunks(images.shape()[1..].iter().product());
    let each: Vec<_> = each.map(|image| Image::Floats(image.into())).collect();
    let whitened = whitening.apply(BufferPool::global(), each.iter());
    let whitened = whitened.map_err(|error| ExportError::About(error.to_string()))?;
    Ok((pixels, whitened))
}

/// The output of a module, by its plan of an evaluation.
fn evaluate(module: &dyn Module<f32>, images: Tensor<f32>) -> Result<Tensor<f32>, AutogradError> {
    let context = evaluation();
    let plan = module.plan(&context, images.shape())?;
    Ok(bound(module, plan, &context).forward(&context, images).take_output())
}

#[cfg(test)]
mod tests {
    use tensor::init::Init;

    use super::model::{Attribute, Extent};
    use super::*;
    use crate::models::{self, Model as Name};
    use crate::nn::{AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Relu, Sequential, initialize};

    fn images() -> Tensor<f32> {
        Tensor::from_fn([3, 1, 5, 4], |index| (index * 7 % 11) as f32 - 5.0)
    }

    fn small() -> (Sequential<f32>, Vec<u8>) {
        let mut module = Sequential::new()
            .with(Conv2d::new(1, 3, 3, 1, 0))
            .with(BatchNorm2d::new(3))
            .named("last", Sequential::new().with(Relu).with(Relu))
            .with(AdaptiveAvgPool2d::GLOBAL)
            .with(Flatten);
        initialize(&mut module, Init::Normal(0.5), Init::Normal(0.5), 3);
        let Exported { file, any_size } = export(&module, &images(), &Export::default()).unwrap();
        assert!(any_size);
        (module, file)
    }

    #[test]
    fn names_are_those_of_the_state_dict_and_of_places() {
        let (module, file) = small();
        let model = Model::decode(&file).unwrap();
        let own: Vec<_> = parameters(&module).into_iter().map(|(name, _)| name).collect();
        assert_eq!(model.initializers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), own);
        let expected = [
            "0/Conv",
            "1/BatchNormalization",
            "last.0/Relu",
            "last.1/Relu",
            "3/GlobalAveragePool",
            "4/Flatten",
        ];
        assert_eq!(model.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(model.nodes[0].inputs, ["input", "0.weight", "0.bias"]);
        assert_eq!(model.nodes[5].output, "logits");
        let named = |name: &str| Extent::Named(name.to_owned());
        assert_eq!(model.input.extents, [named("N"), Extent::Fixed(1), named("H"), named("W")]);
        assert_eq!(model.output.extents, [named("N"), Extent::Fixed(3)]);
        assert_eq!(model.between[0].extents, [named("N"), Extent::Fixed(3), Extent::Any, Extent::Any]);
    }

    /// Ops that a module applies in one place are told apart.
    #[test]
    fn no_two_operators_have_one_name() {
        let network =
            models::Network { narrow: 32, ..models::Network::new(Name::ResNet18Cifar, [1, 9, 9], 3) };
        let mut network = network.build::<f32>().unwrap();
        initialize(&mut network, Init::HeNormal, Init::Constant(0.0), 3);
        let images = Tensor::from_fn([1, 1, 9, 9], |index| index as f32 / 81.0);
        let about = Export { classes: ["a", "b", "\"c\""].map(str::to_owned).to_vec(), ..Export::default() };
        let model = Model::decode(&export(&network, &images, &about).unwrap().file).unwrap();
        let mut names: Vec<_> = model.nodes.iter().map(|node| node.name.as_str()).collect();
        assert_eq!(
            names[3..8],
            [
                "layer1.0.conv1/Conv",
                "layer1.0.bn1/BatchNormalization",
                "layer1.0/Relu",
                "layer1.0.conv2/Conv",
                "layer1.0.bn2/BatchNormalization"
            ]
        );
        assert!(names.contains(&"layer1.0/Relu_1"), "{names:?}");
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
        let text = |(key, text): &(String, String)| format!("{key}={text}");
        let metadata: Vec<_> = model.metadata.iter().map(text).collect();
        assert_eq!(metadata, ["input=normalized", "unit=255", r#"classes=["a","b","\"c\""]"#]);
    }

    #[test]
    fn a_file_that_is_not_the_network_is_refused() {
        let (module, file) = small();
        let refused = |file: &[u8]| match check(file, &module, &[&images()], &Export::default()) {
            Err(ExportError::Check(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let changed = |change: fn(&mut Model)| {
            let mut model = Model::decode(&file).unwrap();
            change(&mut model);
            refused(&model.encode())
        };
        let weight = changed(|model| {
            let Initializer::Floats(weight) = &mut model.initializers[0].1 else {
                panic!("the first weight")
            };
            weight.data_mut()[4] += 0.01;
        });
        assert!(weight.starts_with("a logit is "), "{weight}");
        assert!(changed(|model| model.nodes[2].kind = "Sigmoid".to_owned()).starts_with("a logit is "));
        assert!(changed(|model| model.nodes[1].inputs.swap(3, 4)).starts_with("a logit is "));
        let found = "is described as [Named(\"N\"), Fixed(4)] and has shape 3 x 3";
        assert!(changed(|model| model.output.extents[1] = Extent::Fixed(4)).ends_with(found));
        let pads = changed(|model| model.nodes[0].attributes[2].1 = Attribute::Integers(vec![1, 1, 0, 0]));
        assert!(pads.ends_with("0/Conv has no pads of this use"), "{pads}");
        assert!(
            changed(|model| drop(model.nodes.remove(0)))
                .ends_with("input 0 of 1/BatchNormalization is not there")
        );
        assert!(
            changed(|model| model.nodes[0].kind = "Cast".to_owned()).ends_with("no operator Cast is known")
        );
        assert!(refused(&file[..file.len() - 1]).starts_with("no field of a message"));
        assert_eq!(refused(&[&file[..], &[0x10, 1]].concat()), "it reads back as something else");
    }

    /// Whatever a file's bytes are, reading and running it ends in an answer.
    #[test]
    fn no_flipped_bit_is_a_panic() {
        let (module, mut file) = small();
        let mut refused = 0;
        for bit in 0..8 * file.len() {
            file[bit / 8] ^= 1 << (bit % 8);
            refused += usize::from(check(&file, &module, &[&images()], &Export::default()).is_err());
            file[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(refused > 4 * file.len(), "{refused} of {} bits", 8 * file.len());
    }
}
