//! `train --seeds`: several seeds one after the other, as a user runs them.

use std::fs;

use crate::common::{Place, refused, succeeded};

/// Runs seeds below `all` and returns what the command printed.
fn seeds(place: &Place, range: &str, more: &[&str]) -> String {
    succeeded(place.train("all", &[&["--epochs", "1", "--seeds", range], more].concat()))
}

/// The lines about single seeds.
fn lines(stdout: &str) -> Vec<&str> {
    stdout.lines().filter(|line| line.starts_with("seed ")).collect()
}

#[test]
fn each_seed_has_a_run_of_its_own_and_what_is_finished_is_not_made_again() {
    let place = Place::new();
    // A seed of many is the seed alone, also if it stops on the way.
    let stdout = seeds(&place, "3..5", &["--max-steps", "2"]);
    assert_eq!(
        lines(&stdout),
        ["seed 3: stopped after step 2 as asked", "seed 4: stopped after step 2 as asked"]
    );
    assert!(stdout.contains("0 of 2 seeds finished; the runs are in"), "{stdout}");
    let stdout = seeds(&place, "3..5", &[]);
    for (line, seed) in lines(&stdout).into_iter().zip(["3", "4"]) {
        assert!(line.starts_with(&format!("seed {seed}: test acc 0.")) && line.ends_with("min"), "{line}");
        succeeded(place.train(seed, &["--epochs", "1", "--seed", seed]));
        assert!(place.weights(seed) == place.weights(&format!("all/seed-{seed}")), "seed {seed}");
    }
    assert!(place.weights("3") != place.weights("4"));

    // One more seed: the others are left as they are.
    let made = || fs::metadata(place.path("all/seed-3/checkpoint.safetensors")).unwrap().modified().unwrap();
    let before = made();
    let stdout = seeds(&place, "3..6", &[]);
    let all = lines(&stdout);
    assert!(all[0].ends_with("finished before") && all[1].ends_with("finished before"), "{stdout}");
    assert!(all[2].starts_with("seed 5: test acc") && all[2].ends_with("min"), "{stdout}");
    assert_eq!(before, made());

    // The last line and the table say what the runs wrote down.
    let table = place.read("all/seeds.csv");
    let mut accuracies: Vec<f64> =
        table.lines().skip(1).map(|line| line.split(',').nth(4).unwrap().parse().unwrap()).collect();
    accuracies.sort_by(f64::total_cmp);
    let [min, median, max] = accuracies[..] else { panic!("three seeds: {table}") };
    let expected = format!(
        "3 of 3 seeds finished: test acc min {min:.4}, median {median:.4}, max {max:.4}; the runs are in"
    );
    assert!(stdout.contains(&expected), "{expected} in {stdout}");
}

#[test]
fn ranges_and_folders_that_do_not_fit_are_refused() {
    let place = Place::new();
    seeds(&place, "0..1", &["--max-steps", "1"]);
    let weights = "all/seed-0/model.safetensors";
    for (arguments, parts) in [
        (&["--seeds", "4..2"] as &[&str], &["--seeds <FROM..TO>: expected FROM..TO", "\"4..2\""] as &[&str]),
        (&["--seeds", "0..2", "--seed", "3"], &["--seeds", "--seed"]),
        (
            &["--seeds", "0..1", "--lr", "0.5"],
            &["seed-0: a run with other settings (", "lr = 0.1", "--run-dir"],
        ),
        (
            &["--seeds", "0..1", "--init-from", weights],
            &["seed-0: a run with other settings (", "no init_from"],
        ),
    ] {
        refused(place.train("all", &[&["--epochs", "1"], arguments].concat()), 2, parts);
    }
}
