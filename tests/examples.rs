//! Every example runs, and does what it says.
#![allow(dead_code, reason = "nobody calls the examples' main functions here")]

use nin::checkpoint::load_tensors;
use nin::nn::parameters;

#[path = "../crates/nin/examples/fine_tuning.rs"]
mod fine_tuning;
#[path = "../crates/nin/examples/lr_range_test.rs"]
mod lr_range_test;
#[path = "../crates/nin/examples/own_data.rs"]
mod own_data;
#[path = "../crates/nin/examples/regression.rs"]
mod regression;
#[path = "../crates/nin/examples/residual_block.rs"]
mod residual_block;
#[path = "../crates/nin/examples/shared_prediction.rs"]
mod shared_prediction;

#[test]
fn a_residual_block_learns() {
    let (first, last, accuracy) = residual_block::run().unwrap();
    assert!(last < 0.7 * first, "loss {first}, then {last}");
    assert!(accuracy > 0.7, "test accuracy {accuracy}");
}

#[test]
fn regression_finds_the_spot() {
    let (before, after) = regression::run().unwrap();
    assert!(after < 0.5 && after < 0.2 * before, "{before} pixels, then {after}");
}

#[test]
fn fine_tuning_leaves_frozen_layers_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trained.safetensors");
    let (tuned, before, after) = fine_tuning::run(&file).unwrap();
    assert!(after > 0.9 && after > before, "test accuracy {before}, then {after}");
    let (trained, own) = (load_tensors(&file).unwrap().0, parameters(&tuned));
    for (name, frozen) in own.iter().filter(|(_, parameter)| !parameter.requires_grad) {
        assert_eq!(frozen.value, trained[name], "{name}");
    }
    let learns = own.iter().filter(|(_, parameter)| parameter.requires_grad).map(|(name, _)| name.as_str());
    assert_eq!(learns.collect::<Vec<_>>(), ["head.weight", "head.bias"]);
}

#[test]
fn own_data_are_learned() {
    let (before, after) = own_data::run().unwrap();
    assert!(before < 0.6 && after > 0.95, "test accuracy {before}, then {after}");
}

#[test]
fn the_suggested_rate_learns_and_larger_ones_do_not() {
    let (test, suggested, trained) = lr_range_test::run().unwrap();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!((1e-3..0.1).contains(&suggested), "{suggested}");
    assert!(test.len() < 100 || mean(&test[90..]) > 1.5 * mean(&trained[90..]), "the largest rates diverge");
    assert!(mean(&trained[90..]) < 0.5 * trained[0], "{trained:?}");
}

#[test]
fn threads_that_share_a_network_have_the_same_bits() {
    let answers = shared_prediction::run().unwrap();
    assert_eq!(answers.len(), 6);
    for own in &answers {
        assert_eq!(own, &answers[0]);
    }
    assert_ne!(answers[0][0], answers[0][1], "images differ");
}
