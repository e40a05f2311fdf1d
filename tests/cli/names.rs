//! Names of folders and files that are hard on what shows them.

use crate::common::{Place, failed, succeeded};

/// What a command says to type next is typed into a shell as it stands.
#[cfg(unix)]
#[test]
fn a_hint_is_a_command_that_works_whatever_the_folder_is_called() {
    use crate::common::TRAIN;

    let place = Place::new();
    for (run, word) in [("my run", "'my run'"), ("$HOME's", r"'$HOME'\''s'"), ("-run", "./-run")] {
        place.steps("first", 1, &["--epochs", "1"]);
        std::fs::rename(place.path("first"), place.path(run)).unwrap();
        let asked = format!("--run={run}");
        let stderr = failed(place.nin(&["compare", "--no-speed", &asked]), 2, &["not finished"]);
        let hint = stderr.trim_end().rsplit_once("go on with it: ").unwrap().1.trim_end_matches(')');
        assert_eq!(hint, format!("train --resume {word}"));
        let typed = hint.replacen("train", &format!("\"{TRAIN}\""), 1) + " --data-dir data --threads 2";
        succeeded(place.command("bash", &["-c", &typed]));
        succeeded(place.nin(&["compare", "--no-speed", &asked]));
    }
}
