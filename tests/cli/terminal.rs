//! What commands draw on a terminal.
#![cfg(target_os = "linux")]

use std::io::Write;

use crate::common::{NIN, Place, TRAIN, small, text};

/// What a command writes to a terminal of so many columns, and its exit code; `None` where there is nothing to make a terminal with.
fn on_a_terminal(place: &Place, columns: u16, shell: &str, command: &[&str]) -> Option<(String, i32)> {
    // Arguments of these tests are words.
    let script = format!("stty cols {columns} rows 24; {shell} {}; echo \"code $?\"", command.join(" "));
    let mut terminal = place.command("script", &["-qec", &script, "/dev/null"]);
    let output =
        terminal.env("NIN_FASHION_MNIST_URL", "http://127.0.0.1:9").env("NIN_CACHE_DIR", "cache").output();
    let Ok(output) = output else {
        let _ = writeln!(std::io::stderr(), "not tested: there is no `script`");
        return None;
    };
    let written = text(&output.stdout);
    let (text, code) = written.trim_end().rsplit_once("code ").unwrap_or_else(|| panic!("{written}"));
    Some((text.to_owned(), code.parse().unwrap()))
}

/// Columns of each line, and of each version of a line that is written again, without the terminal's commands.
fn widths(text: &str) -> Vec<usize> {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            rest.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain.split(['\r', '\n']).map(|line| line.chars().count()).collect()
}

#[test]
fn a_bar_is_one_line_of_any_terminal() {
    let place = Place::new();
    for columns in [40, 80, 200] {
        let run = format!("run-{columns}");
        let seeds = ["--epochs", "2", "--seeds", "0..1"];
        let command = [&[TRAIN], &small(&run, &seeds)[..]].concat();
        // The report of the run may be wider: it is no bar.
        let shell = "TERM=xterm NO_COLOR=1 ";
        let Some((found, code)) =
            on_a_terminal(&place, columns, shell, &[&command[..], &[">report"]].concat())
        else {
            return;
        };
        assert_eq!(code, 0, "{found}");
        assert!(found.contains('█') && found.contains("seed 0, epoch 2/2"), "{found}");
        assert!(widths(&found).into_iter().max() <= Some(columns.into()), "{columns}: {found}");
        assert!(!found.contains("\u{1b}[3") && !found.contains("\u{1b}[1m"), "a color: {found:?}");
        assert!(place.read("report").contains("1 of 1 seeds finished"));
    }
}

/// A download that cannot begin tells that it would, in the plain lines of a pipe.
#[test]
fn a_terminal_that_only_prints_gets_plain_lines() {
    let place = Place::new();
    let command = [TRAIN, "--dataset", "fashion-mnist"];
    for (shell, plain) in [
        ("TERM=dumb", true),
        ("TERM=", true),
        ("env -u TERM", true),
        ("TERM=dumb NO_COLOR=1", true),
        ("TERM=xterm", false),
        ("TERM=xterm NO_COLOR=1", false),
    ] {
        let Some((found, code)) = on_a_terminal(&place, 80, shell, &command) else { return };
        assert_eq!(code, 1, "{found}");
        assert!(found.contains("error: http://127.0.0.1:9/"), "{found}");
        assert_eq!(found.contains("downloading train-images"), plain, "{shell}: {found}");
        assert!(!plain || !found.contains(['\u{1b}', '█', '░']), "{shell}: {found:?}");
    }
    // Help has no colors where none are wanted.
    for shell in ["TERM=dumb", "TERM=dumb CI=1", "env -u TERM CI=1", "TERM=xterm NO_COLOR=1 CI=1"] {
        let Some((found, code)) = on_a_terminal(&place, 80, shell, &[NIN, "compare", "--help"]) else {
            return;
        };
        assert_eq!(code, 0);
        assert!(found.contains("--no-speed") && !found.contains('\u{1b}'), "{shell}: {found:?}");
    }
}
