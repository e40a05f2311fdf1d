//! The networks against PyTorch: layer shapes, logits, all gradients, and the losses of ten SGD steps from the same weights.
//! Network in Network and LeNet as they are, with each kind of head; AlexNet and VGG-11 as narrow copies of the same layers.
//!
//! Weights and images are made by the integer recurrence of `tests/golden/draws.py`, bit for bit, which fingerprints confirm.
//! Tolerances: losses and logits 1e-4 relative, on every path. Gradients: without Winograd each sampled element to 1e-4 of its
//! tensor's largest, and the norm of each tensor likewise; with it, where a rounding of 5e-6 may turn a ReLU or a maximum over
//! and move single elements by percents, the norm of each tensor to 1e-3.

use std::collections::BTreeMap;

use autograd::{Bound, Context, Tape};
use nin::loss::{CrossEntropy, Loss};
use nin::models::{Model, Network};
use nin::nn::{Module, Parameter, Sequential, parameters, parameters_mut};
use nin::optim::{Gradients, Optimizer, Sgd};
use nin::summary::layers;
use rayon::prelude::*;
use safetensors::SafeTensors;
use serde_json::Value;
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, Element, GradientSum, Shape, Tensor};

use super::file;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn draw(stream: u64, index: u64) -> u64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    mix(mix((stream + 1).wrapping_mul(GOLDEN)).wrapping_add((index + 1).wrapping_mul(GOLDEN)))
}

fn fingerprint(values: &[f32]) -> String {
    let sum = values.iter().enumerate().fold(0u64, |sum, (index, value)| {
        sum.wrapping_add(u64::from(value.to_bits()).wrapping_mul(2 * index as u64 + 1))
    });
    format!("{sum:016x}")
}

fn parameter(number: u64, name: &str, shape: Shape) -> Tensor<f32> {
    let fan_in: usize = shape.iter().skip(1).product();
    let bound = (3.0 / fan_in as f64).sqrt() as f32;
    Tensor::from_fn(shape, |index| {
        let bits = (draw(number, index as u64) >> 40) as i64;
        if shape.len() > 1 {
            bound * ((bits - (1 << 23)) as f32 * (-23f32).exp2())
        } else {
            let small = 0.1f32 * (bits as f32 * (-24f32).exp2());
            if name.ends_with("weight") { 1.0 - small } else { small }
        }
    })
}

fn images(seed: u64, shape: Shape) -> Tensor<f32> {
    let [_, _, h, w] = shape.nchw("images").unwrap();
    Tensor::from_fn(shape, |index| {
        let (plane, y, x) = (index / (h * w), index / w % h, index % w);
        let coarse = (plane * h.div_ceil(8) + y / 8) * w.div_ceil(8) + x / 8;
        let pixel =
            3 * (draw(1000 + 2 * seed, coarse as u64) >> 42) + (draw(1001 + 2 * seed, index as u64) >> 42);
        (pixel as i64 - (1 << 23)) as f32 * (-23f32).exp2()
    })
}

/// One network with what PyTorch answered.
struct Golden {
    about: Value,
    tensors: BTreeMap<String, Vec<f64>>,
    images: Tensor<f32>,
    labels: Vec<usize>,
}

fn goldens() -> Vec<Golden> {
    ["models", "compared", "residual"].into_iter().flat_map(goldens_of).collect()
}

/// What a file of JSON says of its networks.
fn about(name: &str) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(file(name)).unwrap()).unwrap()
}

fn goldens_of(name: &str) -> Vec<Golden> {
    let tensors = std::fs::read(file(&format!("{name}.safetensors"))).unwrap();
    let tensors = SafeTensors::deserialize(&tensors).unwrap();
    about(&format!("{name}.json")).into_iter().map(|about| golden(about, &tensors)).collect()
}

fn golden(about: Value, file: &SafeTensors<'_>) -> Golden {
    let name = about["name"].as_str().unwrap();
    let prefix = format!("{name}.");
    let mut tensors = BTreeMap::new();
    for (full, view) in file.tensors() {
        if let (Some(short), safetensors::Dtype::F32) = (full.strip_prefix(&prefix), view.dtype()) {
            let numbers = view.data().as_chunks::<4>().0;
            let values = numbers.iter().map(|&bytes| f64::from(f32::from_le_bytes(bytes))).collect();
            tensors.insert(short.to_owned(), values);
        }
    }
    let extents: Vec<usize> = serde_json::from_value(about["input_shape"].clone()).unwrap();
    let images = images(about["image_seed"].as_u64().unwrap(), Shape::new(&extents));
    assert_eq!(fingerprint(images.data()), about["input_fingerprint"], "{name}: images");
    let labels = serde_json::from_value(about["labels"].clone()).unwrap();
    Golden { about, tensors, images, labels }
}

impl Golden {
    fn number(&self, key: &str) -> usize {
        self.about[key].as_u64().unwrap() as usize
    }

