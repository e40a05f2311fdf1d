//! The commands as a user runs them: what a run leaves behind, and what bad input gets. Every refusal is one line that says what
//! is wrong and where, with exit code 1 or 2, and never a panic.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use common::{FILES, idx, small_train, write_dataset};
use serde_json::Value;
use tempfile::TempDir;

fn nin() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nin"))
}

/// A folder with the small data set in `data`.
fn folder_with_data() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    write_dataset(&data);
    (folder, data)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Asserts that the command was refused with this exit code and one line that has all of `parts` in it.
fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "one line: {stderr}");
    assert!(stderr.starts_with("error: ") && !stderr.contains("panicked"), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "no {part:?} in: {stderr}");
    }
}

/// Makes a run of two steps and returns its folder.
fn two_steps(folder: &Path, data: &Path) -> PathBuf {
    let run = folder.join("run");
    small_train(data, &[]).args(["--max-steps", "2", "--run-dir"]).arg(&run).assert().success();
    run
}

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

fn assert_refused_nothing(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("error"), "{}", text(&output.stderr));
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
    let output = nin().args(["summary", "--model", "resnet"]).output().unwrap();
    assert_refused(&output, 2, &["resnet", "nin-d2l", "nin-cifar, lenet, alexnet, vgg11"]);
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

/// Puts the small data set in a folder, spoils it and asserts the refusal: which file, what was expected and found.
fn refused_data(spoil: impl Fn(&Path), parts: &[&str]) {
    let (folder, data) = folder_with_data();
    spoil(&data);
    let run = folder.path().join("run");
    let output = small_train(&data, &[]).args(["--max-steps", "1", "--run-dir"]).arg(&run).output().unwrap();
    assert_refused(&output, 1, parts);
    assert!(!run.exists(), "a run that cannot begin leaves no folder");
}

#[test]
fn broken_data_files_are_named() {
    let changed = |name: &'static str, change: fn(&mut Vec<u8>)| {
        move |data: &Path| {
            let mut bytes = fs::read(data.join(name)).unwrap();
            change(&mut bytes);
            fs::write(data.join(name), bytes).unwrap();
        }
    };
    refused_data(|data| fs::remove_file(data.join(FILES[3])).unwrap(), &[FILES[3]]);
    refused_data(|data| fs::remove_dir_all(data).unwrap(), &["train-images-idx3-ubyte"]);
    refused_data(changed(FILES[0], |bytes| bytes.truncate(1000)), &[FILES[0], "truncated", "31376", "1000"]);
    refused_data(changed(FILES[0], |bytes| bytes.truncate(9)), &[FILES[0], "header", "9"]);
    refused_data(changed(FILES[2], |bytes| bytes.push(0)), &[FILES[2], "more data", "15696"]);
    refused_data(changed(FILES[0], |bytes| bytes[2] = 0x0d), &[FILES[0], "0x00000803", "0x00000d03"]);
    refused_data(changed(FILES[0], |bytes| bytes[4..16].fill(0xff)), &[FILES[0], "too large"]);
    refused_data(changed(FILES[1], |bytes| bytes[8 + 7] = 10), &[FILES[1], "label 10 of sample 7", "0 to 9"]);
    let fewer_labels = |data: &Path| fs::write(data.join(FILES[1]), idx(&[39], &[1; 39])).unwrap();
    refused_data(fewer_labels, &["40 images", "39 labels"]);
}

#[test]
fn a_gz_that_inflates_past_its_header_or_is_cut_off_is_refused() {
    let compress = |data: &Path, extra: usize, keep: f64| {
        let mut bytes = fs::read(data.join(FILES[0])).unwrap();
        bytes.resize(bytes.len() + extra, 0);
        fs::remove_file(data.join(FILES[0])).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gz.write_all(&bytes).unwrap();
        let mut gz = gz.finish().unwrap();
        gz.truncate((gz.len() as f64 * keep) as usize);
        fs::write(data.join(format!("{}.gz", FILES[0])), gz).unwrap();
    };
    let name = format!("{}.gz", FILES[0]);
    refused_data(|data| compress(data, 1 << 20, 1.0), &[&name, "more data than the IDX header promises"]);
    refused_data(|data| compress(data, 0, 0.5), &[&name]);
}

