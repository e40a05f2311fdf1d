//! The optimiser against PyTorch's: five steps of each variant of SGD, and clipping by the norm of all gradients.

use std::path::Path;

use nin::checkpoint::load_tensors;
use nin::nn::Parameter;
use nin::optim::{Sgd, clip_scale};
use serde_json::Value;
use tensor::Tensor;

/// The cases of one kind, with the file's tensors.
fn cases(kind: &str) -> (Vec<Value>, std::collections::BTreeMap<String, Tensor<f32>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    let about = std::fs::read_to_string(folder.join("sgd.json")).unwrap();
    let mut about: Vec<Value> = serde_json::from_str(&about).unwrap();
    about.retain(|case| case["kind"] == kind);
    (about, load_tensors(&folder.join("sgd.safetensors")).unwrap().0)
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
            "{what}: {found}, PyTorch {expected}"
        );
    }
}

#[test]
fn every_variant_of_sgd() {
    let (cases, tensors) = cases("sgd");
    assert_eq!(cases.len(), 6);
    let (start, gradients) = (&tensors["start"], tensors["grads"].data());
    for case in cases {
        let (name, params) = (case["name"].as_str().unwrap(), &case["params"]);
        let number = |key: &str| params[key].as_f64().unwrap();
        let nesterov = params["nesterov"].as_bool().unwrap();
        let mut sgd = Sgd::new(number("momentum"), nesterov, number("weight_decay"));
        let mut own = Parameter::new(start.shape(), true, (1, 1));
        own.value = start.clone();
        let after = tensors[&format!("{name}.after")].data();
        for (step, gradient) in gradients.chunks(start.len()).enumerate() {
            // The scale undoes what was done to the gradient: clipping reaches every variant in the same way.
            let gradient: Vec<f32> = gradient.iter().map(|g| 2.0 * g).collect();
            let gradient = Tensor::from_slice(start.shape(), &gradient).unwrap();
            sgd.step(number("lr"), 0.5, &mut [&mut own], &[gradient]);
            let expected = &after[step * start.len()..][..start.len()];
            close(own.value.data(), expected, &format!("{name}, step {step}"));
        }
    }
}

#[test]
fn a_bias_does_not_decay() {
    let (_, tensors) = cases("sgd");
    let start = &tensors["start"];
    let mut bias = Parameter::new(start.shape(), false, (1, 1));
    bias.value = start.clone();
    let mut sgd = Sgd::new(0.9, false, 0.5);
    sgd.step(0.1, 1.0, &mut [&mut bias], &[Tensor::zeros(start.shape())]);
    assert_eq!(bias.value, *start);
}

#[test]
fn clipping_by_the_norm() {
    let (cases, tensors) = cases("clip_grad_norm");
    assert_eq!(cases.len(), 2);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let all: Vec<&Tensor<f32>> = (0..3).map(|i| &tensors[&format!("{name}.grad{i}")]).collect();
        let squares = all.iter().flat_map(|tensor| tensor.data()).map(|&g| f64::from(g) * f64::from(g));
        let norm = squares.sum::<f64>().sqrt();
        assert!((norm / case["total_norm"].as_f64().unwrap() - 1.0).abs() < 1e-6);
        let scale = clip_scale(norm, case["params"]["max_norm"].as_f64()) as f32;
        for (index, tensor) in all.iter().enumerate() {
            let clipped: Vec<f32> = tensor.data().iter().map(|g| scale * g).collect();
            let expected = tensors[&format!("{name}.clipped{index}")].data();
            close(&clipped, expected, &format!("{name}, gradient {index}"));
        }
    }
    assert_eq!(clip_scale(1e9, None), 1.0, "no limit, no clipping");
}
