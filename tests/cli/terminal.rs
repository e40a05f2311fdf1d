//! Drawings of commands on a terminal.
#![cfg(target_os = "linux")]

use std::io::Write;

use crate::common::{NIN, Place, TRAIN, text};

/// The output of a command to a terminal of so many columns, and its exit code; `None` where nothing makes terminals.
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

/// The lines that stand on a terminal of so many columns when all this was written to it, without colors.
fn screen(text: &str, columns: usize) -> Vec<String> {
    let (mut lines, mut row, mut column) = (vec![Vec::<char>::new()], 0, 0);
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                let (parameter, command) = rest.split_at(rest.find(char::is_alphabetic).unwrap());
                let number = parameter[1..].parse().unwrap_or(1);
                rest = &command[1..];
                match command.as_bytes()[0] {
                    b'A' => row -= number,
                    b'B' => row += number,
                    b'K' => lines[row].clear(),
                    b'm' => {}
                    _ => panic!("{command:?}"),
                }
            }
            _ => {
                // What does not fit goes on in the next line.
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                lines.resize(lines.len().max(row + 1), Vec::new());
                let length = lines[row].len().max(column + 1);
                lines[row].resize(length, ' ');
                lines[row][column] = c;
                column += 1;
            }
        }
        lines.resize(lines.len().max(row + 1), Vec::new());
    }
    lines.into_iter().map(|line| line.into_iter().collect::<String>().trim_end().to_owned()).collect()
}

fn is_braille(c: char) -> bool {
    ('\u{2801}'..='\u{28ff}').contains(&c)
}

/// Drawn over itself again and again, and once there in the end: below what was reported, above the last line.
#[test]
fn a_plot_is_on_a_terminal_once() {
    let place = Place::new();
    for (number, (shell, columns, plot)) in [
        ("TERM=xterm", 80, true),
        ("TERM=xterm NO_COLOR=1", 50, true),
        ("TERM=xterm", 30, false),
        ("TERM=dumb", 80, false),
    ]
    .into_iter()
    .enumerate()
    {
        let run = format!("run-{number}");
        let command = [&[TRAIN], &place.arguments(&run, &["--epochs", "2", "--plot"])[..]].concat();
        let Some((found, code)) = on_a_terminal(&place, columns, shell, &command) else { return };
        assert_eq!(code, 0, "{found}");
        assert_eq!(found.contains(is_braille), plot, "{shell}, {columns}: {found}");
        assert_eq!(found.contains("\u{1b}[34m"), plot && !shell.contains("NO_COLOR"), "{shell}: {found:?}");
        if !plot {
            continue;
        }
        // There is a curve before an epoch is over.
        let first = found.split("epoch   1:").next().unwrap();
        assert!(first.contains("loss now") && first.contains(is_braille), "{found}");
        // Whenever a bar has been drawn, it is the only one, below the only plot.
        for (end, _) in found.match_indices("epoch 2/2") {
            let lines = screen(&found[..end], columns.into());
            let rows = |of: &[char]| lines.iter().filter(|line| line.contains(of)).count();
            assert_eq!((rows(&['│']), rows(&['█', '░'])), (12, 1), "{lines:#?}");
        }
        let lines = screen(&found, columns.into());
        let at = |part: &str| {
            let all: Vec<usize> = (0..lines.len()).filter(|&row| lines[row].contains(part)).collect();
            let [row] = all[..] else { panic!("{part:?} in lines {all:?} of {lines:#?}") };
            row
        };
        let axis: Vec<usize> = (0..lines.len()).filter(|&row| lines[row].contains('│')).collect();
        assert_eq!(axis, (axis[0]..axis[0] + 12).collect::<Vec<_>>(), "{lines:#?}");
        assert!(at("epoch   1: train loss") < at("epoch   2: train loss"));
        assert!(at("epoch   2: train loss") < axis[0] && axis[11] < at("⠤⠤⠤ loss now"), "{lines:#?}");
        assert!(!lines.iter().any(|line| line.contains(['█', '░'])), "a bar is left: {lines:#?}");
        let done = at("done in ");
        assert!(at("⠤⠤⠤ loss now") < done && !lines[done..].concat().contains(is_braille), "{lines:#?}");
    }
    let output = place.train("piped", &["--epochs", "1", "--plot"]).output().unwrap();
    let written = [text(&output.stdout), text(&output.stderr)].concat();
    assert!(output.status.success() && written.contains("done in "), "{written}");
    assert!(!written.contains(is_braille) && !written.contains('\u{1b}'), "{written:?}");
}

#[test]
fn a_bar_is_one_line_of_any_terminal() {
    let place = Place::new();
    for columns in [40, 80, 200] {
        let run = format!("run-{columns}");
        let seeds = ["--epochs", "2", "--seeds", "0..1"];
        let command = [&[TRAIN], &place.arguments(&run, &seeds)[..]].concat();
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
