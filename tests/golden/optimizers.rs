//! Optimizers against PyTorch's: five steps of each, with and without groups, schedules, clipping by the norm, and refusals.

use std::collections::BTreeMap;

use nin::checkpoint::load_tensors;
use nin::nn::{Linear, Sequential, freeze, parameters, parameters_mut};
use nin::optim::{AdamW, Gradients, Group, Optimizer, RmsProp, Schedule, Sgd, State};
use serde_json::Value;
use tensor::Tensor;

use super::file;

/// The cases of one kind, with the file's tensors.
fn cases(kind: &str) -> (Vec<Value>, BTreeMap<String, Tensor<f32>>) {
    let about = std::fs::read(file("optimizers.json")).unwrap();
    let mut about: Vec<Value> = serde_json::from_slice(&about).unwrap();
    about.retain(|case| case["kind"] == kind);
    (about, load_tensors(&file("optimizers.safetensors")).unwrap().0)
}

fn close(found: &[f32], expected: &[f32], place: &str) {
    assert_eq!(found.len(), expected.len(), "{place}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
            "{place}: {found}, PyTorch {expected}"
        );
    }
}

/// Tensors of the parameters' shapes out of a row of numbers. What the row is too short for is 0.
fn spread(network: &Sequential<f32>, mut row: &[f32]) -> Vec<Tensor<f32>> {
    let part = |(_, own): (String, &nin::nn::Parameter<f32>)| {
        let (part, rest) = row.split_at(row.len().min(own.value.len()));
        row = rest;
        Tensor::from_fn(own.value.shape(), |index| part.get(index).copied().unwrap_or(0.0))
    };
    parameters(network).into_iter().map(part).collect()
}

fn network(grouped: bool, tensors: &BTreeMap<String, Tensor<f32>>) -> Sequential<f32> {
    let (mut network, start) = if grouped {
        (Sequential::new().with(Linear::new(3, 2)).with(Linear::new(2, 1)), &tensors["network"])
    } else {
        (Sequential::new().with(Linear::new(7, 1)), &tensors["start"])
    };
    let values = spread(&network, start.data());
    parameters_mut(&mut network).into_iter().zip(values).for_each(|((_, own), value)| own.value = value);
    network
}

fn make_optimizer(kind: &str, case: &Value) -> Box<dyn Optimizer> {
    let params = &case["params"];
    let number = |key: &str| params[key].as_f64().unwrap();
    let flag = |key: &str| params[key].as_bool().unwrap_or(false);
    let groups = case["groups"].as_array().into_iter().flatten().map(|group| {
        let own = Group::new(group[0].as_str().unwrap()).rate(group[1].as_f64().unwrap());
        group[2].as_f64().map_or(own.clone(), |decay| own.weight_decay(decay))
    });
    if kind == "sgd" {
        let sgd = Sgd::new(number("lr")).momentum(number("momentum")).nesterov(flag("nesterov"));
        let sgd = sgd.weight_decay(number("weight_decay")).decoupled(flag("decoupled"));
        return Box::new(groups.fold(sgd, Sgd::group));
    }
    if kind == "rmsprop" {
        let rmsprop = RmsProp::new(number("lr")).alpha(number("alpha")).epsilon(number("eps"));
        let rmsprop = rmsprop.momentum(number("momentum")).weight_decay(number("weight_decay"));
        return Box::new(groups.fold(rmsprop, RmsProp::group));
    }
    let beta = |index: usize| params["betas"][index].as_f64().unwrap();
    let adamw = AdamW::new(number("lr")).betas(beta(0), beta(1)).epsilon(number("eps"));
    Box::new(groups.fold(adamw.weight_decay(number("weight_decay")), AdamW::group))
}

/// The parameters, one after the other.
fn values(network: &Sequential<f32>) -> Vec<f32> {
    parameters(network).into_iter().flat_map(|(_, own)| own.value.data().to_vec()).collect()
}

#[test]
fn every_optimizer_agrees_with_pytorch_and_goes_on_from_its_state() {
    for (kind, count, buffers) in [("sgd", 8, 1), ("adamw", 4, 3), ("rmsprop", 4, 2)] {
        let (cases, tensors) = cases(kind);
        assert_eq!(cases.len(), count);
        for case in cases {
            let name = case["name"].as_str().unwrap();
            let grouped = !case["groups"].is_null();
            let mut network = network(grouped, &tensors);
            let after = &tensors[&format!("{name}.after")];
            let grads = &tensors[if grouped { "network_grads" } else { "grads" }];
            let width = after.shape()[1];
            let mut optimizer = make_optimizer(kind, &case);
            for (step, gradient) in grads.data().chunks(width).enumerate() {
                // The scale undoes what was done to the gradient: clipping reaches every variant in the same way.
                let gradient: Vec<f32> = gradient.iter().map(|g| 2.0 * g).collect();
                let gradients = spread(&network, &gradient);
                optimizer.step(&mut network, Gradients::new(&gradients).scaled(0.5)).unwrap();
                let expected = &after.data()[step * width..][..width];
                close(&values(&network)[..width], expected, &format!("{name}, step {step}"));
                // A new one with its state goes on as the old one would have.
                let state = optimizer.state();
                let moved = if grouped { 3 } else { 2 };
                let plain = usize::from(case["params"]["momentum"] == 0.0);
                assert_eq!(state.len(), moved * (buffers - plain), "{name}");
                optimizer = make_optimizer(kind, &case);
                optimizer.load_state(&network, state).unwrap();
            }
        }
    }
}