    fn name(&self) -> &str {
        self.about["name"].as_str().unwrap()
    }

    /// The network with the recurrence's weights.
    fn network(&self) -> Sequential<f32> {
        let model: Model = self.about["model"].as_str().unwrap().parse().unwrap();
        let shape = self.images.shape();
        let mut network = Network {
            dropout: 0.0,
            head: self.about["head"].as_str().map(|name| name.parse().unwrap()),
            narrow: self.about["narrow"].as_u64().map_or(1, |narrow| narrow as usize),
            ..Network::new(model, [shape[1], shape[2], shape[3]], self.number("classes"))
        }
        .build()
        .unwrap();
        let about = self.about["parameters"].as_array().unwrap();
        let mut all = parameters_mut(&mut network);
        all.retain(|(_, own)| !own.is_buffer());
        assert_eq!(all.len(), about.len(), "{}: parameters", self.name());
        for (index, ((name, own), about)) in all.iter_mut().zip(about).enumerate() {
            assert_eq!(about["name"], *name, "{}: names are PyTorch's", self.name());
            own.value = parameter(index as u64, name, own.value.shape());
            assert_eq!(fingerprint(own.value.data()), about["fingerprint"], "{}: {name}", self.name());
        }
        drop(all);
        network
    }

    /// Logits and loss of the network as it stands, and gradients of its parameters, zeros for buffers, by the plan that training
    /// runs.
    fn pass(&self, network: &Sequential<f32>, conv: ConvAlgorithm) -> (Tensor<f32>, f64, Vec<Tensor<f32>>) {
        let context = Context { conv, ..Context::training(BufferPool::poisoning()) };
        let bound = self.bound(network, &context);
        let mut run = bound.forward(&context, self.images.clone());
        let values = run.take_output();
        let tape = Tape::new(context.clone());
        let logits = tape.leaf(values.clone());
        let loss = CrossEntropy::default().mean(logits.clone(), tape.constant(self.targets())).unwrap();
        let number = loss.value().item().to_f64();
        let gradient = tape.backward(loss).unwrap().get(&logits).unwrap().clone();
        let own = parameters(network);
        let mut sums: Vec<_> = own.iter().map(|_| GradientSum::new()).collect();
        bound.backward(&context, run, gradient, &mut sums);
        let zeros = |own: &(String, &Parameter<f32>)| Tensor::zeros(own.1.value.shape());
        let of = |(sum, own): (GradientSum<f32>, _)| sum.finish(context.pool()).unwrap_or_else(|| zeros(own));
        let gradients = sums.into_iter().zip(&own).map(of).collect();
        (values, number, gradients)
    }

    fn targets(&self) -> Tensor<f32> {
        Tensor::from_fn([self.labels.len()], |i| self.labels[i] as f32)
    }

    fn bound(&self, network: &Sequential<f32>, context: &Context) -> Bound<f32> {
        let own = parameters(network);
        let value = |identity| {
            let number = own.iter().position(|(_, own)| own.identity == identity).unwrap();
            (number, own[number].1.value.clone())
        };
        Bound::new(network.plan(context, self.images.shape()).unwrap(), context, value)
    }

    /// The loss by the plan that evaluation runs.
    fn evaluated(&self, network: &Sequential<f32>, conv: ConvAlgorithm) -> f64 {
        let context = Context { conv, ..Context::evaluation(BufferPool::poisoning()) };
        let logits = self.bound(network, &context).forward(&context, self.images.clone()).take_output();
        let tape = Tape::new(context);
        let loss =
            CrossEntropy::default().mean(tape.constant(logits), tape.constant(self.targets())).unwrap();
        loss.value().item().to_f64()
    }
}

/// The largest difference over the largest expected value.
fn difference(found: impl Iterator<Item = f64>, expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    let mut count = 0;
    let worst = found.zip(expected).fold(0.0, |worst: f64, (found, expected)| {
        count += 1;
        assert!(found.is_finite(), "found {found}");
        worst.max((found - expected).abs())
    });
    assert_eq!(count, expected.len(), "as many values as expected");
    worst / largest
}

