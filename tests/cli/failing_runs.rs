//! A run that fails on the way costs nothing that was saved: a loss that is no number, weights that are none, a full disk.

use std::fs;
use std::path::Path;

use crate::common::small_train;
use crate::refusals::{assert_refused, assert_refused_nothing, folder_with_data, nin, text, two_steps};
use assert_cmd::Command;

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
