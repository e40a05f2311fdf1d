//! The same seed gives the same weights, bit for bit: on any number of threads, and whether a run goes through or stops in
//! the middle of an epoch and goes on.

use std::fs;
use std::path::{Path, PathBuf};

use crate::common::{small, small_train, write_dataset};
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_dataset(&folder.path().join("data"));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A fresh run of this many steps; what its model.safetensors holds.
    fn run(&self, name: &str, steps: u64, more: &[&str]) -> Vec<u8> {
        let mut command = small_train(&self.path("data"), more);
        command.args(["--max-steps", &steps.to_string(), "--run-dir"]).arg(self.path(name));
        command.assert().success();
        weights(&self.path(name))
    }

    /// Goes on with a run up to this many steps in all; what its model.safetensors holds.
    fn resume(&self, name: &str, steps: u64, threads: &str) -> Vec<u8> {
        let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_train"));
        command.arg("--resume").arg(self.path(name)).arg("--data-dir").arg(self.path("data"));
        command.args(["--threads", threads, "--max-steps", &steps.to_string()]).assert().success();
        weights(&self.path(name))
    }
}

fn weights(run: &Path) -> Vec<u8> {
    fs::read(run.join("model.safetensors")).unwrap()
}

/// The steps and losses that a run wrote down, without the figures of time.
fn steps(run: &Path) -> Vec<String> {
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    metrics.lines().filter(|line| line.contains("\"step\"")).map(str::to_owned).collect()
}

#[test]
fn one_two_and_five_threads_make_the_same_weights() {
    let bench = Bench::new();
    // Batches of 20 are cut into five workers, so that threads do share one step; 6 steps cross the ends of epochs.
    let size = ["--batch-size", "20", "--threads"];
    let one = bench.run("one", 6, &[&size[..], &["1"]].concat());
    let two = bench.run("two", 6, &[&size[..], &["2"]].concat());
    let five = bench.run("five", 6, &[&size[..], &["5"]].concat());
    assert!(one == two, "1 and 2 threads");
    assert!(one == five, "1 and 5 threads");
    assert_eq!(steps(&bench.path("one")), steps(&bench.path("five")));
    let other = bench.run("other", 6, &[&size[..], &["2", "--seed", "1"]].concat());
    assert!(one != other, "another seed makes other weights");
}

#[test]
fn a_run_that_stops_inside_an_epoch_and_goes_on_ends_in_the_same_weights() {
    let bench = Bench::new();
    let whole = bench.run("whole", 9, &[]);
    // Epochs have 5 steps: the run stops inside the first and inside the second, and changes its number of threads.
    let parts = bench.run("parts", 3, &[]);
    assert!(parts != whole);
    let parts = bench.resume("parts", 7, "1");
    assert!(parts != whole);
    assert!(bench.resume("parts", 9, "2") == whole);
    assert_eq!(steps(&bench.path("parts")), steps(&bench.path("whole")));
}

#[test]
fn variations_smoothing_and_held_out_images_are_the_same_after_a_stop() {
    let bench = Bench::new();
    let more = ["--augment", "shift:2,flip", "--label-smoothing", "0.1", "--hold-out", "10"];
    // 30 of the 40 training images are left: epochs have 4 steps.
    let whole = bench.run("whole", 7, &more);
    bench.run("parts", 3, &more);
    let parts = bench.resume("parts", 6, "1");
    assert!(parts != whole);
    assert!(bench.resume("parts", 7, "2") == whole);
    assert_eq!(steps(&bench.path("parts")), steps(&bench.path("whole")));
    for leave_out in 0..3 {
        let fewer: Vec<&str> = more
            .chunks(2)
            .enumerate()
            .filter(|(i, _)| *i != leave_out)
            .flat_map(|(_, flag)| flag)
            .copied()
            .collect();
        let name = format!("without-{leave_out}");
        assert!(bench.run(&name, 7, &fewer) != whole, "{} changes the weights", more[2 * leave_out]);
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_saves_says_how_to_go_on_and_ends_in_the_same_weights() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    let bench = Bench::new();
    let run = bench.path("interrupted");
    let child = Command::new(env!("CARGO_BIN_EXE_train"))
        .args(small(&["--epochs", "1000"]))
        .arg("--data-dir")
        .arg(bench.path("data"))
        .arg("--run-dir")
        .arg(&run)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let patience = Instant::now();
    while !fs::read_to_string(run.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() >= 2) {
        assert!(patience.elapsed() < Duration::from_secs(120), "no step was made");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(130), "{stdout}{stderr}");
    assert!(stdout.contains(&format!("go on with: train --resume {}", run.display())), "{stdout}");
    let step =
        stdout.split("interrupted after step ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let step: u64 = step.parse().unwrap();
    assert_eq!(steps(&run).len() as u64, step, "what is saved is what was done");

    let whole = bench.run("whole", step + 3, &["--epochs", "1000"]);
    assert!(bench.resume("interrupted", step + 3, "2") == whole);
    assert_eq!(steps(&run), steps(&bench.path("whole")));
}