/// A server on the loopback interface sends as many bytes as the file has, but others.
#[test]
fn a_download_that_is_not_the_published_file_is_refused_and_removed() {
    const LABELS: usize = 5148;
    let (folder, data) = folder_with_data();
    // Three files are in the cache, so that the small one alone is asked for; `data` lacks one, so that the cache is looked in.
    fs::remove_file(data.join(FILES[3])).unwrap();
    let cache = folder.path().join("cache").join("fashion-mnist");
    fs::create_dir_all(&cache).unwrap();
    for name in &FILES[..3] {
        fs::write(cache.join(format!("{name}.gz")), "").unwrap();
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", server.local_addr().unwrap());
    let answer = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LABELS}\r\nConnection: close\r\n\r\n").unwrap();
        stream.write_all(&[0; LABELS]).unwrap();
        text(&request)
    });
    let run = folder.path().join("run");
    let mut command = small_train(&data, &["--dataset", "fashion-mnist", "--max-steps", "1"]);
    for proxy in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command.env("NIN_FASHION_MNIST_URL", url).env("NIN_CACHE_DIR", folder.path().join("cache"));
    let output = command.arg("--run-dir").arg(&run).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(answer.join().unwrap().starts_with(&format!("GET /{}.gz ", FILES[3])));
    let lines: Vec<&str> = stderr.lines().collect();
    let warning = format!("warning: {}: not all four files", data.display());
    assert!(lines[0].starts_with(&warning), "{warning} in {stderr}");
    let last = lines[lines.len() - 1];
    for part in ["error: http://127.0.0.1:", FILES[3], "corrupt and was removed", "67da17c7"] {
        assert!(last.contains(part), "{part} in {stderr}");
    }
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 3, "nothing of it stays");
    assert!(!run.exists(), "a run that cannot begin leaves no folder");
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let (folder, data) = folder_with_data();
    let toml = folder.path().join("settings.toml");
    fs::write(&toml, "lr = 0.1\nlearning_rate = 3\n").unwrap();
    let absent = folder.path().join("absent.toml");
    let run = folder.path().join("run");
    let refused = |args: &[&str], code: i32, parts: &[&str]| {
        let output = small_train(&data, args).args(["--max-steps", "1", "--run-dir"]).arg(&run).output();
        assert_refused(&output.unwrap(), code, parts);
        assert!(!run.exists(), "a run that cannot begin leaves no folder");
    };
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    refused(&["--config", &path(&toml)], 2, &["settings.toml", "learning_rate"]);
    refused(&["--config", &path(&absent)], 1, &["absent.toml"]);
    for (flag, value, parts) in [
        ("--lr", "NaN", &["lr", "NaN"] as &[&str]),
        ("--lr", "-0.1", &["lr", "-0.1"]),
        ("--momentum", "1", &["momentum", "below 1"]),
        ("--dropout", "1.5", &["dropout", "1.5"]),
        ("--weight-decay", "inf", &["weight_decay", "inf"]),
        ("--label-smoothing", "1", &["label_smoothing", "below 1"]),
        ("--augment", "crop", &["augment", "shift:PIXELS", "crop"]),
        ("--hold-out", "40", &["hold_out", "fewer than the 40 training images", "found 40"]),
        ("--head-bias", "NaN", &["head_bias", "NaN"]),
        ("--schedule", "linear", &["schedule", "linear", "cosine"]),
        ("--recipe", "book", &["book", "chapter"]),
        ("--init-from", "nowhere.safetensors", &["nowhere.safetensors"]),
    ] {
        let code = if flag == "--init-from" { 1 } else { 2 };
        refused(&[flag, value], code, parts);
    }
}

