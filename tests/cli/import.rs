//! `nin import`: weights as PyTorch saves them.

use std::fs;
use std::path::Path;

use nin::Classifier;
use nin::data::Picture;
use nin::models::{Head, Model, Network};
use nin::nn::parameters;
use serde_json::json;
use tensor::Tensor;

use crate::common::{Place, assert_has, refused, succeeded};

/// The types of a file's tensors, in turn.
const TYPES: [&str; 2] = ["F16", "BF16"];

/// Numbers of 16 bits, about as large as weights are, and positive, as a variance is; and their values, by IEEE 754 or, of
/// `BF16`, of the upper half of 32 bits.
fn numbers(dtype: &str) -> Vec<(u16, f32)> {
    let number = |index: u16| match dtype {
        "BF16" => {
            let bits = 0x3c00 | index & 127;
            (bits, f32::from_bits(u32::from(bits) << 16))
        }
        _ => {
            // (1024 + fraction) * 2^(exponent - 25).
            let (exponent, fraction) = (8 + (index >> 7), (index & 127) << 3);
            (exponent << 10 | fraction, f32::from(1024 + fraction) * 2f32.powi(i32::from(exponent) - 25))
        }
    };
    (0..=255).map(number).collect()
}

/// Elements after which the numbers of a tensor come again.
const PERIOD: usize = 1 << 15;

/// The number, of those 256, that is at an element of a tensor.
fn draw(index: usize) -> usize {
    index.wrapping_mul(2_654_435_761) >> 7 & 255
}

/// The bytes of so many elements, from those of a period.
fn repeated(period: &[u8], elements: usize) -> Vec<u8> {
    let mut all = period.repeat(elements.div_ceil(PERIOD));
    all.truncate(elements * (period.len() / PERIOD));
    all
}

/// A file of a network's tensors, in halves under `module.`, with counters of batches, or as the same numbers in 32 bits.
fn write(path: &Path, network: &Network, wrapped: bool) {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    let mut add = |name: &str, dtype: &str, shape: &[usize], bytes: &[u8], data: &mut Vec<u8>| {
        let offsets = [data.len(), data.len() + bytes.len()];
        let name = if wrapped { format!("module.{name}") } else { name.to_owned() };
        header.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
        data.extend(bytes);
    };
    let known = TYPES.map(numbers);
    for (place, (name, own)) in parameters(&network.build::<f32>().unwrap()).into_iter().enumerate() {
        let numbers = (0..PERIOD).map(|index| known[place % 2][draw(index)]);
        if wrapped {
            let period: Vec<u8> = numbers.flat_map(|(half, _)| half.to_le_bytes()).collect();
            let bytes = repeated(&period, own.value.len());
            add(&name, TYPES[place % 2], &own.value.shape(), &bytes, &mut data);
            if let Some(layer) = name.strip_suffix("running_var") {
                add(&format!("{layer}num_batches_tracked"), "I64", &[], &7i64.to_le_bytes(), &mut data);
            }
        } else {
            let period: Vec<u8> = numbers.flat_map(|(_, value)| value.to_le_bytes()).collect();
            add(&name, "F32", &own.value.shape(), &repeated(&period, own.value.len()), &mut data);
        }
    }
    let header = serde_json::to_vec(&header).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes(), &header[..], &data].concat()).unwrap();
}

/// Each network, and one with another head, at a size other than its own where that is small enough to be quick.
#[test]
fn halves_of_pytorch_make_the_logits_of_the_same_numbers() {
    let place = Place::empty();
    for model in Model::ALL {
        let side: usize = match model {
            Model::AlexNet | Model::NinD2l => 67,
            Model::Nin | Model::ResNet18 => 64,
            _ => 32,
        };
        let heads = if model == Model::NinCifar { vec![None, Some(Head::Fc)] } else { vec![None] };
        for head in heads {
            let network = Network { head, ..Network::new(model, [3, side, side], 4) };
            let imported = |wrapped: bool| {
                write(&place.path("in.safetensors"), &network, wrapped);
                let side = side.to_string();
                let mut command =
                    vec!["import", "in.safetensors", "--model", model.name(), "--image-size", &side];
                command.extend(head.iter().flat_map(|head| ["--head", head.name()]));
                command.extend(["--classes", "a,b,c,d", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.25"]);
                succeeded(place.nin(&[&command[..], &["-o", "out.safetensors"]].concat()));
                Classifier::load(&place.path("out.safetensors")).unwrap()
            };
            let (halves, whole) = (imported(true), imported(false));
            let all = parameters(halves.network()).into_iter().zip(parameters(whole.network()));
            let tensors: Vec<[&Tensor<f32>; 2]> = all.map(|((_, a), (_, b))| [&a.value, &b.value]).collect();
            assert!(tensors.iter().all(|[a, b]| a.shape() == b.shape() && a.data() == b.data()), "{model}");
            for (dtype, [tensor, _]) in TYPES.iter().zip(&tensors) {
                assert_eq!(tensor.data()[3], numbers(dtype)[draw(3)].1, "{model} {dtype}");
            }
            let picture =
                Picture::new([3, 20, 30], (0..1800).map(|i| (i * 7 % 251) as u8).collect()).unwrap();
            assert_eq!(halves.classify(&picture).unwrap(), whole.classify(&picture).unwrap());
            assert_eq!(halves.card(), whole.card());
        }
    }
}

#[test]
fn what_is_not_the_networks_is_refused_with_shapes() {
    let place = Place::empty();
    write(&place.path("a.safetensors"), &Network::new(Model::LeNet, [1, 28, 28], 3), true);
    let import =
        |more: &[&str]| place.nin(&[&["import", "a.safetensors", "-o", "b.safetensors"], more].concat());
    fs::write(place.path("two.txt"), "cat\ndog\n").unwrap();
    for (more, code, what) in [
        (&[] as &[&str], 2, "--model <NAME>"),
        (&["--model", "lenet", "--image-size", "32"], 2, "tensor 7.weight is 120 x 400, expected 120 x 576"),
        (
            &["--model", "nin"],
            2,
            "a.safetensors: weights of another network: no tensor 0.0.weight, expected 96 x 1 x",
        ),
        (
            &["--model", "lenet", "--classes", "two.txt"],
            2,
            "classes: expected 3 names, as the file has logits, found 2",
        ),
        (&["--model", "lenet", "--classes", "nowhere"], 2, "nowhere: cannot read"),
        (&["--model", "lenet", "--mean", "0.5"], 2, "--std"),
        (
            &["--model", "lenet", "--mean", "0.5,1", "--std", "1,1"],
            2,
            "mean: expected a number for each of the 1 channels, found 2",
        ),
        (&["--model", "lenet", "--mean", "0.5", "--std", "0"], 2, "b.safetensors: its card's "),
    ] {
        refused(import(more), code, &[what]);
        assert!(!place.path("b.safetensors").exists(), "{more:?}");
    }
    let printed = succeeded(import(&["--model", "lenet"]));
    assert_has(
        &printed,
        &["b.safetensors: lenet, 10 tensors, 61,111 parameters, images 1 x 28 x 28, 3 classes"],
    );
    // What was imported is exported as any other.
    assert_has(
        &succeeded(place.nin(&["export", "--weights", "b.safetensors", "--onnx", "b.onnx"])),
        &["b.onnx: lenet, "],
    );
    let again = ["import", "b.safetensors", "--model", "lenet", "-o", "c.safetensors"];
    refused(place.nin(&again), 2, &["b.safetensors: says itself what it is"]);
}
