//! The same seed gives the same weights, bit for bit: on any number of threads, and whether a run goes through or stops in
//! the middle of an epoch and goes on.

use std::fs;

use nin::optim::OptimizerKind;

use crate::common::{Place, succeeded};

/// Goes on with a run up to this many steps in all; its weights.
fn go_on(place: &Place, run: &str, steps: u64, threads: &str) -> Vec<u8> {
    succeeded(place.resume(run, &["--threads", threads, "--max-steps", &steps.to_string()]));
    place.weights(run)
}

#[test]
fn any_number_of_threads_makes_the_same_weights() {
    let place = Place::of_nin();
    // Batches of 20 are three groups of two micro-batches, so that threads share steps and groups; 6 steps cross ends of epochs.
    let run = |name: &str, more: &[&str]| place.steps(name, 6, &[&["--batch-size", "20"], more].concat());
    let one = run("one", &["--threads", "1"]);
    for threads in ["2", "5", "32"] {
        assert!(one == run(threads, &["--threads", threads]), "{threads} threads");
        assert_eq!(place.figures("one"), place.figures(threads));
    }
    assert!(one != run("other", &["--threads", "2", "--seed", "1"]), "another seed makes other weights");
}

/// The weights that a run begins with are in its first checkpoint.
#[test]
fn a_run_from_a_file_of_weights_goes_on_without_the_file() {
    let place = Place::of_nin();
    place.steps("first", 1, &["--seed", "5"]);
    let from = ["--init-from", "first/model.safetensors"];
    let whole = place.steps("whole", 2, &from);
    place.steps("run", 1, &from);
    fs::remove_dir_all(place.path("first")).unwrap();
    assert!(go_on(&place, "run", 2, "2") == whole);
}

#[test]
fn a_run_that_stops_inside_an_epoch_and_goes_on_ends_in_the_same_weights() {
    let place = Place::of_nin();
    let whole = place.steps("whole", 9, &[]);
    // Epochs have 5 steps: the run stops inside the first and inside the second, and changes its number of threads.
    assert!(place.steps("parts", 3, &[]) != whole);
    assert!(go_on(&place, "parts", 7, "1") != whole);
    assert!(go_on(&place, "parts", 9, "2") == whole);
    assert_eq!(place.figures("parts"), place.figures("whole"));
}

#[test]
fn variations_held_out_images_and_parameters_chosen_by_name_are_the_same_after_a_stop() {
    let place = Place::new();
    let all = "shift:2,flip,crop:0.6,rotate:15,scale:1.2,color:0.3,mixup:0.2,cutout:8";
    let loss = ["--augment", all, "--label-smoothing", "0.1", "--hold-out", "10"];
    let more = [&loss[..], &["--freeze", "0.*", "--lr-of", "3.*=0.5"]].concat();
    // 30 of the 40 training images are left: epochs have 4 steps.
    let whole = place.steps("whole", 7, &more);
    place.steps("parts", 3, &more);
    assert!(go_on(&place, "parts", 6, "1") != whole);
    assert!(go_on(&place, "parts", 7, "2") == whole);
    assert_eq!(place.figures("parts"), place.figures("whole"));
    for left_out in more.chunks(2) {
        let fewer: Vec<&str> = more.chunks(2).filter(|&flag| flag != left_out).flatten().copied().collect();
        let run = format!("without{}", left_out[0]);
        assert!(place.steps(&run, 7, &fewer) != whole, "{} changes the weights", left_out[0]);
    }
}

#[test]
fn a_last_batch_that_is_left_out_stays_out_after_a_stop() {
    let place = Place::new();
    // 40 images are 3 batches of 12 and 4 images more.
    let more = ["--batch-size", "12", "--drop-last"];
    let whole = place.steps("whole", 7, &more);
    assert!(place.steps("with", 7, &more[..2]) != whole, "the fourth step had 4 images");
    place.steps("parts", 2, &more);
    assert!(go_on(&place, "parts", 7, "1") == whole);
    fs::write(place.path("settings.toml"), "drop_last = true\n").unwrap();
    let file = ["--batch-size", "12", "--config", "settings.toml", "--threads", "3"];
    assert!(place.steps("file", 7, &file) == whole);
}

#[test]
fn every_optimizer_goes_on_after_a_stop_on_other_threads() {
    let place = Place::new();
    let mut found = Vec::new();
    for kind in OptimizerKind::ALL.map(OptimizerKind::name) {
        let (more, parts) = (["--optimizer", kind, "--lr", "0.002"], format!("{kind}-parts"));
        let weights = place.steps(kind, 4, &more);
        place.steps(&parts, 2, &more);
        assert!(go_on(&place, &parts, 4, "1") == weights, "{kind}");
        assert!(!found.contains(&weights), "{kind} is another's");
        found.push(weights);
    }
}
