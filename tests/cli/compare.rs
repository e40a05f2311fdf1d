//! `nin compare` as a user runs it.

use crate::common::{Place, assert_has, failed, json, succeeded};

/// The lines of a CSV file without quotes as cells.
fn csv(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn speed_and_memory_are_measured_for_each_network() {
    let place = Place::empty();
    let arguments =
        ["compare", "lenet", "alexnet", "--image-size", "67", "--batch-size", "2", "--threads", "1"];
    let stdout = succeeded(place.nin(&[&arguments[..], &["--seconds", "0.2"]].concat()));
    let table = csv(&place.read("runs/compare.csv"));
    assert_eq!(table.len(), 3, "{stdout}");
    assert_eq!(table[0][..4], ["network", "pixels", "parameters", "GFLOP"]);
    let number = |row: usize, column: &str| -> f64 {
        let column = table[0].iter().position(|heading| heading == column).unwrap();
        table[row][column].parse().unwrap()
    };
    for row in 1..3 {
        assert!(number(row, "train_images/s") > 0.0 && number(row, "infer_images/s") > 0.0, "{stdout}");
    }
    assert_eq!(table[2][..3], ["alexnet", "67", "21598922"]);
    if cfg!(target_os = "linux") {
        // AlexNet's weights alone take 82 MiB, and LeNet, measured first, must not be charged with them.
        let (lenet, alexnet) = (number(1, "train_MiB"), number(2, "train_MiB"));
        assert!(lenet < 82.0 && alexnet > 82.0, "lenet {lenet} MiB, alexnet {alexnet} MiB");
    }
    assert_has(&place.read("runs/compare.md"), &["| network | pixels |", "| 21,598,922 |"]);
    assert_has(&stdout, &["21,598,922", "compare.csv"]);
}

#[test]
fn accuracies_are_those_of_the_runs() {
    let place = Place::of_nin();
    for (run, more) in [
        ("gap", &["--epochs", "1"] as &[&str]),
        ("fc", &["--epochs", "1", "--head", "fc", "--hold-out", "8"]),
        ("short", &["--epochs", "2", "--max-steps", "5"]),
        ("lenet", &["--model", "lenet", "--epochs", "1", "--image-size", "16"]),
    ] {
        succeeded(place.train(run, more));
    }
    let runs = ["--run", "gap", "--run", "fc", "--run", "lenet", "--no-speed", "--output", "out"];
    let stdout = succeeded(place.nin(&[&["compare", "nin-cifar:fc", "vgg11"], &runs[..]].concat()));
    let table = csv(&place.read("out.csv"));
    // The networks asked for come first, each with its run, then the runs of others.
    let first: Vec<[&str; 3]> = table[1..].iter().map(|row| [&*row[0], &*row[1], &*row[14]]).collect();
    assert_eq!(
        first,
        [
            ["nin-cifar:fc", "14", "fc"],
            ["vgg11", "224", ""],
            ["nin-cifar", "14", "gap"],
            ["lenet", "16", "lenet"]
        ],
        "{stdout}"
    );
    for row in &table[1..] {
        assert_eq!(row[4..8], ["", "", "", ""], "nothing was measured");
        if row[14].is_empty() {
            continue;
        }
        let last = place.metrics(&row[14]).pop().unwrap();
        let [train, test] = ["train_acc", "test_acc"].map(|key| last[key].as_f64().unwrap());
        let expected = [train, test, train - test].map(|value| format!("{value:.4}"));
        let data = if row[14] == "fc" { "fashion-mnist-mini (8 held out)" } else { "fashion-mnist-mini" };
        assert_eq!((&*row[8], &*row[9], &*row[10], &row[11..14]), ("default", data, "1", &expected[..]));
    }

    // The same weights on the training images, and in evaluation mode.
    assert_has(&succeeded(place.eval("gap", &["--on", "train"])), &["train acc 0.", "of 40 images"]);

    // And so the gap of --evaluate is of two accuracies of the same weights.
    let accuracy = |split| {
        let line = json(place.eval("fc", &["--json", "--on", split]));
        assert_eq!(line["correct"].as_f64().unwrap() / line["images"].as_f64().unwrap(), line["accuracy"]);
        line["accuracy"].as_f64().unwrap()
    };
    // A run's network has the run's size, whatever size others are asked for at.
    let evaluated = ["--no-speed", "--evaluate", "--data-dir", "data", "--output", "out"];
    let all = ["compare", "vgg11", "--image-size", "32", "--run", "fc"];
    let stdout = succeeded(place.nin(&[&all[..], &evaluated].concat()));
    let expected = [accuracy("train"), accuracy("test"), accuracy("train") - accuracy("test")]
        .map(|acc| format!("{acc:.4}"));
    let table = csv(&place.read("out.csv"));
    assert_eq!(
        (&table[1][1], &table[2][1], &table[2][11..14]),
        (&"32".into(), &"14".into(), &expected[..]),
        "{stdout}"
    );

    for (arguments, parts) in [
        (&["--run", "short"] as &[&str], &["short: the run is not finished, 1 of 2 epochs"] as &[&str]),
        (&["--run", "nowhere"], &["nowhere: no run in this folder"]),
        (&["resnet"], &["network \"resnet\"", "vgg11"]),
        (&["vgg11:fc"], &["vgg11", "class maps"]),
        (&["vgg11", "--image-size", "20"], &["layer 4.4, MaxPool2d(2/2)"]),
        (&["lenet", "--seconds", "nan"], &["seconds: expected more than 0"]),
        (
            &["lenet", "--no-speed", "--batch-size", "0"],
            &["'--no-speed' cannot be used with '--batch-size <N>'"],
        ),
        (&["lenet", "--evaluate"], &["--run <DIR>"]),
        (&["lenet", "--threads", "0"], &["threads: expected 1 to"]),
        (&["lenet", "--batch-size", "0"], &["lenet, train: batch_size: expected at least 1"]),
    ] {
        failed(place.nin(&[&["compare"], arguments].concat()), 2, parts);
    }
}