#[test]
fn logits_and_gradients() {
    for golden in goldens() {
        let network = golden.network();
        for conv in [ConvAlgorithm::Auto, ConvAlgorithm::Direct] {
            let (logits, _, gradients) = golden.pass(&network, conv);
            let error = difference(logits.data().iter().map(|&z| z.to_f64()), &golden.tensors["logits"]);
            assert!(error < 1e-4, "{} by {conv}: logits are off by {error:.1e}", golden.name());
            let named = parameters(&network).into_iter().zip(&gradients);
            for ((name, _), gradient) in named.filter(|((_, own), _)| !own.is_buffer()) {
                let all = golden.about["parameters"].as_array().unwrap();
                let about = all.iter().find(|about| about["name"] == name).unwrap();
                let expected = &golden.tensors[&format!("grad.{name}")];
                let stride = about["sample_stride"].as_u64().unwrap() as usize;
                let sampled = gradient.data().iter().step_by(stride).map(|&g| g.to_f64());
                let error = difference(sampled, expected);
                let norm = gradient.data().iter().map(|&g| g.to_f64().powi(2)).sum::<f64>().sqrt();
                let expected_norm = about["grad_l2"].as_f64().unwrap();
                let norm_error = (norm / expected_norm - 1.0).abs();
                let (for_norm, for_elements) =
                    if conv == ConvAlgorithm::Direct { (1e-4, 1e-4) } else { (1e-3, f64::INFINITY) };
                assert!(
                    norm_error < for_norm && error < for_elements,
                    "{} by {conv}: {name} is off by {error:.1e}, its norm by {norm_error:.1e}",
                    golden.name()
                );
            }
        }
    }
}

fn near(found: f64, expected: f64, what: &str) {
    assert!((found / expected - 1.0).abs() < 1e-4, "{what} {found}, PyTorch {expected}");
}

#[test]
fn ten_steps_of_sgd() {
    goldens().par_iter().for_each(|golden| {
        [ConvAlgorithm::Auto, ConvAlgorithm::Direct].par_iter().for_each(|&conv| ten_steps(golden, conv));
    });
}

fn ten_steps(golden: &Golden, conv: ConvAlgorithm) {
    let recipe = &golden.about["recipe"];
    let number = |key: &str| recipe[key].as_f64().unwrap();
    let expected: Vec<f64> = serde_json::from_value(golden.about["losses"].clone()).unwrap();
    assert_eq!(expected.len(), 10);
    let mut network = golden.network();
    let mut sgd = Sgd::new(number("lr")).momentum(number("momentum")).weight_decay(number("weight_decay"));
    for (step, &expected) in expected.iter().enumerate() {
        let (_, loss, gradients) = golden.pass(&network, conv);
        near(loss, expected, &format!("{} by {conv}, step {step}: loss", golden.name()));
        sgd.step(&mut network, Gradients::new(&gradients)).unwrap();
    }
    if let Some(expected) = golden.about["evaluated_loss"].as_f64() {
        let loss = golden.evaluated(&network, conv);
        near(loss, expected, &format!("{} by {conv}: loss by running statistics", golden.name()));
    }
    let (_, loss, _) = golden.pass(&network, conv);
    let expected = golden.about["final_loss"].as_f64().unwrap();
    near(loss, expected, &format!("{} by {conv}: final loss", golden.name()));
}

/// The shapes and parameters that the article prints, layer by layer, as PyTorch's modules have them: `shapes.json`.
#[test]
fn printed_layer_shapes() {
    let networks = about("shapes.json");
    let names: Vec<&str> = networks.iter().map(|network| network["model"].as_str().unwrap()).collect();
    assert_eq!(names, Model::ALL.map(|model| model.to_string()));
    let extents = |value: &Value| serde_json::from_value::<Vec<usize>>(value.clone()).unwrap();
    for (name, golden) in names.into_iter().zip(&networks) {
        let input = extents(&golden["input"]);
        let network = name.parse::<Model>().unwrap().build::<f32>(input[0], 10, 0.5);
        let own = layers(&network, Shape::new(&[&[1], &input[..]].concat())).unwrap();
        // Of residual networks the layers that have parameters.
        let residual = name.starts_with("resnet");
        let mut leaves = own.iter().filter(|layer| !residual || layer.parameters > 0);
        for expected in golden["layers"].as_array().unwrap() {
            let (path, kind) = (expected["path"].as_str().unwrap(), expected["kind"].as_str().unwrap());
            let (output, parameters) = (extents(&expected["output"]), expected["parameters"].as_u64());
            let found = if kind == "Sequential" {
                // A block's shape is its last layer's; its layers are compared one by one after it.
                let below = format!("{path}.");
                let inside: Vec<_> = own.iter().filter(|layer| layer.path.starts_with(&below)).collect();
                assert!(!inside.is_empty(), "{name}: no layers in block {path}");
                (&inside[inside.len() - 1].output[1..], inside.iter().map(|layer| layer.parameters).sum())
            } else {
                let layer = leaves.next().unwrap_or_else(|| panic!("{name}: no layer {path}"));
                assert_eq!(layer.path, path, "{name}");
                let own =
                    layer.kind.split('(').next().unwrap().replace("GlobalAvgPool2d", "AdaptiveAvgPool2d");
                assert_eq!(own, kind, "{name}: layer {path}");
                (&layer.output[1..], layer.parameters)
            };
            assert_eq!(found.0, output, "{name}: layer {path}, {kind}");
            assert_eq!(Some(found.1 as u64), parameters, "{name}: layer {path}, {kind}");
        }
        assert!(leaves.next().is_none(), "{name}: more layers than the article's");
    }
}
