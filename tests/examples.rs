//! Every example runs, and does what it says.
#![allow(dead_code, reason = "nobody calls the examples' main functions here")]

use std::path::{Path, PathBuf};

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
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let resumed = regression::run_in(&folder).unwrap();
    assert!(resumed == after, "stopped and resumed {resumed} pixels, by the loop {after}");
    let config = std::fs::read_to_string(folder.join("config.toml")).unwrap();
    assert!(config.contains("epochs = 8\n") && !config.contains("model"), "{config}");
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

/// The files below a folder, or the file itself.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let inside = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    inside.flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// Tells whether a line of Rust names a crate below `nin` by its own name, which a crate that depends on `nin` alone does not
/// know.
fn names_another_crate(line: &str) -> bool {
    ["tensor::", "autograd::"].iter().any(|name| {
        line.match_indices(name).any(|(at, _)| {
            !line[..at].ends_with(|before: char| before == ':' || before == '_' || before.is_alphanumeric())
        })
    })
}

#[test]
fn code_that_is_shown_needs_nin_alone() {
    for (line, expected) in [
        ("use tensor::Tensor;", true),
        ("let x: autograd::Var<f32>", true),
        ("use nin::tensor::Tensor;", false),
        ("use rten_tensor::NdTensor;", false),
    ] {
        assert_eq!(names_another_crate(line), expected, "{line}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut blocks = 0;
    for file in ["README.md", "docs", "crates/nin/src", "crates/nin/examples"]
        .iter()
        .flat_map(|path| files(&root.join(path)))
    {
        let (rust, example) = (
            file.extension() == Some("rs".as_ref()),
            file.parent() == Some(&root.join("crates/nin/examples")),
        );
        if !rust && file.extension() != Some("md".as_ref()) {
            continue;
        }
        let mut inside = example;
        for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            let comment =
                || line.trim_start().strip_prefix("//!").or_else(|| line.trim_start().strip_prefix("///"));
            let Some(line) = (if rust && !example { comment() } else { Some(line) }) else { continue };
            if line.trim_start().starts_with("```") {
                inside = !inside;
                blocks += usize::from(inside);
            } else if inside {
                assert!(!names_another_crate(line), "{}:{}: {line}", file.display(), number + 1);
            }
        }
    }
    assert!(blocks > 50, "{blocks} blocks of code");
}
