//! Names of folders and files that are hard on what shows them.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::common::{NIN, Place, TRAIN, failed, refused, succeeded, text};

/// Types into a shell, as it stands, what a command says to type next.
#[test]
fn a_hint_is_a_command_that_works_whatever_the_folder_is_called() {
    let place = Place::new();
    for (run, word) in [("my run", "'my run'"), ("$HOME's", r"'$HOME'\''s'"), ("-run", "./-run")] {
        place.steps("first", 1, &["--epochs", "1"]);
        fs::rename(place.path("first"), place.path(run)).unwrap();
        let asked = format!("--run={run}");
        let stderr = failed(place.nin(&["compare", "--no-speed", &asked]), 2, &["not finished"]);
        let hint = stderr.trim_end().rsplit_once("go on with it: ").unwrap().1.trim_end_matches(')');
        assert_eq!(hint, format!("nin train --resume {word}"));
        let typed = hint.replacen("nin", &format!("\"{NIN}\""), 1) + " --data-dir data --threads 2";
        succeeded(place.command("bash", &["-c", &typed]));
        succeeded(place.nin(&["compare", "--no-speed", &asked]));
    }
}

/// Characters that a terminal obeys, and that XML has none of: clear the screen, ring, a new line, the one-byte introducer of
/// commands, text from right to left, no character; and those that XML and Markdown give a meaning.
const HOSTILE: &str = "a\u{1b}[2J\u{7}\n\u{1}\u{9b}\u{202e}\u{ffff}&<b>\"'|";

/// Asserts that no character of a text is an order to the terminal, but for ends of lines.
fn assert_harmless(text: &str) {
    let obeyed = |c: &char| c.is_control() && *c != '\n' || "\u{202e}\u{ffff}".contains(*c);
    assert_eq!(text.chars().find(obeyed), None, "{text:?}");
}

#[test]
fn a_folders_name_gives_no_orders_to_a_terminal_and_breaks_no_picture() {
    let place = Place::new();
    let few = ["--epochs", "1", "--max-steps", "5"];
    let printed = |mut command: Command, code: i32| {
        let output = command.output().unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_harmless(&stdout);
        assert_harmless(&stderr);
        stdout
    };
    let shown = r#"a\u{1b}[2J\u{7}\n\u{1}\u{9b}\u{202e}\u{ffff}&<b>"'|"#;
    let stdout = printed(place.train(HOSTILE, &few), 0);
    assert!(stdout.contains(&format!("run folder {shown}\n")), "{stdout}");
    printed(
        place.train("other", &[&few[..], &["--seeds", "0..1", "--run-dir", &format!("s{HOSTILE}")]].concat()),
        0,
    );
    let inspect = ["--data-dir", "data", "--images", "8"];
    // `--output`: an earlier name.
    let plot = ["plot", HOSTILE, &format!("s{HOSTILE}"), "--output", &format!("{HOSTILE}.svg")];
    printed(place.nin(&plot), 0);
    printed(place.nin(&[&["inspect", HOSTILE, "--picture", "inspect.svg"], &inspect[..]].concat()), 0);
    let stdout = printed(place.nin(&[&["inspect", HOSTILE, "--json"], &inspect[..]].concat()), 0);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["network"], HOSTILE);
    printed(
        place.nin(&["compare", "--run", HOSTILE, "--no-speed", "--output", &format!("{HOSTILE}-out")]),
        0,
    );
    assert_harmless(&place.read(&format!("{HOSTILE}-out.md")));
    printed(place.nin(&["compare", "--run", HOSTILE, "--evaluate", "--data-dir", "data", "--no-speed"]), 0);
    // Errors.
    printed(place.train(HOSTILE, &few), 2);
    refused(place.nin(&["plot", &format!("no{HOSTILE}")]), 2, &[&format!("no{shown}")]);
    for arguments in [
        &["eval", "no\u{1b}[2J\n"][..],
        &["compare", "no\u{1b}[2J\n"],
        &["compare", "--run", "no\u{1b}[2J\n"],
        &["inspect", "no\u{1b}[2J\n"],
        &["eval", HOSTILE, "--weights", "no\u{1b}[2J\n", "--data-dir", "data"],
        &["eval", HOSTILE, "--data-dir", "no\u{1b}[2J\n"],
        &["eval", "--no\u{1b}[2J\n"],
        &["no\u{1b}[2J\n"],
        &["summary", "--model", "no\u{1b}[2J\n"],
        &["summary", "--classes", "no\u{1b}[2J\n"],
        &["inspect", "--seeds", "no\u{1b}[2J\n"],
    ] {
        let output = place.nin(arguments).output().unwrap();
        assert!(matches!(output.status.code(), Some(1 | 2)), "{arguments:?}");
        let stderr = text(&output.stderr);
        assert_harmless(&stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    fs::write(place.path("bad.toml"), "model = \"no\u{9b}\"\n\"\\u001b[2J\" = 1\n").unwrap();
    let output = place.command(TRAIN, &["--config", "bad.toml"]).output().unwrap();
    assert_harmless(&text(&output.stderr));
    // A folder's name that is no text at all.
    let raw = OsStr::from_bytes(b"r\xff\x1b");
    place.steps("unused", 1, &few[..2]);
    fs::rename(place.path("unused"), place.path("").join(raw)).unwrap();
    let mut command = place.nin(&["compare", "--no-speed", "--run"]);
    let stderr = text(&command.arg(raw).output().unwrap().stderr);
    assert!(stderr.contains(r"nin train --resume $'r\377\033'"), "{stderr}");
    assert_harmless(&stderr);

    for picture in [&format!("{HOSTILE}.svg"), "inspect.svg"] {
        let svg = place.read(picture);
        assert_harmless(&svg);
        assert_well_formed(&svg);
        assert!(svg.contains(r"a\u{1b}[2J\u{7}\n\u{1}\u{9b}\u{202e}\u{ffff}&amp;&lt;b&gt;"), "{svg}");
    }
}

/// Asserts that a picture is XML as far as it goes here: every element is closed in its place, and every `&` begins an entity.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').unwrap_or_else(|| panic!("{part:?} has an end"));
        let name = tag.split([' ', '\n', '/']).next().unwrap();
        match tag.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed)),
            None if tag.ends_with('/') || tag.starts_with('?') => {}
            None => open.push(name),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        assert!(!text.contains('>'), "{text}");
    }
    assert!(open.is_empty(), "{open:?}");
    let entities = ["amp;", "lt;", "gt;", "quot;", "apos;", "#"];
    assert!(
        svg.split('&').skip(1).all(|rest| entities.iter().any(|entity| rest.starts_with(entity))),
        "{svg}"
    );
}
