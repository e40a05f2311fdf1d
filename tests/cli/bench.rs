//! `nin bench` as a user and as the comparison with other frameworks run it.

use std::process::Command;

use serde_json::Value;

use crate::common::{NIN, assert_has, refused, succeeded};

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(NIN);
    command.arg("bench").args(arguments).env_remove("NIN_CONV");
    command
}

fn json(arguments: &[&str]) -> Value {
    let text = succeeded(bench(&[arguments, &["--json"]].concat()));
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

const SMALL: [&str; 6] = ["--image-size", "64", "--seconds", "0.2", "--threads", "2"];

#[test]
fn steps_as_json() {
    for (task, flops) in [("train", "training"), ("infer", "forward")] {
        let report = json(&[&SMALL[..], &["--batch-size", "5", "--task", task]].concat());
        for (field, expected) in [("variant", "nin"), ("task", task), ("model", "nin")] {
            assert_eq!(report[field], expected, "{report}");
        }
        assert_eq!((report["image_size"].as_u64(), report["batch"].as_u64()), (Some(64), Some(5)));
        assert_eq!(report["threads"], 2);
        assert_eq!(report["versions"]["nin"], env!("CARGO_PKG_VERSION"));
        assert!(report["steps"].as_u64().unwrap() >= 3, "{report}");
        let number = |field: &str| report[field].as_f64().unwrap();
        assert!(number("images_per_s_min") > 0.0, "{report}");
        assert!(number("images_per_s_min") <= number("images_per_s"), "{report}");
        assert!(number("images_per_s") <= number("images_per_s_max"), "{report}");
        // The rate of work is the rate of images times the work of an image.
        let network = nin::models::Model::Nin.build::<f32>(1, 10, 0.5);
        let work = nin::summary::Work::of(
            &nin::summary::layers(&network, tensor::Shape::from([1, 1, 64, 64])).unwrap(),
        );
        let per_image = if flops == "training" { work.training } else { work.forward };
        let rate = number("images_per_s") * per_image as f64 / 1e9;
        assert!((number("gflop_per_s") / rate - 1.0).abs() < 1e-9, "{rate} in {report}");
        if cfg!(target_os = "linux") {
            assert!(number("peak_rss_mib") > 1.0, "{report}");
        }
    }
}

#[test]
fn a_forced_algorithm_is_named_and_steps_are_counted() {
    let model = ["--model", "nin-cifar", "--conv", "direct", "--batch-size", "2", "--steps", "2"];
    let report = json(&model);
    assert_eq!(report["variant"], "nin-direct");
    assert_eq!(report["model"], "nin-cifar");
    assert_eq!(report["image_size"], 28);
    assert_eq!(report["steps"], 2);
}

#[test]
fn steps_as_text() {
    let text = succeeded(bench(&[&SMALL[..], &["--task", "infer", "--batch-size", "2"]].concat()));
    let title = "nin at 64 x 64, inference, batch 2, threads 2, conv auto";
    assert_has(&text, &[title, "images/s, the median of", "GFLOP/s"]);
}

#[test]
fn layers_as_json() {
    let report = json(&["--layers", "--image-size", "96", "--batch-size", "2", "--seconds", "0.2"]);
    assert_eq!((report["images"].as_u64(), report["threads"].as_u64()), (Some(2), Some(1)));
    let layers = report["layers"].as_array().unwrap();
    let convolutions: Vec<&Value> =
        layers.iter().filter(|layer| layer["kind"].as_str().unwrap().starts_with("Conv2d")).collect();
    assert_eq!(convolutions.len(), 12);
    // The images of the first layer get no gradient, and a ReLU is part of the max pooling after it or the convolution before.
    assert_eq!(convolutions[0]["path"], "0.0");
    assert!(convolutions[0]["input_gradient"].is_null() && !convolutions[1]["input_gradient"].is_null());
    assert!(layers.iter().all(|layer| layer["kind"] != "ReLU"));
    for layer in convolutions {
        let pooled = ["0.4", "2.4", "4.4"].map(|path| layer["path"] == path).contains(&true);
        assert_eq!(!pooled, layer["kind"].as_str().unwrap().ends_with(" + ReLU"), "{layer}");
        for pass in [&layer["forward"], &layer["weight_gradient"]] {
            assert!(pass["ms"].as_f64().unwrap() > 0.0 && pass["gflop_per_s"].as_f64().unwrap() > 0.0);
        }
        assert!(!layer["forward"]["algorithm"].as_str().unwrap().is_empty());
    }
    let pool = layers.iter().find(|layer| layer["path"] == "1").unwrap();
    assert_eq!(pool["kind"], "ReLU + MaxPool2d(3/2)");
    assert!(pool["forward"]["algorithm"].is_null() && pool["weight_gradient"].is_null(), "{pool}");
    assert!(pool["input_gradient"]["ms"].as_f64().unwrap() > 0.0, "{pool}");
}

#[test]
fn layers_as_text() {
    let arguments =
        ["--layers", "--image-size", "64", "--batch-size", "1", "--seconds", "0.2", "--conv", "winograd"];
    let text = succeeded(bench(&arguments));
    let line = |path: &str| text.lines().find(|line| line.starts_with(path)).unwrap_or_default().to_owned();
    assert_has(&line("2.0 "), &["F(5x5, 5x5)"]);
    assert_has(&line("2.2 "), &["direct"]);
    assert_has(&text, &["training: ", "MaxPool2d(3/2)"]);
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for (arguments, part) in [
        (&["--batch-size", "0"][..], "batch_size: expected at least 1, found 0"),
        (&["--image-size", "0"], "image_size: expected 1 to 4096, found 0"),
        (&["--image-size", "20"], "layer 3, MaxPool2d(3/2)"),
        (&["--batch-size", "100000"], "batch_size: expected at most"),
        (&["--seconds", "nan"], "seconds: expected more than 0"),
        (&["--seconds", "-1"], "seconds: expected more than 0"),
        (&["--steps", "3", "--seconds", "nan"], "'--steps <N>' cannot be used with '--seconds <S>'"),
        (&["--steps", "0"], "steps: expected at least 1"),
        (&["--threads", "0"], "threads: expected 1 to"),
        (
            &["--conv", "fft"],
            "--conv <NAME>: expected auto, naive, im2col, direct or winograd, found \"fft\"",
        ),
        (&["--model", "resnet"], "--model <NAME>: expected nin, nin-d2l, "),
        (&["--layers", "--seconds", "0"], "seconds: expected more than 0"),
        (&["--layers", "--image-size", "20"], "layer 3, MaxPool2d(3/2)"),
    ] {
        refused(bench(arguments), 2, &[part]);
    }
}
