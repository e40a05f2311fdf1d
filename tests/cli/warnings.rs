//! Warnings about a run while it goes on: weights that are dead on purpose, and weights that are not.

use std::process::Command;

use serde_json::Value;

use crate::common::{Place, succeeded, text};

/// The warnings on standard error.
fn logged_warnings(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    stderr.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect()
}

/// Trains from weights whose class maps of `dead` are far below their ReLU, in `start.safetensors`; the warnings on standard
/// error, and those in `metrics.jsonl`.
fn warnings(place: &Place, run: &str, dead: &[usize], more: &[&str]) -> (Vec<String>, Vec<Value>) {
    let first = format!("{run}-start");
    succeeded(place.train(&first, &["--max-steps", "1", "--dropout", "0"]));
    std::fs::rename(place.path(&first).join("model.safetensors"), place.path("start.safetensors")).unwrap();
    place.change_weights("start.safetensors", |weights, _| {
        let bias = weights.get_mut("6.4.bias").unwrap().data_mut();
        dead.iter().for_each(|&class| bias[class] = -1000.0);
    });
    let lines = logged_warnings(place.train(run, &[&["--init-from", "start.safetensors"], more].concat()));
    let metrics = place.metrics(run).into_iter();
    (lines, metrics.filter(|line| line.get("warning").is_some()).collect())
}

#[test]
fn a_warm_up_without_an_end_is_told() {
    let place = Place::new();
    let warned =
        |run: &str, epochs: &str| {
            logged_warnings(place.train(
                run,
                &["--warmup-epochs", "3", "--epochs", epochs, "--lr", "0.05", "--max-steps", "1"],
            ))
        };
    let expected = "warning: warmup_epochs is 3 of 1 epoch: the learning rate does not arrive at 0.05";
    assert_eq!(warned("short", "1"), [expected]);
    assert!(warned("whole", "3").is_empty());
}

#[test]
fn a_dead_class_map_is_reported_once_while_it_happens() {
    let place = Place::of_nin();
    let more = ["--epochs", "3", "--no-shuffle", "--threads"];
    let (lines, logged) = warnings(&place, "dead", &[3, 7], &[&more[..], &["2"]].concat());
    // There are four images of each class: both maps are known to be dead in the first epoch, and nothing is said twice.
    let mut classes: Vec<u64> = Vec::new();
    for (line, logged) in lines.iter().zip(&logged) {
        assert!(
            line.starts_with("warning: epoch 1, step ")
                && line.ends_with("; try a smaller --lr or another --seed"),
            "{line}"
        );
        assert_eq!(logged["warning"], "dead_class_maps");
        assert!(logged["at_step"].as_u64().unwrap() <= 5, "{logged}");
        classes.extend(logged["classes"].as_array().unwrap().iter().map(|class| class.as_u64().unwrap()));
    }
    assert_eq!((lines.len(), &classes[..]), (logged.len(), &[3, 7][..]), "{lines:?}");
    let metrics = place.metrics("dead");
    assert_eq!(metrics.iter().filter(|line| line["dead_maps"] == 2).count(), 3, "{metrics:?}");

    // Nothing of it depends on the number of threads.
    let one = warnings(&place, "one", &[3, 7], &[&more[..], &["1"]].concat());
    assert_eq!(one, (lines.clone(), logged.clone()));

    // Of many seeds, each line names its own.
    let seeds = ["2", "--seeds", "0..2", "--init-from", "start.safetensors"];
    let lines_of_seeds = logged_warnings(place.train("seeds", &[&more[..], &seeds].concat()));
    let of = |seed: u64| format!("warning: seed {seed}, epoch 1, step ");
    assert!(
        (0..2).all(|seed| lines_of_seeds.iter().any(|line| line.starts_with(&of(seed)))),
        "{lines_of_seeds:?}"
    );
    assert!(lines_of_seeds.iter().all(|line| line.starts_with("warning: seed ")), "{lines_of_seeds:?}");
    assert_eq!(
        lines_of_seeds.iter().filter(|line| line.starts_with("warning: seed 0")).count(),
        lines.len(),
        "{lines_of_seeds:?}"
    );
}

#[test]
fn a_loss_that_does_not_move_is_reported() {
    let all: Vec<usize> = (0..10).collect();
    let place = Place::of_nin();
    let (lines, logged) = warnings(&place, "stuck", &all, &["--epochs", "5"]);
    let plateau: Vec<&Value> = logged.iter().filter(|line| line["warning"] == "stuck_loss").collect();
    // Twenty steps end the fourth epoch.
    let steps: Vec<u64> = plateau.iter().map(|line| line["at_step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [20], "{logged:?}");
    let line = lines.iter().find(|line| line.contains("stayed")).unwrap();
    assert!(line.contains("2.303, a guess's, for 20 steps; try another --lr or another --seed"), "{line}");
    let dead: usize = logged.iter().filter_map(|line| Some(line.get("classes")?.as_array()?.len())).sum();
    assert_eq!(dead, 10, "{logged:?}");

    // What was counted before a stop counts.
    let (_, before) = warnings(&place, "parts", &all, &["--epochs", "5", "--max-steps", "13"]);
    succeeded(place.resume("parts", &[]));
    let all = place.metrics("parts").into_iter().filter(|line| line.get("warning").is_some());
    assert!(before.len() < logged.len());
    assert_eq!(all.collect::<Vec<_>>(), logged);
}

#[test]
fn a_run_that_learns_gets_no_warning() {
    assert_eq!(warnings(&Place::of_nin(), "alive", &[], &["--epochs", "3"]), (Vec::new(), Vec::new()));
}
