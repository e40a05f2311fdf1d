//! A run folder belongs to one run, one set of data and one process at a time; what a process that died left in it does not
//! count.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};

use crate::common::{
    Place, TRAIN, assert_has, contents, copy, failed, json, refused, succeeded, text, warned,
};

/// Goes on with a run, saying nothing of its data.
fn resume(place: &Place, run: &str, more: &[&str]) -> Command {
    place.command(TRAIN, &[&["--resume", run], more].concat())
}

/// One epoch of five steps, finished.
const ONE: [&str; 2] = ["--epochs", "1"];

#[test]
fn a_run_keeps_its_data() {
    let place = Place::new();
    let more = ["--epochs", "2", "--image-size", "28"];
    let whole = {
        succeeded(place.train("whole", &more));
        place.weights("whole")
    };
    place.steps("run", 3, &more);
    let record = place.read("run/data.json");
    assert_has(
        &record,
        &["\"fashion-mnist-mini\"", "\"train_images\": 40", "\"test_images\": 20", "\"sha256\": \""],
    );
    succeeded(resume(&place, "run", &[]));
    assert!(place.weights("run") == whole);
    let evaluated = succeeded(place.nin(&["eval", "run"]));
    assert_has(&evaluated, &["of 20 images"]);
    let compared =
        succeeded(place.nin(&["compare", "--run", "run", "--evaluate", "--no-speed", "--output", "table"]));
    assert_has(&compared, &["fashion-mnist-mini"]);
    succeeded(place.nin(&["inspect", "run", "--images", "8"]));

    // Others are refused, by name: other images, other labels, fewer of them; in the same folder, too.
    let other = |change: &dyn Fn(&Path)| {
        let folder = place.path("other");
        let _ = fs::remove_dir_all(&folder);
        copy(&place.path("data"), &folder);
        change(&folder);
    };
    let flip = |file: &'static str, at: usize| {
        move |folder: &Path| {
            let mut bytes = fs::read(folder.join(file)).unwrap();
            bytes[at] ^= 1;
            fs::write(folder.join(file), bytes).unwrap();
        }
    };
    let refuse = |folder: &str| {
        let before = contents(&place.path("run"));
        let both = [
            "run: made of fashion-mnist-mini in ",
            "/data, 40 + 20 images, SHA-256 ",
            "; found fashion-mnist-mini in ",
        ];
        let given: &[&str] = if folder.is_empty() { &[] } else { &["--data-dir", folder] };
        refused(resume(&place, "run", given), 2, &both);
        refused(place.nin(&[&["eval", "run"], given].concat()), 2, &both);
        refused(place.nin(&[&["inspect", "run"], given].concat()), 2, &both);
        let compare = ["compare", "--run", "run", "--evaluate", "--no-speed", "--output", "table"];
        failed(place.nin(&[&compare, given].concat()), 2, &both);
        assert!(contents(&place.path("run")) == before);
    };
    for change in [
        flip("train-images-idx3-ubyte", 99),
        flip("train-labels-idx1-ubyte", 9),
        flip("t10k-images-idx3-ubyte", 99),
    ] {
        other(&change);
        refuse("other");
    }
    other(&|_| ());
    succeeded(place.nin(&["eval", "run", "--data-dir", "other"]));
    // Moved away, the data are looked for, and those of the project are not the same.
    fs::rename(place.path("data"), place.path("moved")).unwrap();
    refuse("");
    assert_has(&succeeded(place.nin(&["eval", "run", "--data-dir", "moved"])), &["of 20 images"]);

    // A run of before there were records and cards goes on.
    fs::rename(place.path("moved"), place.path("data")).unwrap();
    place.steps("old", 3, &more);
    fs::remove_file(place.path("old/data.json")).unwrap();
    for file in ["old/checkpoint.safetensors", "old/model.safetensors"] {
        place.change_weights(file, |_, text| assert!(text.remove("nin").is_some()));
    }
    succeeded(place.resume("old", &[]));
    assert!(place.weights("old") == whole);
    assert_eq!(place.read("old/data.json"), record);
}

