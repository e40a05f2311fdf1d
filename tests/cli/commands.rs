//! The commands as a user runs them: what a run leaves behind, and what the other commands print.

use std::fs;

use crate::common::{small, small_train};
use crate::refusals::{assert_refused, assert_refused_nothing, folder_with_data, nin, text, two_steps};
use assert_cmd::Command;
use serde_json::Value;

#[test]
fn a_run_leaves_settings_metrics_weights_and_curves_and_can_be_evaluated() {
    let (folder, data) = folder_with_data();
    let run = folder.path().join("below").join("run");
    let output = small_train(&data, &["--image-size", "28", "--epochs", "1"])
        .arg("--run-dir")
        .args([&run])
        .output()
        .unwrap();
    assert_refused_nothing(&output);
    let stdout = text(&output.stdout);
    assert!(stdout.contains("test acc") && stdout.contains("the run is in"), "{stdout}");

    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    for setting in ["model = \"nin-cifar\"", "image_size = 28", "batch_size = 8", "epochs = 1", "seed = 0"] {
        assert!(config.contains(setting), "{setting} in {config}");
    }
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("step").is_some()).collect();
    assert_eq!(steps.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(steps.iter().all(|line| line["loss"].as_f64().unwrap() > 0.0), "{metrics}");
    let epochs: Vec<&Value> = lines.iter().filter(|line| line.get("epoch").is_some()).collect();
    assert_eq!(epochs.len(), 1, "{metrics}");
    let epoch = epochs[0];
    let mean = steps.iter().map(|line| line["loss"].as_f64().unwrap()).sum::<f64>() / 5.0;
    assert_eq!(epoch["epoch"], 1);
    assert!((epoch["train_loss"].as_f64().unwrap() - mean).abs() < 1e-6, "{metrics}");
    for share in ["train_acc", "test_acc"] {
        assert!((0.0..=1.0).contains(&epoch[share].as_f64().unwrap()), "{metrics}");
    }
    assert!(epoch["images_per_s"].as_f64().unwrap() > 0.0, "{metrics}");
    let (weights, _) = nin::checkpoint::load_tensors(&run.join("model.safetensors")).unwrap();
    assert_eq!(weights["0.0.weight"].shape().to_vec(), [192, 1, 5, 5]);
    assert!(fs::read_to_string(run.join("curves.svg")).unwrap().contains("<svg"));

    // The command that evaluates a run comes to the accuracy that training wrote down.
    let output = nin().arg("eval").arg(&run).arg("--data-dir").arg(&data).output().unwrap();
    assert_refused_nothing(&output);
    let expected = format!("test acc {:.4} (", epoch["test_acc"].as_f64().unwrap());
    let stdout = text(&output.stdout);
    assert!(stdout.contains(&expected) && stdout.contains("of 20 images"), "{expected} in {stdout}");

    // A second run does not go over the first.
    let before = fs::read(run.join("model.safetensors")).unwrap();
    let output = small_train(&data, &[]).args(["--max-steps", "1", "--run-dir"]).arg(&run).output().unwrap();
    assert_refused(&output, 2, &["there is a run in this folder", "--resume"]);
    assert_eq!(fs::read(run.join("model.safetensors")).unwrap(), before);
}

/// What is held out is what the run and the command that evaluates it test on, unvaried.
#[test]
fn a_run_can_hold_out_training_images() {
    let (folder, data) = folder_with_data();
    let run = folder.path().join("run");
    let more = ["--hold-out", "15", "--augment", "shift:3,flip", "--epochs", "2"];
    let output = small_train(&data, &more).arg("--run-dir").arg(&run).output().unwrap();
    assert_refused_nothing(&output);
    assert!(text(&output.stdout).contains("the last 15 training images are held out"));
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    assert!(config.contains("hold_out = 15") && config.contains("augment = \"shift:3,flip\""), "{config}");
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let last: Value = serde_json::from_str(metrics.lines().last().unwrap()).unwrap();
    let output = nin().arg("eval").arg(&run).arg("--data-dir").arg(&data).output().unwrap();
    let expected = format!("test acc {:.4} (", last["test_acc"].as_f64().unwrap());
    let stdout = text(&output.stdout);
    assert!(stdout.contains(&expected) && stdout.contains("of 15 images"), "{expected} in {stdout}");
}