/// Runs `train` with arguments that come to nothing before data are looked for.
fn refused_arguments(args: &[&str], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    let output = command.current_dir(folder.path()).args(args).output().unwrap();
    assert_refused(&output, 2, parts);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn unknown_names_and_impossible_sizes_are_refused_before_data_are_read() {
    refused_arguments(&["--model", "resnet"], &["resnet", "nin, nin-d2l", "nin-cifar"]);
    refused_arguments(&["--dataset", "imagenet"], &["imagenet", "fashion-mnist-mini", "mnist"]);
    refused_arguments(&["--batch-size", "0"], &["batch_size", "found 0"]);
    refused_arguments(&["--image-size", "0"], &["image_size", "found 0"]);
    refused_arguments(&["--epochs", "0"], &["epochs", "found 0"]);
    refused_arguments(&["--max-steps", "0"], &["max_steps", "found 0"]);
    refused_arguments(&["--image-size", "8"], &["layer 0.0", "8"]);
    refused_arguments(&["--image-size", "20"], &["layer", "MaxPool2d"]);
    refused_arguments(&["--model", "alexnet", "--image-size", "60"], &["layer 12, MaxPool2d(3/2)"]);
    refused_arguments(&["--model", "vgg11", "--image-size", "28"], &["layer 4.4, MaxPool2d(2/2)"]);
    refused_arguments(&["--model", "lenet", "--head", "gap"], &["lenet", "class maps"]);
    refused_arguments(&["--head", "mlp"], &["head", "mlp", "gap, fc, fc-dropout"]);
    refused_arguments(&["--resume", "nowhere"], &["nowhere", "no run in this folder"]);
}

/// Before data are looked for: there are none here.
#[test]
fn impossible_numbers_of_threads_are_refused() {
    for threads in ["0", "1025", "18446744073709551615"] {
        let what = ["threads: expected 1 to 1024", threads];
        refused_arguments(&["--threads", threads, "--data-dir", "nowhere"], &what);
    }
    let (folder, data) = folder_with_data();
    let run = two_steps(folder.path(), &data);
    let before = fs::read(run.join("metrics.jsonl")).unwrap();
    for (mut command, flag) in [(nin(), "eval"), (Command::new(env!("CARGO_BIN_EXE_train")), "--resume")] {
        let output = command.arg(flag).arg(&run).args(["--threads", "0", "--data-dir", "nowhere"]).output();
        assert_refused(&output.unwrap(), 2, &["threads: expected 1 to 1024, found 0"]);
    }
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), before);
}

#[test]
fn arguments_that_make_no_sense_are_refused_in_one_line() {
    refused_arguments(&["--epochs", "many"], &["--epochs", "whole number", "\"many\"", "train --help"]);
    refused_arguments(&["--lr", "fast"], &["--lr", "expected a number", "\"fast\""]);
    refused_arguments(&["--learning-rate", "1"], &["--learning-rate", "'--lr'"]);
    refused_arguments(&["--resume", "run", "--lr", "1"], &["--resume", "--lr"]);
    for (args, parts) in [
        (&[] as &[&str], &["eval", "summary", "nin --help"] as &[&str]),
        (&["evl"], &["evl", "'eval'"]),
        (&["eval"], &["<RUN>", "nin eval --help"]),
        (&["summary", "--channels", "0"], &["--channels", "1..=1024", "\"0\"", "--help"]),
        (&["summary", "--chanels", "3"], &["'--channels'", "nin summary --help"]),
    ] {
        assert_refused(&nin().args(args).output().unwrap(), 2, parts);
    }
    for mut command in [nin(), Command::new(env!("CARGO_BIN_EXE_train"))] {
        let output = command.arg("--version").output().unwrap();
        assert_refused_nothing(&output);
        assert!(text(&output.stdout).contains(env!("CARGO_PKG_VERSION")));
    }
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
    command
        .args(common::small(&["--max-steps", "2"]))
        .arg("--data-dir")
        .arg(&data)
        .arg("--run-dir")
        .arg(&run);
    assert_refused_nothing(&command.output().unwrap());
    assert!(run.join("model.safetensors").exists());
    let output = full(env!("CARGO_BIN_EXE_nin")).arg("summary").output().unwrap();
    assert_refused(&output, 1, &["standard output", "writing"]);
}