/// A run that `train` of 0.1.0 left, of before there were records of data, cards and checksums, is judged, has a page and goes
/// on.
///
/// `tests/cli/run-0.1.0` has all that the command left on a machine with AVX-512, at the end of the second of three epochs of the
/// bundled images, by `6279501`, the day before the release, since when no file's format was changed:
///
/// ```text
/// train --model lenet --image-size 16 --init he --head-scale 1 --momentum 0.95 --weight-decay 0 --clip-norm 0 --batch-size 100
///     --epochs 3 --max-steps 200 --seed 0 --threads 2 --run-dir run-0.1.0
/// ```
#[test]
fn a_run_of_the_first_version_goes_on() {
    let place = Place::empty();
    copy(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cli/run-0.1.0")), &place.path("run"));
    let old = contents(&place.path("run"));
    assert_eq!(old.len(), 5, "{:?}", old.keys());
    let accuracy = |line: &serde_json::Value| line["test_acc"].as_f64().unwrap();
    let judged = |run: &str| json(place.nin(&["eval", run, "--json"]))["accuracy"].as_f64().unwrap();
    let before = place.metrics("run");
    // As that version found it, but for an image or two where another instruction set rounds otherwise.
    let reported = accuracy(before.last().unwrap());
    assert!(reported > 0.4 && (judged("run") - reported).abs() < 0.002, "{} and {reported}", judged("run"));
    assert!(contents(&place.path("run")) == old, "to look at a run changes nothing");
    succeeded(place.nin(&["report", "run"]));
    assert_has(&place.read("run/report.html"), &["lenet", &format!("{reported:.4}")]);

    assert_has(&succeeded(resume(&place, "run", &["--max-steps", "300"])), &["epoch   3: ", "done in "]);
    let after = place.metrics("run");
    assert_eq!(after.len(), 303);
    assert_eq!(after[..before.len()], before);
    // It goes on from what it had learned. What it leaves is this version's.
    let last = accuracy(after.last().unwrap());
    assert!(last > reported && (judged("run") - last).abs() < 1e-9, "{} and {last}", judged("run"));
    assert_has(&place.read("run/data.json"), &["\"fashion-mnist-mini\"", "\"train_images\": 10000"]);
}

/// The weights know what they were trained on, whatever became of the record beside them.
#[test]
fn a_run_without_its_record_is_not_judged_by_other_data() {
    let place = Place::new();
    place.steps("run", 3, &[]);
    place.steps("other", 3, &["--data-dir", "data", "--seed", "1"]);
    let record = place.read("run/data.json");
    let commands = || {
        let eval = place.nin(&["eval", "run"]);
        [resume(&place, "run", &[]), resume(&place, "run", &["--data-dir", "data"]), eval]
    };
    for (text, what) in [
        (None, "run: its data.json is missing"),
        (Some(record.replace("\"sha256\": \"", "\"sha256\": \"0")), "run: its data.json is of other data"),
        (Some(record.replace("40", "41")), "run: its data.json is of other data"),
    ] {
        match text {
            Some(text) => fs::write(place.path("run/data.json"), text).unwrap(),
            None => fs::remove_file(place.path("run/data.json")).unwrap(),
        }
        let before = contents(&place.path("run"));
        for command in commands() {
            refused(command, 2, &[what, "40 + 20 images, SHA-256 "]);
        }
        assert!(contents(&place.path("run")) == before);
    }
    fs::write(place.path("run/data.json"), record).unwrap();
    succeeded(resume(&place, "run", &["--max-steps", "4"]));
}

/// A figure that is not there is not taken from another epoch.
#[test]
fn a_run_whose_metrics_lack_its_last_line_is_refused() {
    let place = Place::new();
    succeeded(place.train("run", &["--epochs", "2"]));
    place.steps("part", 7, &[]);
    for (run, what) in [("run", "no line of epoch 2"), ("part", "no line of step 7")] {
        let metrics = place.read(&format!("{run}/metrics.jsonl"));
        let cut = metrics.trim_end().rfind('\n').unwrap();
        for left in [&metrics[..=cut], ""] {
            fs::write(place.path(run).join("metrics.jsonl"), left).unwrap();
            let before = contents(&place.path(run));
            let what = if left.is_empty() { "metrics.jsonl: no line of epoch " } else { what };
            refused(resume(&place, run, &[]), 2, &["metrics.jsonl: ", what]);
            assert!(contents(&place.path(run)) == before);
        }
        // Nor may one in the middle be damaged.
        fs::write(place.path(run).join("metrics.jsonl"), metrics.replacen("step\":3", "stdp\":3", 1))
            .unwrap();
        refused(resume(&place, run, &[]), 2, &["metrics.jsonl: no line of step 3"]);
        fs::write(place.path(run).join("metrics.jsonl"), &metrics).unwrap();
        succeeded(resume(&place, run, &["--max-steps", "7"]));
    }
}

/// Nothing waits for what comes out of a pipe.
#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused() {
    let place = Place::new();
    place.steps("run", 1, &[]);
    for file in [".lock", "data.json", "metrics.jsonl", "checkpoint.safetensors"] {
        let path = place.path("run").join(file);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        refused(resume(&place, "run", &[]), 2, &[file, "expected a plain file"]);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    succeeded(resume(&place, "run", &["--max-steps", "2"]));
}

#[test]
fn seeds_that_are_refused_leave_no_folder() {
    let place = Place::new();
    let arguments = ["--seeds", "0..2", "--init-from", "nowhere.safetensors"];
    refused(place.train("all", &arguments), 2, &["nowhere.safetensors"]);
    assert!(!place.path("all").exists());
    fs::create_dir(place.path("all")).unwrap();
    refused(place.train("all", &arguments), 2, &["nowhere.safetensors"]);
    assert_eq!(contents(&place.path("all")).len(), 0);
}

#[test]
fn what_is_not_a_runs_own_stays() {
    let place = Place::new();
    for (name, text) in [("data.json", "{\"my\": 1}"), (".lock", "mine"), ("curves.svg", "<svg/>")] {
        let _ = fs::remove_dir_all(place.path("run"));
        fs::create_dir(place.path("run")).unwrap();
        fs::write(place.path("run").join(name), text).unwrap();
        let arguments = ["--max-steps", "1"];
        failed(place.train("run", &arguments), 2, &[name]);
        assert_eq!(place.read(&format!("run/{name}")), text);
        assert!(!place.path("run/config.toml").exists());
    }
    let _ = fs::remove_dir_all(place.path("run"));
    fs::create_dir(place.path("run")).unwrap();
    fs::write(place.path("run/.writing-notes"), "mine").unwrap();
    place.steps("run", 1, &[]);
    assert_eq!(place.read("run/.writing-notes"), "mine");
}

#[test]
fn seeds_of_other_data_are_not_mixed() {
    let place = Place::new();
    succeeded(place.train("all", &["--seeds", "0..1", "--epochs", "1"]));
    fs::rename(place.path("data"), place.path("gone")).unwrap();
    let other = Place::new();
    let mut bytes = fs::read(other.path("data/train-labels-idx1-ubyte")).unwrap();
    bytes[9] ^= 1;
    fs::write(other.path("data/train-labels-idx1-ubyte"), bytes).unwrap();
    let data = other.path("data");
    let more = ["--seeds", "0..1", "--epochs", "1", "--data-dir", data.to_str().unwrap()];
    refused(place.train("all", &more), 2, &["all/seed-0: a run made of ", "asked for ", "another --run-dir"]);
}

/// Where a process died in its last save, whichever files it had replaced.
#[test]
fn what_lags_behind_the_checkpoint_is_written_again() {
    let place = Place::new();
    succeeded(place.train("run", &ONE));
    let whole = contents(&place.path("run"));
    place.steps("other", 1, &[]);
    let old = place.weights("other");
    for (file, spoiled) in [
        ("model.safetensors", Some(&old[..])),
        ("model.safetensors", None),
        ("best.safetensors", Some(&old[..])),
        ("best.safetensors", None),
        ("curves.svg", Some(b"<svg/>")),
        ("curves.svg", None),
        ("model.safetensors", Some(&old[..100])),
    ] {
        let path = place.path("run").join(file);
        match spoiled {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        fs::write(place.path("run/.writing-1-2"), &old).unwrap();
        assert_has(&succeeded(resume(&place, "run", &[])), &["done in "]);
        assert!(contents(&place.path("run")) == whole, "{file}");
    }
}

/// A seed that is finished is mended, too, though it is not trained again.
#[test]
fn a_finished_seed_is_made_whole() {
    let place = Place::new();
    let more = ["--seeds", "0..1", "--epochs", "1"];
    succeeded(place.train("all", &more));
    let whole = contents(&place.path("all/seed-0"));
    fs::remove_file(place.path("all/seed-0/model.safetensors")).unwrap();
    fs::write(place.path("all/seed-0/.writing-1-2"), "half").unwrap();
    assert_has(&succeeded(place.train("all", &more)), &["finished before"]);
    assert!(contents(&place.path("all/seed-0")) == whole);
}

#[test]
fn what_is_refused_changes_nothing() {
    let place = Place::new();
    place.steps("run", 3, &[]);
    // Killed after its last save: lines of metrics that a run that goes on takes away.
    let metrics = place.read("run/metrics.jsonl");
    fs::write(place.path("run/metrics.jsonl"), format!("{metrics}{{\"step\":4,\"loss\":1.0}}\n{{\"st"))
        .unwrap();
    fs::write(place.path("run/.writing-1-2"), "half").unwrap();
    let before = contents(&place.path("run"));
    failed(resume(&place, "run", &["--data-dir", "nowhere"]), 2, &["nowhere"]);
    refused(resume(&place, "run", &["--threads", "0"]), 2, &["threads"]);
    refused(place.train("run", &[]), 2, &["run: there is a run in this folder"]);
    assert!(contents(&place.path("run")) == before);

    // Nor does what has nothing to go on from begin anew over trained weights.
    let checkpoint = fs::read(place.path("run/checkpoint.safetensors")).unwrap();
    fs::remove_file(place.path("run/checkpoint.safetensors")).unwrap();
    let before = contents(&place.path("run"));
    refused(resume(&place, "run", &[]), 2, &["run: no checkpoint.safetensors in this folder"]);
    assert!(contents(&place.path("run")) == before);
    let config = place.read("run/config.toml");
    for (file, named) in [(None, "model.safetensors"), (Some("model.safetensors"), "metrics.jsonl")] {
        let _ = fs::remove_file(place.path("run/config.toml"));
        file.iter().for_each(|file| fs::remove_file(place.path("run").join(file)).unwrap());
        let before = contents(&place.path("run"));
        let what = ["run: there are files of a run in this folder", named, "no config.toml"];
        refused(place.train("run", &[]), 2, &what);
        assert!(contents(&place.path("run")) == before);
    }
    fs::write(place.path("run/checkpoint.safetensors"), checkpoint).unwrap();
    refused(place.train("run", &[]), 2, &["(checkpoint.safetensors) but no config.toml"]);
    fs::write(place.path("run/config.toml"), config).unwrap();
    succeeded(resume(&place, "run", &["--max-steps", "4"]));
    assert_eq!(place.figures("run"), {
        place.steps("whole", 4, &[]);
        place.figures("whole")
    });
}

/// A run of many epochs, when it has made a step.
fn training(place: &Place, run: &str) -> Child {
    let child = place.train(run, &["--epochs", "100000"]).spawn().unwrap();
    place.wait_for_lines(run, 1);
    child
}

#[test]
fn a_folder_has_one_owner_at_a_time() {
    let place = Place::new();
    let mut child = training(&place, "run");
    let who = format!("run: process {} is at work in this folder", child.id());
    refused(resume(&place, "run", &[]), 2, &[&who]);
    refused(place.train("run", &[]), 2, &[&who]);
    child.kill().unwrap();
    child.wait().unwrap();
    // The lock has died with it. Of one that was removed, the first owner notices before its next save.
    succeeded(resume(&place, "run", &["--max-steps", "1"]));
    // The folder of several runs has one, too.
    let mut child = training(&place, "all/seed-0");
    refused(
        place.train("all", &["--seeds", "0..1"]),
        2,
        &["all/seed-0: process ", "is at work in this folder"],
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Several commands at once for one folder, and several without one.
#[test]
fn of_commands_that_begin_together_each_has_its_folder() {
    let place = Place::new();
    let together = |arguments: &[&str]| {
        let children: Vec<Child> = (0..6).map(|_| place.command(TRAIN, arguments).spawn().unwrap()).collect();
        children.into_iter().map(|child| child.wait_with_output().unwrap()).collect::<Vec<_>>()
    };
    let done = together(&place.arguments("run", &["--epochs", "1", "--threads", "1"]));
    let codes: Vec<_> = done.iter().map(|output| output.status.code().unwrap()).collect();
    assert_eq!(codes.iter().filter(|&&code| code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|&&code| code == 2).count(), 5, "{codes:?}");
    for output in done.iter().filter(|output| output.status.code() == Some(2)) {
        let stderr = text(&output.stderr);
        assert!(stderr.contains("in this folder") && stderr.lines().count() == 1, "{stderr}");
    }
    succeeded(place.train("alone", &["--epochs", "1"]));
    assert!(place.weights("run") == place.weights("alone"));

    let settings = place.arguments("", &["--epochs", "1", "--threads", "1"]);
    let without: Vec<&str> =
        settings.iter().copied().filter(|word| !["--run-dir", ""].contains(word)).collect();
    assert!(together(&without).iter().all(|output| output.status.success()));
    let folders: Vec<_> =
        fs::read_dir(place.path("runs")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(folders.len(), 6, "{folders:?}");
    for folder in folders {
        assert!(fs::read(folder.join("model.safetensors")).unwrap() == place.weights("run"));
    }
}

#[test]
fn a_step_limit_that_is_reached_makes_no_step() {
    let place = Place::new();
    let three = place.steps("run", 3, &[]);
    for most in ["3", "1"] {
        succeeded(resume(&place, "run", &["--max-steps", most]));
        assert!(place.weights("run") == three, "{most}");
        assert_eq!(place.metrics("run").len(), 3);
    }
}

#[test]
fn a_run_whose_first_save_fails_is_none() {
    let place = Place::new();
    place.steps("first", 1, &["--seed", "5"]);
    let from = ["--init-from", "first/model.safetensors", "--max-steps", "2"];
    let limited = place.after("trap '' XFSZ; ulimit -f 64", TRAIN, &place.arguments("run", &from));
    failed(limited, 1, &["checkpoint.safetensors: cannot write"]);
    refused(resume(&place, "run", &[]), 2, &["no run in this folder"]);
    succeeded(place.train("run", &from));
    succeeded(place.train("whole", &from));
    assert!(place.weights("run") == place.weights("whole"));
}

#[test]
fn bytes_that_are_no_text_at_the_end_of_the_metrics_are_dropped() {
    let place = Place::new();
    place.steps("run", 6, &[]);
    for broken in [&b"\xff"[..], b"{\"step\":4,\"loss\":\xff\xfe", b"\0\0\0\0"] {
        let mut metrics = fs::read(place.path("run/metrics.jsonl")).unwrap();
        metrics.extend_from_slice(broken);
        fs::write(place.path("run/metrics.jsonl"), metrics).unwrap();
        succeeded(place.nin(&["plot", "run", "--picture", "plot.svg"]));
        succeeded(resume(&place, "run", &["--max-steps", "6"]));
        assert_eq!(place.metrics("run").len(), 7);
    }
    succeeded(resume(&place, "run", &["--max-steps", "8"]));
    place.steps("whole", 8, &[]);
    assert_eq!(place.figures("run"), place.figures("whole"));
}

#[test]
fn the_best_epoch_is_kept_and_patience_ends_a_run() {
    let place = Place::new();
    // Steps so small that nothing changes: the first epoch is the best, and two more are waited for.
    let more = ["--epochs", "9", "--patience", "2", "--lr", "1e-12"];
    assert_has(&succeeded(place.train("run", &more)), &["stopped early", "since epoch 1", "done in "]);
    let epochs = |run: &str| {
        let lines = place.metrics(run).into_iter();
        lines.filter(|line| line.get("epoch").is_some()).collect::<Vec<_>>()
    };
    assert_eq!(epochs("run").len(), 3);
    for epoch in epochs("run") {
        assert!(
            epoch["test_loss"].as_f64().unwrap() > 0.0 && epoch["lr"].as_f64().unwrap() <= 1e-12,
            "{epoch}"
        );
    }
    // It is finished, for whoever asks.
    let before = contents(&place.path("run"));
    assert_has(&succeeded(resume(&place, "run", &[])), &["stopped early"]);
    assert!(contents(&place.path("run")) == before);
    succeeded(place.nin(&["compare", "--run", "run", "--no-speed", "--output", "table"]));
    // The best weights are two epochs old, and nowhere else.
    let best = fs::read(place.path("run/best.safetensors")).unwrap();
    for left in [Some(&best[..best.len() - 1]), None] {
        match left {
            Some(bytes) => fs::write(place.path("run/best.safetensors"), bytes).unwrap(),
            None => fs::remove_file(place.path("run/best.safetensors")).unwrap(),
        }
        let what = "warning: best.safetensors is missing or damaged: the weights of epoch 1 are lost";
        warned(resume(&place, "run", &[]), &[what]);
    }

    let all = ["--epochs", "4"];
    succeeded(place.train("all", &all));
    let accuracy = |epoch: &serde_json::Value| epoch["test_acc"].as_f64().unwrap();
    let epochs = epochs("all");
    let best = epochs.iter().rev().max_by(|a, b| accuracy(a).total_cmp(&accuracy(b))).unwrap();
    let steps = best["epoch"].as_u64().unwrap() * 5;
    let expected = place.steps("best", steps, &all);
    assert!(fs::read(place.path("all/best.safetensors")).unwrap() == expected);
    let weights = ["--weights", "all/best.safetensors"];
    assert_has(&succeeded(place.eval("all", &weights)), &[&format!("test acc {:.4}", accuracy(best))]);
}

#[test]
fn a_limit_on_minutes_stops_and_saves() {
    let place = Place::new();
    let stdout = succeeded(place.train("run", &["--epochs", "100000", "--max-minutes", "0.000001"]));
    assert_has(&stdout, &["stopped after step 1 as asked"]);
    let config = place.read("run/config.toml");
    assert_has(&config, &["max_minutes = 1e-6"]);
    succeeded(resume(&place, "run", &["--max-steps", "2"]));
    assert_eq!(place.metrics("run").len(), 2, "a limit is the command's, not the run's");
}