#[test]
fn an_evaluation_in_json_counts_every_image_of_either_half() {
    let (folder, data) = folder_with_data();
    let run = two_steps(folder.path(), &data);
    for (half, images) in [("train", 40), ("test", 20)] {
        let mut command = nin();
        command.arg("eval").arg(&run).arg("--data-dir").arg(&data).args(["--json", "--on", half]);
        let output = command.output().unwrap();
        assert_refused_nothing(&output);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let confusion: Vec<Vec<usize>> = serde_json::from_value(found["confusion"].clone()).unwrap();
        let rows: Vec<usize> = confusion.iter().map(|row| row.iter().sum()).collect();
        assert_eq!(rows, [images / 10; 10], "as many images of each class as there are");
        let correct: usize = (0..10).map(|class| confusion[class][class]).sum();
        assert_eq!((&found["on"], &found["images"]), (&half.into(), &images.into()), "{found}");
        assert_eq!(found["correct"], correct, "{found}");
        assert_eq!(found["accuracy"], correct as f64 / images as f64, "{found}");
        assert_eq!(found["classes"][9], "Ankle boot");
    }
}

#[test]
fn a_summary_counts_the_parameters_of_the_article() {
    let output = nin().arg("summary").output().unwrap();
    assert_refused_nothing(&output);
    let digits: String = text(&output.stdout).chars().filter(|c| !matches!(c, ',' | '_')).collect();
    assert!(digits.contains("1992166"), "{digits}");
    let output = nin().args(["summary", "--model", "alexnet"]).output().unwrap();
    assert_refused_nothing(&output);
    assert!(text(&output.stdout).contains("46,764,746"));
    let output = nin().args(["summary", "--plan"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2.0    Conv2d(96, 256, 5x5, padding 2) + ReLU       F(5x5, 5x5)"), "{text}");
    let output = nin().args(["summary", "--model", "resnet"]).output().unwrap();
    assert_refused(
        &output,
        2,
        &["resnet", "nin-d2l", "nin-cifar, lenet, alexnet, vgg11, resnet18, resnet18-cifar"],
    );
    let output = nin().args(["summary", "--model", "vgg11", "--head", "fc"]).output().unwrap();
    assert_refused(&output, 2, &["vgg11", "head fc", "class maps"]);
}

#[test]
fn help_names_every_flag() {
    let output = Command::new(env!("CARGO_BIN_EXE_train")).arg("--help").output().unwrap();
    assert!(output.status.success());
    let help = text(&output.stdout);
    for flag in [
        "model",
        "head",
        "recipe",
        "config",
        "dataset",
        "data-dir",
        "image-size",
        "batch-size",
        "epochs",
        "max-steps",
        "lr",
        "momentum",
        "weight-decay",
        "schedule",
        "dropout",
        "augment",
        "label-smoothing",
        "hold-out",
        "warmup-epochs",
        "clip-norm",
        "head-scale",
        "head-bias",
        "init",
        "no-shuffle",
        "seed",
        "seeds",
        "threads",
        "conv",
        "init-from",
        "run-dir",
        "resume",
    ] {
        assert!(
            help.contains(&format!("--{flag} <")) || help.contains(&format!("--{flag}\n")),
            "--{flag} in {help}"
        );
    }
    assert!(help.contains("Examples") && help.contains("Exit codes"), "{help}");
    // Line breaks depend on the terminal.
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words.contains("chapter: nin, fashion-mnist-mini, 224 pixels, batch 128, 10 epochs, lr 0.1,"),
        "{help}"
    );
}

/// `/dev/full` refuses every byte, as a file on a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn output_that_nobody_can_take_does_not_stop_a_run() {
    let full = |program: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" >/dev/full", "sh", program]);
        command
    };
    let (folder, data) = folder_with_data();
    let run = folder.path().join("run");
    let mut command = full(env!("CARGO_BIN_EXE_train"));
    command.args(small(&["--max-steps", "2"])).arg("--data-dir").arg(&data).arg("--run-dir").arg(&run);
    assert_refused_nothing(&command.output().unwrap());
    assert!(run.join("model.safetensors").exists());
    let output = full(env!("CARGO_BIN_EXE_nin")).arg("summary").output().unwrap();
    assert_refused(&output, 1, &["standard output", "writing"]);
}
