//! The commands as a user runs them: what a run leaves behind, and what the other commands print.

use serde_json::Value;
use tensor::init::Init;

use crate::common::{Place, TRAIN, assert_has, json, refused, succeeded};

#[test]
fn a_run_leaves_settings_metrics_weights_and_curves_and_can_be_evaluated() {
    let place = Place::of_nin();
    let stdout = succeeded(place.train("below/run", &["--image-size", "28", "--epochs", "1"]));
    assert_has(&stdout, &["test acc", "the run is in"]);

    let config = place.read("below/run/config.toml");
    let settings = ["model = \"nin-cifar\"", "image_size = 28", "batch_size = 8", "epochs = 1", "seed = 0"];
    assert_has(&config, &settings);
    let lines = place.metrics("below/run");
    let steps: Vec<&Value> = lines.iter().filter(|line| line.get("step").is_some()).collect();
    assert_eq!(steps.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(steps.iter().all(|line| line["loss"].as_f64().unwrap() > 0.0), "{lines:?}");
    let epochs: Vec<&Value> = lines.iter().filter(|line| line.get("epoch").is_some()).collect();
    let [epoch] = epochs[..] else { panic!("one epoch: {lines:?}") };
    let mean = steps.iter().map(|line| line["loss"].as_f64().unwrap()).sum::<f64>() / 5.0;
    assert_eq!(epoch["epoch"], 1);
    assert!((epoch["train_loss"].as_f64().unwrap() - mean).abs() < 1e-6, "{epoch}");
    for share in ["train_acc", "test_acc"] {
        assert!((0.0..=1.0).contains(&epoch[share].as_f64().unwrap()), "{epoch}");
    }
    assert!(epoch["images_per_s"].as_f64().unwrap() > 0.0, "{epoch}");
    let (weights, _) = nin::checkpoint::load_tensors(&place.path("below/run/model.safetensors")).unwrap();
    assert_eq!(weights["0.0.weight"].shape().to_vec(), [192, 1, 5, 5]);
    assert!(place.read("below/run/curves.svg").contains("<svg"));

    // The command that evaluates a run comes to the accuracy that training wrote down.
    let expected = format!("test acc {:.4} (", epoch["test_acc"].as_f64().unwrap());
    assert_has(&succeeded(place.eval("below/run", &[])), &[&expected, "of 20 images"]);

    // A second run does not go over the first.
    let before = place.saved("below/run");
    let again = place.train("below/run", &["--max-steps", "1"]);
    refused(again, 2, &["there is a run in this folder", "--resume"]);
    assert_eq!(place.saved("below/run"), before);
}

/// Images that are held out are what the run and the command that evaluates it test on, unvaried.
#[test]
fn a_run_can_hold_out_training_images() {
    let place = Place::of_nin();
    let more = ["--hold-out", "15", "--augment", "shift:3,flip", "--epochs", "2"];
    let stdout = succeeded(place.train("run", &more));
    assert_has(&stdout, &["15 of 40 training images are held out"]);
    assert_has(&place.read("run/config.toml"), &["hold_out = 15", "augment = \"shift:3,flip\""]);
    let last = place.metrics("run").pop().unwrap();
    let expected = format!("test acc {:.4} (", last["test_acc"].as_f64().unwrap());
    assert_has(&succeeded(place.eval("run", &[])), &[&expected, "of 15 images"]);
}

#[test]
fn an_evaluation_in_json_counts_every_image_of_either_half() {
    let place = Place::of_nin();
    place.steps("run", 2, &[]);
    for (half, images) in [("train", 40), ("test", 20)] {
        let found = json(place.eval("run", &["--json", "--on", half]));
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
    let place = Place::empty();
    let summary = |more: &[&str]| place.nin(&[&["summary"], more].concat());
    assert_has(&succeeded(summary(&[])), &["1,992,166"]);
    assert_has(&succeeded(summary(&["--model", "alexnet"])), &["46,764,746"]);
    let plan = succeeded(summary(&["--plan"]));
    let words = plan.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_has(&words, &["2.0 Conv2d(96, 256, 5x5, padding 2) + ReLU F(5x5, 5x5)"]);
    let names = "nin-cifar, lenet, alexnet, vgg11, resnet18, resnet18-cifar";
    refused(summary(&["--model", "resnet"]), 2, &["resnet", "nin-d2l", names]);
    refused(summary(&["--model", "vgg11", "--head", "fc"]), 2, &["vgg11", "head fc", "class maps"]);
}

/// The shapes that the chapter's page shows of its network are what is printed.
#[test]
fn the_shapes_of_the_chapters_page_are_those_of_the_program() {
    let page = include_str!("../../docs/chapter.md");
    let summary = ["summary", "--model", "nin-d2l", "--image-size", "224"];
    let printed = succeeded(Place::empty().nin(&summary));
    assert!(page.contains(&format!("\n```text\n{printed}```\n")), "{printed}");
    // The last layer of each part: of `0.0` to `0.5` and the like.
    let mut parts: Vec<(String, String)> = Vec::new();
    for line in printed.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        let part = line.split(['.', ' ']).next().unwrap().to_owned();
        let shape = line.split("  ").map(str::trim).find(|column| column.starts_with("1 x ")).unwrap();
        parts.retain(|(own, _)| *own != part);
        parts.push((part, shape.to_owned()));
    }
    let shapes: String = parts.iter().map(|(part, shape)| format!("{part} {shape}\n")).collect();
    assert_eq!(parts.len(), 10);
    assert!(page.contains(&format!("\n```text\n{shapes}```\n")), "{shapes}");
}

#[test]
fn a_network_is_exported_with_what_its_file_says_of_it() {
    let place = Place::of_nin();
    place.steps("run", 2, &[]);
    let printed = succeeded(place.nin(&["export", "run", "--onnx", "below/run.onnx"]));
    assert_has(
        &printed,
        &["below/run.onnx: nin-cifar, ", " bytes, input N x 1 x H x W of normalized pixels; 3 images gave"],
    );
    let holds = |file: &str, parts: &[&str]| {
        let bytes = std::fs::read(place.path(file)).unwrap();
        for part in parts {
            assert!(bytes.windows(part.len()).any(|found| found == part.as_bytes()), "no {part} in {file}");
        }
    };
    let metadata = ["input", "normalized", "unit", "255", "mean", "std", r#""Sandal","Shirt""#];
    holds("below/run.onnx", &[&metadata[..], &["0.0.weight", "0.0/Conv", "logits"]].concat());
    let printed = succeeded(place.nin(&["export", "run", "--onnx", "pixels.onnx", "--normalize"]));
    assert_has(&printed, &["of pixels from 0 to 255"]);
    holds("pixels.onnx", &["pixels"]);

    let weights = "run/model.safetensors";
    let export = |more: &[&str]| place.nin(&[&["export", "--onnx", "no/such.onnx"], more].concat());
    refused(export(&["--weights", weights, "--model", "lenet"]), 2, &[weights, "says itself", "--model"]);
    refused(export(&[]), 2, &["--weights"]);
    refused(export(&["none"]), 2, &["none/model.safetensors", "cannot"]);
    // Weights from elsewhere.
    let mut network = nin::models::Model::LeNet.build::<f32>(1, 10, 0.0);
    nin::nn::initialize(&mut network, Init::HeNormal, Init::Constant(0.0), 0);
    nin::checkpoint::save_parameters(&place.path("lenet.safetensors"), &network).unwrap();
    let elsewhere = ["--weights", "lenet.safetensors"];
    let printed = succeeded(export(&[&elsewhere[..], &["--model", "lenet"]].concat()));
    assert_has(&printed, &["lenet, ", "input N x 1 x 28 x 28 of normalized pixels"]);
    refused(export(&elsewhere), 2, &["lenet.safetensors", "does not say", "--model"]);
    let normalized = [&elsewhere[..], &["--model", "lenet", "--normalize"]].concat();
    refused(export(&normalized), 2, &["lenet.safetensors", "--normalize"]);
    refused(
        export(&[&elsewhere[..], &["--model", "nin"]].concat()),
        2,
        &["lenet.safetensors", "another network"],
    );
}

#[test]
fn help_has_examples_exit_codes_and_the_recipes() {
    let help = succeeded(Place::empty().command(TRAIN, &["--help"]));
    assert_has(&help, &["Examples", "Exit codes"]);
    // Line breaks depend on the terminal.
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let chapter = "recipe = \"chapter\", model = \"nin\", dataset = \"fashion-mnist-mini\", image_size = 224, batch_size = 128,";
    assert_has(&words, &[chapter, "recipe = \"robust\", lr = 0.05, momentum = 0.9,"]);
}

/// `/dev/full` refuses every byte, as a file on a full disk does.
#[cfg(target_os = "linux")]
#[test]
fn output_that_nobody_can_take_does_not_stop_a_run() {
    use crate::common::NIN;

    let place = Place::new();
    let full = |program: &str, arguments: &[&str]| place.after("exec >/dev/full", program, arguments);
    succeeded(full(TRAIN, &place.arguments("run", &["--max-steps", "2"])));
    assert!(place.path("run/model.safetensors").exists());
    refused(full(NIN, &["summary"]), 1, &["standard output", "cannot write"]);
}
