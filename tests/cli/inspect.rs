//! `nin inspect` and `nin plot` as a user runs them.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::{small_train, write_dataset};
use assert_cmd::Command;
use serde_json::Value;

fn nin(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nin")).current_dir(folder).args(arguments).output().unwrap()
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "no {part:?} in {stderr}");
    }
}

/// What `--json` says of each network.
fn signals(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const SMALL: [&str; 8] =
    ["--model", "nin-cifar", "--image-size", "14", "--images", "40", "--data-dir", "data"];

#[test]
fn the_chapters_signal_fades_and_the_robust_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(&folder.path().join("data"));
    let recipes = ["inspect", "--recipe", "chapter", "--recipe", "robust", "--seeds", "0..2", "--json"];
    let found = signals(&succeeded(&nin(folder.path(), &[&recipes[..], &SMALL].concat())));
    assert_eq!(found.len(), 4);
    let figure = |network: &Value, layer: usize, name: &str| {
        network["signal"]["layers"][layer][name].as_f64().unwrap()
    };
    for network in &found {
        let layers = network["signal"]["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 9, "{network}");
        assert!(layers.iter().all(|layer| layer["gradient_norm"].as_f64().unwrap() > 0.0), "{network}");
        let fades = figure(network, 0, "between_images") / figure(network, 7, "between_images");
        match network["network"].as_str().unwrap() {
            "chapter" => assert!(fades > 5.0, "{network}"),
            "robust" => {
                assert!(fades < 2.0, "{network}");
                assert!(layers.iter().all(|layer| layer["dead_channels"] == 0.0), "{network}");
                assert_eq!(network["signal"]["dead_classes"].as_array().unwrap().len(), 0);
            }
            other => panic!("{other}"),
        }
    }
    // The same figures with another number of threads.
    let one = [&recipes[..], &SMALL, &["--threads", "1"]].concat();
    assert_eq!(signals(&succeeded(&nin(folder.path(), &one))), found);
}

#[test]
fn the_table_the_csv_and_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    write_dataset(&folder.path().join("data"));
    let files = [
        "inspect",
        "--recipe",
        "robust",
        "--seeds",
        "3..5",
        "--csv",
        "signal.csv",
        "--picture",
        "new/signal.svg",
    ];
    let stdout = succeeded(&nin(folder.path(), &[&files[..], &SMALL].concat()));
    assert!(
        stdout.contains("Conv2d(1, 192, 5x5, padding 2) + ReLU") && stdout.contains("logits: mean"),
        "{stdout}"
    );
    assert!(stdout.contains("class maps that are 0 for all of the images, seed by seed: 0, 0"), "{stdout}");
    let csv = fs::read_to_string(folder.path().join("signal.csv")).unwrap();
    assert!(
        csv.starts_with(
            "network,layer,kind,rms,between_images,zeros,dead,weight_rms,weight_spectral,gradient\n"
        ),
        "{csv}"
    );
    assert_eq!(csv.lines().count(), 10);
    let svg = fs::read_to_string(folder.path().join("new/signal.svg")).unwrap();
    assert!(
        svg.contains("robust (2 seeds)") && svg.contains("rms of the output") && svg.contains("6.4"),
        "{svg}"
    );
}

#[test]
fn runs_are_inspected_with_their_weights_and_drawn_from_their_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_dataset(&data);
    let runs = folder.path().join("runs");
    let mut train = small_train(&data, &["--recipe", "chapter", "--epochs", "2", "--seeds", "0..2"]);
    train.arg("--run-dir").arg(&runs).assert().success();

    let arguments = ["inspect", "runs", "runs/seed-1", "--images", "40", "--data-dir", "data", "--json"];
    let found = signals(&succeeded(&nin(folder.path(), &arguments)));
    let names: Vec<&str> = found.iter().map(|found| found["network"].as_str().unwrap()).collect();
    assert_eq!(names, ["runs", "runs", "seed-1"]);
    assert_eq!(found[1]["signal"], found[2]["signal"]);
    assert_ne!(found[0]["signal"], found[1]["signal"]);
    let start = ["inspect", "--recipe", "chapter", "--seeds", "1..2", "--json"];
    let start = signals(&succeeded(&nin(folder.path(), &[&start[..], &SMALL].concat())));
    assert_ne!(start[0]["signal"], found[1]["signal"], "training changed the weights");

    let stdout = succeeded(&nin(folder.path(), &["plot", "runs", "runs/seed-0", "--output", "two.svg"]));
    assert!(
        stdout.contains("runs: 2 runs, test acc min 0.") && stdout.contains("the picture is two.svg"),
        "{stdout}"
    );
    let svg = fs::read_to_string(folder.path().join("two.svg")).unwrap();
    for text in ["runs (2 runs)", "seed-0", "test accuracy by epoch", "test accuracy after the last epoch"] {
        assert!(svg.contains(text), "no {text:?} in the picture");
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::create_dir(folder.join("empty")).unwrap();
    refused(&nin(folder, &["plot", "empty"]), &["empty: no run in this folder"]);
    refused(&nin(folder, &["inspect", "empty"]), &["empty: no run in this folder"]);
    refused(&nin(folder, &["inspect", "--recipe", "luck"]), &["luck", "default, chapter, robust"]);
    refused(&nin(folder, &["inspect", "--images", "0"]), &["images: expected 1 to 4096, found 0"]);
    refused(&nin(folder, &["inspect", "--seeds", "5"]), &["seeds: expected FROM..TO"]);
    refused(&nin(folder, &["inspect", "--init", "lsuv"]), &["init: expected xavier, he"]);
    // Nothing that is asked for is left out in silence.
    let own = "a run's folder has its own";
    refused(&nin(folder, &["inspect", "empty", "--image-size", "64"]), &["image_size: ", own]);
    refused(&nin(folder, &["inspect", "empty", "--seeds", "0..3"]), &["seeds: ", own]);
    fs::write(folder.join("empty/metrics.jsonl"), "").unwrap();
    refused(&nin(folder, &["plot", "empty"]), &["empty: no epoch is finished"]);
}
