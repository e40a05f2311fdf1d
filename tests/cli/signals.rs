//! Signals that reach a run: those that ask it to end, and those that it was told to ignore.
#![cfg(unix)]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::time::Duration;

use crate::common::{NIN, Place, TRAIN, ended, kill, succeeded, text};

/// A run without an end of its own, begun by a shell that does `first` before.
fn begun(place: &Place, run: &str, first: &str) -> Child {
    begun_by(&[TRAIN], place, run, first)
}

/// A run that this command begins.
fn begun_by(train: &[&str], place: &Place, run: &str, first: &str) -> Child {
    let arguments = [&train[1..], &place.arguments(run, &["--epochs", "100000"])].concat();
    // A signal to the group is for this process alone.
    let child = place.after(first, train[0], &arguments).process_group(0).spawn().unwrap();
    place.wait_for_lines(run, 1);
    child
}

/// The exit code of what a signal ended.
fn code_of(signal: &str) -> Option<i32> {
    let all = [("HUP", 129), ("INT", 130), ("TERM", 143)];
    all.into_iter().find(|(name, _)| *name == signal).map(|(_, code)| code)
}

/// The exit code and what was printed.
fn end_of(child: Child) -> (Option<i32>, String) {
    let output = ended(child);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn each_signal_that_asks_a_run_to_end_has_it_saved_and_it_goes_on_to_the_same_weights() {
    let place = Place::new();
    // What is said to be typed next is what was typed.
    let called = [
        ("INT", "train", &[TRAIN] as &[&str]),
        ("TERM", "nin train", &[NIN, "train"]),
        ("HUP", "train", &[TRAIN]),
    ];
    // Sent more than once in one breath, as by `timeout`, which tells its child and then the group, it is one wish.
    for ((signal, name, train), times) in called.into_iter().flat_map(|own| [1, 3].map(|times| (own, times)))
    {
        let run = format!("my {signal} {times}");
        let child = begun_by(train, &place, &run, ":");
        kill(&child, signal, times);
        let (code, text) = end_of(child);
        assert_eq!(code, code_of(signal), "{run}: {text}");
        assert!(text.contains("interrupted: finishing what is under way and saving"), "{run}: {text}");
        assert!(text.contains(&format!("go on with: {name} --resume '{run}'")), "{run}: {text}");
        // What is saved is what was done, and it goes on to the weights of a run that nothing interrupted.
        let step = text.split("interrupted after step ").nth(1).and_then(|rest| rest.split(',').next());
        let step: u64 = step.unwrap().parse().unwrap();
        let steps = place.metrics(&run).into_iter().filter(|line| line.get("step").is_some());
        assert_eq!(steps.count() as u64, step);
        let more = (step + 3).to_string();
        succeeded(place.resume(&run, &["--threads", "1", "--max-steps", &more]));
        let whole = format!("whole {run}");
        assert!(place.weights(&run) == place.steps(&whole, step + 3, &["--epochs", "100000"]));
        assert_eq!(place.figures(&run), place.figures(&whole));
    }
}

/// `nohup` has a run ignore that its terminal is closed, a shell script's `&` that Ctrl-C is typed.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let place = Place::new();
    for (ignored, other) in [("HUP", "INT"), ("INT", "TERM"), ("TERM", "HUP"), ("INT HUP", "TERM")] {
        let child = begun(&place, ignored, &format!("trap '' {ignored}"));
        for signal in ignored.split(' ') {
            kill(&child, signal, 1);
        }
        let made = place.wait_for_lines(ignored, 1);
        // The second of these steps at least began after the signals.
        place.wait_for_lines(ignored, made + 2);
        kill(&child, other, 1);
        let (code, text) = end_of(child);
        assert_eq!(code, code_of(other), "{ignored}: {text}");
        assert_eq!(text.matches("interrupted: finishing").count(), 1, "{ignored}: {text}");
    }
    let child = begun(&place, "all", "trap '' HUP INT TERM");
    for signal in ["HUP", "INT", "TERM"] {
        kill(&child, signal, 1);
    }
    place.wait_for_lines("all", place.wait_for_lines("all", 1) + 2);
    kill(&child, "KILL", 1);
    assert_eq!(child.wait_with_output().unwrap().status.code(), None);
}

/// A step takes many seconds here, and the second signal does not wait for its end.
#[test]
fn a_second_signal_ends_a_run_at_once() {
    let place = Place::new();
    let size = ["--model", "nin-cifar", "--image-size", "224", "--batch-size", "40"];
    let large = [&size[..], &["--epochs", "1000", "--threads", "1"]].concat();
    let mut child = place.train("run", &large).spawn().unwrap();
    while !place.path("run/metrics.jsonl").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the run begins");
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(&child, "INT", 1);
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("interrupted: "), "{line}");
    while child.try_wait().unwrap().is_none() {
        kill(&child, "TERM", 1);
        std::thread::sleep(Duration::from_millis(50));
    }
    let (code, stdout) = end_of(child);
    assert_eq!(code, Some(130));
    assert!(!stdout.contains("saved"), "{stdout}");
}