#[test]
fn weights_that_do_not_fit_or_are_broken_are_refused() {
    let (folder, data) = folder_with_data();
    let run = two_steps(folder.path(), &data);
    let weights = run.join("model.safetensors");
    let init = |model: &str, size: &str, file: &Path| {
        let other = folder.path().join("other");
        let mut command = small_train(&data, &["--model", model, "--image-size", size]);
        command.args(["--max-steps", "1", "--run-dir"]).arg(&other);
        let output = command.arg("--init-from").arg(file).output().unwrap();
        assert!(output.status.success() || !other.exists(), "a refused run leaves no folder");
        output
    };
    assert_refused(&init("lenet", "14", &weights), 1, &["model.safetensors", "weights of another network"]);
    assert_refused(&init("nin", "64", &weights), 1, &["model.safetensors", "0.0.weight", "192", "96"]);

    let bytes = fs::read(&weights).unwrap();
    let broken = folder.path().join("broken.safetensors");
    for part in
        [&bytes[..bytes.len() - 1], &bytes[..100], &bytes[..4], b"", b"{\"json\": true, \"tensors\": none}"]
    {
        fs::write(&broken, part).unwrap();
        let what = ["broken.safetensors", "not a whole safetensors file"];
        assert_refused(&init("nin-cifar", "14", &broken), 1, &what);
    }
    let output =
        nin().arg("eval").arg(&run).arg("--data-dir").arg(&data).arg("--weights").arg(&broken).output();
    assert_refused(&output.unwrap(), 1, &["broken.safetensors"]);

    // A run whose checkpoint is broken does not go on, and stays as it is.
    let checkpoint = run.join("checkpoint.safetensors");
    fs::write(&checkpoint, &bytes[..1000]).unwrap();
    let metrics = fs::read(run.join("metrics.jsonl")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    let output = command.arg("--resume").arg(&run).arg("--data-dir").arg(&data).output().unwrap();
    assert_refused(&output, 1, &["checkpoint.safetensors"]);
    assert_eq!(fs::read(run.join("metrics.jsonl")).unwrap(), metrics);

    assert!(init("nin-cifar", "14", &weights).status.success(), "the weights themselves are good");
}

#[test]
fn a_run_whose_settings_were_changed_does_not_go_on() {
    let (folder, data) = folder_with_data();
    let run = two_steps(folder.path(), &data);
    let config = fs::read_to_string(run.join("config.toml")).unwrap();
    type Changes<'a> = &'a [(&'a str, &'a str)];
    for (changes, parts) in [
        (
            &[("batch_size = 8", "batch_size = 4")] as Changes<'_>,
            &["16 images in 2 batches", "of 4"] as &[&str],
        ),
        (
            &[("\"nin-cifar\"", "\"nin\""), ("_size = 14", "_size = 64")],
            &["another network", "18 tensors, expected 24"],
        ),
        (&[("lr = ", "lr = -")], &["config.toml: lr: expected"]),
        (&[("seed = ", "seeds = ")], &["config.toml", "`seeds`"]),
    ] {
        let mut changed = config.clone();
        for (from, to) in changes {
            assert!(changed.contains(from), "{from} is a setting");
            changed = changed.replace(from, to);
        }
        fs::write(run.join("config.toml"), changed).unwrap();
        let before = fs::read(run.join("checkpoint.safetensors")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
        let output = command.arg("--resume").arg(&run).arg("--data-dir").arg(&data).output().unwrap();
        assert_refused(&output, 2, parts);
        assert_eq!(fs::read(run.join("checkpoint.safetensors")).unwrap(), before);
    }
}

#[test]
fn a_run_folder_that_cannot_be_made_is_named() {
    let (folder, data) = folder_with_data();
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let run = file.join("run");
    let output = small_train(&data, &[]).args(["--max-steps", "1", "--run-dir"]).arg(&run).output().unwrap();
    assert_refused(&output, 1, &["file/run", "run folder"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), "no folder");
}

#[test]
fn a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint() {
    let (folder, data) = folder_with_data();
    let run = folder.path().join("run");
    let mut command = small_train(&data, &[]);
    command.args(["--recipe", "chapter", "--lr", "1e6", "--epochs", "20", "--run-dir"]).arg(&run);
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    for part in ["epoch ", "step ", "loss is "] {
        assert!(errors[0].contains(part), "{stderr}");
    }
    for file in ["checkpoint.safetensors", "model.safetensors"] {
        let (tensors, _) = nin::checkpoint::load_tensors(&run.join(file)).unwrap();
        assert!(tensors.values().all(|tensor| tensor.data().iter().all(|x| x.is_finite())), "{file}");
    }
    let output = nin().arg("eval").arg(&run).arg("--data-dir").arg(&data).output().unwrap();
    assert_refused_nothing(&output);
}

#[test]
fn weights_that_broke_in_the_last_step_do_not_replace_good_ones() {
    let (folder, data) = folder_with_data();
    // Stopped in the middle of the epoch, and at its end.
    for (name, steps, batch) in [("inside", "1", "8"), ("end", "1", "40")] {
        let run = folder.path().join(name);
        let more = ["--recipe", "chapter", "--lr", "1e300", "--batch-size", batch, "--max-steps", steps];
        let output = small_train(&data, &more).arg("--run-dir").arg(&run).output().unwrap();
        assert_refused(&output, 1, &["epoch 1, step 1", "loss", "no longer finite"]);
        for file in ["checkpoint.safetensors", "model.safetensors"] {
            let (tensors, _) = nin::checkpoint::load_tensors(&run.join(file)).unwrap();
            assert!(
                tensors.values().all(|tensor| tensor.data().iter().all(|x| x.is_finite())),
                "{name}/{file}"
            );
        }
    }
}

/// A limit on the size of files stands in for a full disk: writes fail in the middle of a checkpoint, as they do there.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_costs_nothing_that_was_saved() {
    let (folder, data) = folder_with_data();
    let run = two_steps(folder.path(), &data);
    let files = ["checkpoint.safetensors", "model.safetensors", "config.toml"];
    let saved = || files.map(|file| fs::read(run.join(file)).unwrap());
    let before = saved();
    let mut full = Command::new("sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_train")]);
    let output =
        full.arg("--resume").arg(&run).args(["--max-steps", "4", "--threads", "2", "--data-dir"]).arg(&data);
    let output = output.output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    assert!(errors[0].contains("checkpoint.safetensors: writing"), "{stderr}");
    assert_eq!(saved(), before);
    let left = fs::read_dir(&run)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".writing-"));
    assert_eq!(left.count(), 0, "no half-written file stays");

    // With room again, the run goes on.
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.arg("--resume").arg(&run).args(["--max-steps", "4", "--threads", "2", "--data-dir"]).arg(&data);
    command.assert().success();
    assert_ne!(saved()[0], before[0]);
}

