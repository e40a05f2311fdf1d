//! What a run is told while it goes on: weights that are dead on purpose, and weights that are not.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::common::{small_train, write_dataset};
use serde_json::Value;

/// Trains from weights whose class maps of `dead` are far below their ReLU; the warnings on standard error, and those in
/// `metrics.jsonl`.
fn warnings(folder: &Path, name: &str, dead: &[usize], more: &[&str]) -> (Vec<String>, Vec<Value>) {
    let (data, start) = (folder.join("data"), folder.join(name).with_extension("safetensors"));
    write_dataset(&data);
    let first = folder.join(format!("{name}-start"));
    let mut command = small_train(&data, &["--max-steps", "1", "--dropout", "0"]);
    command.arg("--run-dir").arg(&first).assert().success();
    let (mut weights, _) = nin::checkpoint::load_tensors(&first.join("model.safetensors")).unwrap();
    for &class in dead {
        weights.get_mut("6.4.bias").unwrap().data_mut()[class] = -1000.0;
    }
    let all: Vec<_> = weights.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    nin::checkpoint::save_tensors(&start, &all, HashMap::new()).unwrap();

    let run = folder.join(name);
    let mut command = small_train(&data, more);
    let output = command.arg("--init-from").arg(&start).arg("--run-dir").arg(&run).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let lines = stderr.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect();
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let metrics = metrics.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    (lines, metrics.filter(|line| line.get("warning").is_some()).collect())
}

#[test]
fn a_dead_class_map_is_reported_once_while_it_happens() {
    let folder = tempfile::tempdir().unwrap();
    let more = ["--epochs", "3", "--no-shuffle", "--threads"];
    let (lines, logged) = warnings(folder.path(), "dead", &[3, 7], &[&more[..], &["2"]].concat());
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
    let metrics = fs::read_to_string(folder.path().join("dead/metrics.jsonl")).unwrap();
    let epochs = metrics.lines().filter(|line| line.contains("\"epoch\""));
    assert_eq!(epochs.filter(|line| line.contains("\"dead_maps\":2")).count(), 3, "{metrics}");

    // Nothing of it depends on the number of threads.
    let one = warnings(folder.path(), "one", &[3, 7], &[&more[..], &["1"]].concat());
    assert_eq!(one, (lines.clone(), logged.clone()));

    // Of many seeds, each line names its own.
    let start = folder.path().join("dead.safetensors");
    let mut command =
        small_train(&folder.path().join("data"), &[&more[..], &["2", "--seeds", "0..2"]].concat());
    let output =
        command.arg("--init-from").arg(&start).arg("--run-dir").arg(folder.path().join("seeds")).output();
    let stderr = String::from_utf8(output.unwrap().stderr).unwrap();
    let of = |seed: u64| format!("warning: seed {seed}, epoch 1, step ");
    let told: Vec<&str> = stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
    assert!((0..2).all(|seed| told.iter().any(|line| line.starts_with(&of(seed)))), "{told:?}");
    assert!(told.iter().all(|line| line.starts_with("warning: seed ")), "{told:?}");
    assert_eq!(
        told.iter().filter(|line| line.starts_with("warning: seed 0")).count(),
        lines.len(),
        "{told:?}"
    );
}

#[test]
fn a_loss_that_does_not_move_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<usize> = (0..10).collect();
    let (lines, logged) = warnings(folder.path(), "stuck", &all, &["--epochs", "5"]);
    let stuck: Vec<&Value> = logged.iter().filter(|line| line["warning"] == "stuck_loss").collect();
    // Twenty steps end the fourth epoch.
    let steps: Vec<u64> = stuck.iter().map(|line| line["at_step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [20], "{logged:?}");
    let line = lines.iter().find(|line| line.contains("stayed")).unwrap();
    assert!(line.contains("2.303, a guess's, for 20 steps; try another --lr or another --seed"), "{line}");
    let dead: usize = logged.iter().filter_map(|line| Some(line.get("classes")?.as_array()?.len())).sum();
    assert_eq!(dead, 10, "{logged:?}");
}

#[test]
fn a_run_that_learns_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(warnings(folder.path(), "alive", &[], &["--epochs", "3"]), (Vec::new(), Vec::new()));
}
