//! A run that fails on the way costs nothing that was saved: a loss that is no number, weights that are none, a full disk.

use std::fs;
use std::process::Command;

use crate::common::{Place, TRAIN, assert_finite, failed, refused, succeeded};

#[test]
fn a_run_that_diverges_stops_and_keeps_the_last_good_checkpoint() {
    let place = Place::of_nin();
    let more = ["--recipe", "chapter", "--lr", "1e6", "--epochs", "20"];
    failed(place.train("run", &more), 1, &["epoch ", "step ", "loss is "]);
    assert_finite(&place.path("run"));
    succeeded(place.eval("run", &[]));
}

/// The last step of an epoch leaves weights that are numbers, and with which the answers to test images are none.
#[test]
fn a_run_whose_answers_to_test_images_are_no_numbers_has_diverged() {
    let place = Place::of_nin();
    let more = ["--recipe", "chapter", "--lr", "1e25", "--batch-size", "40", "--epochs", "1"];
    refused(place.train("run", &more), 1, &["diverged in epoch 1, step 1: the test loss is NaN"]);
    assert_finite(&place.path("run"));
    assert!(place.metrics("run").iter().all(|line| line.get("test_acc").is_none()));
    assert!(!place.path("run/best.safetensors").exists());
}

#[test]
fn weights_that_broke_in_the_last_step_do_not_replace_good_ones() {
    let place = Place::of_nin();
    // Stopped in the middle of the epoch, and at its end.
    for (run, batch) in [("inside", "8"), ("end", "40")] {
        let more = ["--recipe", "chapter", "--lr", "1e300", "--batch-size", batch, "--max-steps", "1"];
        refused(place.train(run, &more), 1, &["epoch 1, step 1", "loss", "no longer finite"]);
        assert_finite(&place.path(run));
    }
}

/// Goes on with the run `run` to four steps where files may have so many blocks at most: a limit on the size of files stands in
/// for a full disk, on which writes fail in the middle as well.
#[cfg(unix)]
fn with_a_full_disk(place: &Place, blocks: usize) -> Command {
    let arguments = ["--resume", "run", "--max-steps", "4", "--threads", "2", "--data-dir", "data"];
    place.after(&format!("trap '' XFSZ; ulimit -f {blocks}"), TRAIN, &arguments)
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_costs_nothing_that_was_saved() {
    let place = Place::of_nin();
    place.steps("run", 2, &[]);
    let before = place.saved("run");
    failed(with_a_full_disk(&place, 64), 1, &["model.safetensors: cannot write"]);
    assert_eq!(place.saved("run"), before);
    let left = fs::read_dir(place.path("run")).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with(".writing-")
    });
    assert_eq!(left.count(), 0, "no half-written file stays");

    // With room again, the run goes on.
    succeeded(place.resume("run", &["--max-steps", "4", "--threads", "2"]));
    assert_ne!(place.saved("run")[0], before[0]);
}

/// The bytes of a block of `ulimit -f`: 512 in some shells, 1024 in others.
#[cfg(unix)]
fn block_of_a_limit(place: &Place) -> usize {
    let script = "trap '' XFSZ; ulimit -f 1; head -c 4096 /dev/zero >block 2>/dev/null";
    let _ = place.command("sh", &["-c", script]).output().unwrap();
    fs::metadata(place.path("block")).unwrap().len() as usize
}

/// The same while a line of metrics is added: the file is almost as large as it may become.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_with_metrics_costs_nothing_that_was_saved() {
    const BLOCKS: usize = 16;
    let place = Place::of_nin();
    place.steps("run", 2, &[]);
    let limit = BLOCKS * block_of_a_limit(&place);
    let kept = place.read("run/metrics.jsonl");
    // Blanks before a line are as good as none, and take the room.
    let padded = " ".repeat(limit - kept.len() - 10) + &kept;
    fs::write(place.path("run/metrics.jsonl"), &padded).unwrap();
    let before = place.saved("run");
    failed(with_a_full_disk(&place, BLOCKS), 1, &["run/metrics.jsonl", "cannot write: "]);
    assert_eq!(place.saved("run"), before);
    let cut = place.read("run/metrics.jsonl");
    assert!(cut.starts_with(&padded) && cut.len() == limit && !cut.ends_with('\n'), "a line was cut off");

    // With room again, the run goes on from what was saved and ends where one ends that was never stopped.
    succeeded(place.resume("run", &["--max-steps", "4", "--threads", "2"]));
    assert_eq!(place.weights("run"), place.steps("whole", 4, &[]));
    assert_eq!(place.metrics("run"), place.metrics("whole"));
}
