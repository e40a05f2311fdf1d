//! `nin inspect` and `nin plot` as a user runs them.

use std::fs;

use serde_json::Value;
use tensor::Tensor;

use crate::common::{Place, assert_has, json_lines, refused, succeeded, text, warned};

const SMALL: [&str; 8] =
    ["--model", "nin-cifar", "--image-size", "14", "--images", "40", "--data-dir", "data"];

#[test]
fn the_chapters_signal_fades_and_the_robust_one_does_not() {
    let place = Place::of_nin();
    let recipes = ["inspect", "--recipe", "chapter", "--recipe", "robust", "--seeds", "0..2", "--json"];
    let found = json_lines(&succeeded(place.nin(&[&recipes[..], &SMALL].concat())));
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
    let one = [&["inspect", "--recipe", "robust", "--json", "--threads", "1"][..], &SMALL].concat();
    assert_eq!(json_lines(&succeeded(place.nin(&one))), found[2..3]);
}

#[test]
fn the_table_the_csv_and_the_picture() {
    let place = Place::of_nin();
    let start = ["inspect", "--recipe", "robust", "--seeds", "3..5"];
    let files = ["--csv", "table/signal.csv", "--picture", "new/signal.svg"];
    let stdout = succeeded(place.nin(&[&start[..], &files, &SMALL].concat()));
    let layer = "Conv2d(1, 192, 5x5, padding 2) + ReLU";
    let dead = "class maps that are 0 for all of the images, seed by seed: 0, 0";
    assert_has(&stdout, &[layer, "logits: mean", dead]);
    let csv = place.read("table/signal.csv");
    let columns = "network,layer,kind,rms,between_images,zeros,dead,weight_rms,weight_spectral,gradient\n";
    assert!(csv.starts_with(columns), "{csv}");
    assert_eq!(csv.lines().count(), 10);
    assert_has(&place.read("new/signal.svg"), &["robust (2 seeds)", "rms of the output", "6.4"]);
}

#[test]
fn runs_are_inspected_with_their_weights_and_drawn_from_their_metrics() {
    let place = Place::new();
    succeeded(place.train("runs", &["--recipe", "chapter", "--epochs", "2", "--seeds", "0..2"]));

    let arguments = ["inspect", "runs", "runs/seed-1", "--images", "40", "--data-dir", "data", "--json"];
    let found = json_lines(&succeeded(place.nin(&arguments)));
    let names: Vec<&str> = found.iter().map(|found| found["network"].as_str().unwrap()).collect();
    assert_eq!(names, ["runs", "runs", "seed-1"]);
    assert_eq!(found[1]["signal"], found[2]["signal"]);
    assert_ne!(found[0]["signal"], found[1]["signal"]);
    let start =
        ["inspect", "--recipe", "chapter", "--seeds", "1..2", "--model", "lenet", "--image-size", "16"];
    let start = json_lines(&succeeded(place.nin(&[&start[..], &arguments[3..]].concat())));
    assert_ne!(start[0]["signal"], found[1]["signal"], "training changed the weights");

    let stdout = succeeded(place.nin(&["plot", "runs", "runs/seed-0", "--picture", "two.svg"]));
    assert_has(&stdout, &["runs: 2 runs, test acc min 0.", "the picture is two.svg"]);
    let texts = ["runs (2 runs)", "seed-0", "test accuracy by epoch", "test accuracy after the last epoch"];
    assert_has(&place.read("two.svg"), &texts);

    // A seed that has just begun is left out, not the others with it.
    fs::create_dir(place.path("runs/seed-2")).unwrap();
    fs::write(place.path("runs/seed-2/metrics.jsonl"), "").unwrap();
    let left_out = "warning: runs/seed-2 is left out: no epoch is finished\n";
    let stdout = warned(place.nin(&["plot", "runs", "--picture", "again.svg"]), &[left_out]);
    assert!(stdout.starts_with("runs: 2 runs, test acc min 0."), "{stdout}");
    assert_has(&place.read("again.svg"), &["runs (2 runs)"]);
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let place = Place::empty();
    fs::create_dir(place.path("empty")).unwrap();
    // Nothing that is asked for is left out in silence.
    let own = "a run's folder has its own";
    for (arguments, parts) in [
        (&["plot", "empty"] as &[&str], &["empty: no run in this folder"] as &[&str]),
        (&["inspect", "empty"], &["empty: no run in this folder"]),
        (&["inspect", "--recipe", "luck"], &["luck", "default, chapter or robust"]),
        (&["inspect", "--images", "0"], &["images: expected 1 to 4096, found 0"]),
        (&["inspect", "--seeds", "5"], &["--seeds <FROM..TO>: expected FROM..TO"]),
        (&["inspect", "--model", "lenet", "--head-bias", "1"], &["head_bias: ", "class maps", "lenet"]),
        (&["inspect", "--init", "lsuv"], &["--init <NAME>", "lsuv", "xavier, he"]),
        (&["inspect", "empty", "--image-size", "64"], &["image_size: ", own]),
        (&["inspect", "empty", "--seeds", "0..3"], &["seeds: ", own]),
    ] {
        refused(place.nin(arguments), 2, parts);
    }
    assert!(!place.path("runs").exists(), "the folder of the picture is made for one");
    fs::write(place.path("empty/metrics.jsonl"), "").unwrap();
    refused(place.nin(&["plot", "empty"]), 2, &["empty: no epoch is finished"]);
    fs::create_dir_all(place.path("seeds/seed-0")).unwrap();
    fs::write(place.path("seeds/seed-0/metrics.jsonl"), "").unwrap();
    refused(place.nin(&["plot", "seeds"]), 2, &["seeds: no epoch is finished"]);
}

/// The weights are numbers, and what they make of an image is none.
#[test]
fn a_signal_that_is_no_number_is_no_answer() {
    let place = Place::of_nin();
    place.steps("run", 1, &[]);
    place.change_weights("run/model.safetensors", |weights, _| {
        let all = weights.values_mut().flat_map(Tensor::data_mut);
        all.for_each(|weight| *weight *= 1e30);
    });
    for more in [&["--json"][..], &[], &["--csv", "out.csv", "--picture", "out.svg"]] {
        let arguments = [&["inspect", "run", "--data-dir", "data", "--images", "8"], more].concat();
        let output = place.nin(&arguments).output().unwrap();
        assert!(output.stdout.is_empty(), "{more:?}: {output:?}");
        assert_eq!(output.status.code(), Some(2), "{more:?}: {output:?}");
        assert_has(
            &text(&output.stderr),
            &["run/model.safetensors: ", " of layer ", "expected a finite number"],
        );
    }
    assert!(!place.path("out.csv").exists() && !place.path("out.svg").exists());
    let start =
        ["inspect", "--model", "nin-cifar", "--image-size", "14", "--data-dir", "data", "--images", "8"];
    refused(place.nin(&[&start[..], &["--head-bias", "1e300"]].concat()), 2, &[" of layer ", "finite"]);
}