#[test]
fn states_are_named_as_pytorchs() {
    let (_, tensors) = cases("sgd");
    let mut network = network(false, &tensors);
    let gradients = spread(&network, &[1.0; 8]);
    let mut names = |mut optimizer: Box<dyn Optimizer>| {
        optimizer.step(&mut network, Gradients::new(&gradients)).unwrap();
        optimizer.state().into_keys().collect::<Vec<_>>()
    };
    let momentum = ["0.bias.momentum_buffer", "0.weight.momentum_buffer"];
    assert_eq!(names(Box::new(Sgd::new(0.1).momentum(0.9))), momentum);
    let moments = ["exp_avg", "exp_avg_sq", "step"];
    let both = ["0.bias", "0.weight"].map(|name| moments.map(|buffer| format!("{name}.{buffer}")));
    assert_eq!(names(Box::new(AdamW::new(0.1))), both.concat());
    let squares = ["0.bias.square_avg", "0.weight.square_avg"];
    assert_eq!(names(Box::new(RmsProp::new(0.1))), squares);
}

#[test]
fn biases_do_not_decay_and_frozen_parameters_stay() {
    let (_, tensors) = cases("sgd");
    for mut optimizer in [
        Box::new(Sgd::new(0.1).momentum(0.9).weight_decay(0.5)) as Box<dyn Optimizer>,
        Box::new(AdamW::new(0.1).weight_decay(0.5)),
        Box::new(RmsProp::new(0.1).weight_decay(0.5)),
    ] {
        let mut network = network(true, &tensors);
        assert_eq!(freeze(&mut network, "1.*"), 2);
        let before = values(&network);
        let mut gradients = spread(&network, &[]);
        gradients[2].data_mut().fill(1.0);
        optimizer.step(&mut network, Gradients::new(&gradients)).unwrap();
        let after = values(&network);
        assert_ne!(before[..6], after[..6], "weights decay");
        assert_eq!(before[6..8], after[6..8], "a bias does not");
        assert_eq!(before[8..], after[8..], "frozen");
        assert!(optimizer.state().keys().all(|name| name.starts_with("0.")));
    }
}

#[test]
fn what_cannot_work_is_refused_and_changes_nothing() {
    let (_, tensors) = cases("sgd");
    let mut network = network(true, &tensors);
    let before = values(&network);
    let good = spread(&network, &[1.0; 11]);
    let mut refused = |mut optimizer: Box<dyn Optimizer>, gradients: &[Tensor<f32>]| {
        let error = optimizer.step(&mut network, Gradients::new(gradients)).unwrap_err().to_string();
        assert_eq!(values(&network), before);
        error
    };
    let sgd = || Box::new(Sgd::new(0.1).momentum(0.9));
    assert_eq!(refused(sgd(), &good[..3]), "optimizer: 3 gradients for 4 parameters");
    let mut swapped = good.clone();
    swapped.swap(0, 2);
    assert_eq!(refused(sgd(), &swapped), "optimizer: the gradient of 0.weight is 1 x 2, expected 2 x 3");
    assert_eq!(
        refused(Box::new(Sgd::new(f64::NAN)), &good),
        "optimizer: learning rate: expected a finite number of at least 0, found NaN"
    );
    assert_eq!(
        refused(Box::new(AdamW::new(0.1).betas(0.9, 1.0)), &good),
        "optimizer: the second beta: expected at least 0 and below 1, found 1"
    );
    assert_eq!(
        refused(Box::new(RmsProp::new(0.1).alpha(-0.1)), &good),
        "optimizer: alpha: expected at least 0 and below 1, found -0.1"
    );
    let group = Group::new("2.*").rate(0.1);
    assert_eq!(
        refused(Box::new(AdamW::new(0.1).group(group)), &good),
        "optimizer: no parameter's name matches the group \"2.*\"; there are: 0.weight, 0.bias, 1.weight, 1.bias"
    );
    let loaded = |name: &str, shape: [usize; 2]| {
        let state = State::from([(name.to_owned(), Tensor::zeros(shape))]);
        let mut sgd = sgd();
        let error = sgd.load_state(&network, state).unwrap_err().to_string();
        assert!(sgd.state().is_empty());
        error
    };
    assert_eq!(
        loaded("0.weight.momentum_buffer", [3, 2]),
        "optimizer state: tensor 0.weight.momentum_buffer is 3 x 2, expected 2 x 3"
    );
    assert_eq!(
        loaded("0.weight.exp_avg", [2, 3]),
        "optimizer state: tensor 0.weight.exp_avg is 2 x 3, expected momentum_buffer of one of the network's 4 parameters"
    );
}

#[test]
fn clipping_by_the_norm() {
    let (cases, tensors) = cases("clip_grad_norm");
    assert_eq!(cases.len(), 2);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let all: Vec<Tensor<f32>> = (0..3).map(|i| tensors[&format!("{name}.grad{i}")].clone()).collect();
        let gradients = Gradients::new(&all);
        assert!((gradients.norm() / case["total_norm"].as_f64().unwrap() - 1.0).abs() < 1e-6);
        let scale = gradients.clip_norm(case["params"]["max_norm"].as_f64().unwrap()).scale() as f32;
        for (index, tensor) in all.iter().enumerate() {
            let clipped: Vec<f32> = tensor.data().iter().map(|g| scale * g).collect();
            let expected = tensors[&format!("{name}.clipped{index}")].data();
            close(&clipped, expected, &format!("{name}, gradient {index}"));
        }
    }
}

#[test]
fn schedules() {
    let (cases, _) = cases("schedule");
    assert_eq!(cases.len(), 4);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let factors = case["factors"].as_array().unwrap();
        let scheduler = name.parse::<Schedule>().unwrap().over(factors.len() as u64);
        for (step, expected) in factors.iter().enumerate() {
            let (found, expected) = (scheduler.factor(step as u64), expected.as_f64().unwrap());
            assert!((found - expected).abs() < 1e-12, "{name}, step {step}: {found}, PyTorch {expected}");
        }
    }
}