/// What a block of `ulimit -f` is: 512 bytes in some shells, 1024 in others.
#[cfg(unix)]
fn block_of_a_limit(folder: &Path) -> usize {
    let file = folder.join("block");
    let script = "trap '' XFSZ; ulimit -f 1; head -c 4096 /dev/zero >\"$1\" 2>/dev/null";
    let _ = Command::new("sh").args(["-c", script, "sh"]).arg(&file).output().unwrap();
    fs::metadata(&file).unwrap().len() as usize
}

/// The same while a line of metrics is added: the file is almost as large as it may become.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_with_metrics_costs_nothing_that_was_saved() {
    const BLOCKS: usize = 16;
    let (folder, data) = folder_with_data();
    let run = two_steps(folder.path(), &data);
    let limit = BLOCKS * block_of_a_limit(folder.path());
    let metrics = run.join("metrics.jsonl");
    let kept = fs::read_to_string(&metrics).unwrap();
    // Blanks before a line are as good as none, and take the room.
    let padded = " ".repeat(limit - kept.len() - 10) + &kept;
    fs::write(&metrics, &padded).unwrap();
    let files = ["checkpoint.safetensors", "model.safetensors", "config.toml"];
    let saved = || files.map(|file| fs::read(run.join(file)).unwrap());
    let before = saved();
    let mut full = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {BLOCKS}; exec \"$@\"");
    full.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_train"), "--resume"]).arg(&run);
    let output = full.args(["--max-steps", "4", "--threads", "2", "--data-dir"]).arg(&data).output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{stderr}");
    let path = metrics.to_str().unwrap();
    assert!(errors[0].contains(path) && errors[0].contains("writing metrics: "), "{stderr}");
    assert_eq!(saved(), before);
    let cut = fs::read_to_string(&metrics).unwrap();
    assert!(cut.starts_with(&padded) && cut.len() == limit && !cut.ends_with('\n'), "a line was cut off");

    // With room again, the run goes on from what was saved and ends where one ends that was never stopped.
    let mut command = Command::new(env!("CARGO_BIN_EXE_train"));
    command.arg("--resume").arg(&run).args(["--max-steps", "4", "--threads", "2", "--data-dir"]).arg(&data);
    command.assert().success();
    let whole = folder.path().join("whole");
    small_train(&data, &[]).args(["--max-steps", "4", "--run-dir"]).arg(&whole).assert().success();
    assert_eq!(saved()[1], fs::read(whole.join("model.safetensors")).unwrap());
    let lines = |run: &Path| {
        let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
        text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines(&run), lines(&whole));
}
