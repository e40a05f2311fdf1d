//! Places that the output of commands goes to: pipes, devices, links, full disks, closed streams, places for no file.
#![cfg(unix)]

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::process::Command;

use crate::common::{NIN, Place, TRAIN, assert_has, failed, refused, succeeded, text};

/// A place with a run of one epoch.
fn with_a_run() -> Place {
    let place = Place::new();
    succeeded(place.train("run", &["--epochs", "1"]));
    place
}

/// Commands that write files, with the names of these.
const WRITERS: [(&[&str], &[&str]); 4] = [
    (&["plot", "run", "--picture", "out"], &["out"]),
    (&["compare", "lenet", "--no-speed", "--output", "out"], &["out.md", "out.csv"]),
    (&["inspect", "run", "--data-dir", "data", "--images", "8", "--csv", "out"], &["out"]),
    (&["inspect", "run", "--data-dir", "data", "--images", "8", "--picture", "out"], &["out"]),
];

#[test]
fn pipes_and_links_are_written_through() {
    let place = with_a_run();
    for (arguments, outputs) in WRITERS {
        succeeded(place.nin(arguments));
        let written: Vec<_> = outputs.iter().map(|output| fs::read(place.path(output)).unwrap()).collect();
        // A link stays one, and so does one to what is not there yet.
        for output in outputs {
            fs::rename(place.path(output), place.path("linked")).unwrap();
            fs::write(place.path("linked"), "before").unwrap();
            symlink("linked", place.path(output)).unwrap();
            succeeded(place.nin(arguments));
            assert!(fs::symlink_metadata(place.path(output)).unwrap().is_symlink(), "{arguments:?}");
            fs::remove_file(place.path("linked")).unwrap();
            succeeded(place.nin(arguments));
            assert!(fs::symlink_metadata(place.path("linked")).unwrap().is_file(), "{arguments:?}");
            fs::remove_file(place.path(output)).unwrap();
        }
        for (output, expected) in outputs.iter().zip(&written) {
            let _ = fs::remove_file(place.path(output));
            assert!(Command::new("mkfifo").arg(place.path(output)).status().unwrap().success());
            let path = place.path(output);
            let reader = std::thread::spawn(move || {
                let mut found = Vec::new();
                fs::File::open(path).unwrap().read_to_end(&mut found).unwrap();
                found
            });
            succeeded(place.nin(arguments));
            assert!(reader.join().unwrap() == *expected, "{arguments:?}");
            assert!(fs::symlink_metadata(place.path(output)).unwrap().file_type().is_fifo());
            fs::remove_file(place.path(output)).unwrap();
        }
        outputs.iter().for_each(|output| drop(fs::remove_file(place.path(output))));
    }
}

#[test]
fn devices_are_written_to() {
    let place = with_a_run();
    // A command that replaced one of the system's own would do so for everybody: it is given links in the test's folder.
    for device in ["null", "full", "stdout"] {
        symlink(format!("/dev/{device}"), place.path(device)).unwrap();
    }
    let inspect = ["inspect", "run", "--data-dir", "data", "--images", "8"];
    for arguments in [&["plot", "run", "--picture"][..], &[&inspect[..], &["--csv"]].concat()] {
        let to = |file: &str| place.nin(&[arguments, &[file]].concat());
        succeeded(to("null"));
        let stdout = succeeded(to("stdout"));
        assert!(stdout.contains("<svg") || stdout.contains("network,layer,kind"), "{stdout}");
        if cfg!(target_os = "linux") {
            // What was found is printed all the same.
            let stdout = to("full").output().unwrap().stdout;
            assert!(!stdout.is_empty(), "{arguments:?}");
            refused(to("full"), 1, &["full: cannot write"]);
        }
        for device in ["null", "full", "stdout"] {
            assert!(fs::symlink_metadata(place.path(device)).unwrap().is_symlink(), "{arguments:?}");
        }
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

/// A command that works first would tell so on standard error, and measure for an hour here.
#[test]
fn a_place_for_no_file_is_refused_before_the_work() {
    let place = with_a_run();
    fs::create_dir(place.path("folder")).unwrap();
    fs::create_dir(place.path("folder.md")).unwrap();
    fs::create_dir(place.path("other.csv")).unwrap();
    fs::write(place.path("file"), "kept").unwrap();
    let long = "n".repeat(300);
    // Not each error names the whole path: a folder that cannot be made goes by its own.
    let named = |path: &str| path.split_once('/').map_or(path, |(first, _)| first).to_owned();
    let nowhere = ["file/out", "file/below/out", "folder", &long];
    for path in nowhere.iter().copied().chain(["other"]) {
        let command = place.nin(&["compare", "lenet", "--seconds", "3600", "--output", path]);
        refused(command, 2, &[&named(path), "cannot"]);
    }
    for path in nowhere.into_iter().chain(["pictures/"]) {
        refused(place.nin(&["plot", "run", "--picture", path]), 2, &[&named(path), "cannot"]);
        for flag in ["--csv", "--picture"] {
            // The network would take minutes.
            let more = ["--model", "nin", "--images", "4096", "--data-dir", "data"];
            let command = place.nin(&[&["inspect", flag, path], &more[..]].concat());
            refused(command, 2, &[&named(path), "cannot"]);
        }
    }
    assert_eq!(place.read("file"), "kept");
    assert_eq!(fs::read_dir(place.path("folder")).unwrap().count(), 0, "nothing is left of the trial");
    // A folder that is not there is made.
    succeeded(place.nin(&["plot", "run", "--picture", "new/below/out.svg"]));
    assert!(place.read("new/below/out.svg").contains("</svg>"));
}

/// The disk is full when the work is done: what was found is on the screen.
#[test]
fn a_table_is_printed_even_if_its_file_cannot_be_written() {
    let place = with_a_run();
    for (arguments, found) in [
        (&["compare", "lenet", "--no-speed"][..], "61,706"),
        (&["plot", "run"], "test acc min"),
        (&["inspect", "run", "--data-dir", "data", "--images", "8", "--csv", "out.csv"], "logits: mean"),
    ] {
        let limited = || place.after("trap '' XFSZ; ulimit -f 0", NIN, arguments);
        assert_has(&text(&limited().output().unwrap().stdout), &[found]);
        failed(limited(), 1, &["cannot write"]);
    }
    // And the file is there if the screen is not.
    #[cfg(target_os = "linux")]
    for (arguments, outputs) in WRITERS {
        refused(place.after("exec >/dev/full", NIN, arguments), 1, &["standard output"]);
        assert!(outputs.iter().all(|output| !fs::read(place.path(output)).unwrap().is_empty()));
    }
}

/// Every file of a folder and of those below it.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn the_umask_holds_for_every_file() {
    for (umask, mode) in [("077", 0o600), ("027", 0o640), ("000", 0o666)] {
        let place = Place::new();
        let with =
            |program: &str, arguments: &[&str]| place.after(&format!("umask {umask}"), program, arguments);
        let run = place.arguments("out/run", &["--epochs", "2"]);
        succeeded(with(TRAIN, &[&run[..], &["--max-steps", "7"]].concat()));
        succeeded(with(TRAIN, &["--resume", "out/run", "--data-dir", "data", "--threads", "2"]));
        let seeds = place.arguments("out/seeds", &["--epochs", "1"]);
        succeeded(with(TRAIN, &[&seeds[..], &["--seeds", "0..1"]].concat()));
        succeeded(with(NIN, &["plot", "out/run", "--picture", "out/plot.svg"]));
        succeeded(with(NIN, &["compare", "--run", "out/run", "--no-speed", "--output", "out/compare"]));
        let all = files(&place.path("out"));
        assert!(all.len() >= 5 + 6 + 3, "{all:?}");
        for path in all {
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(found, mode, "umask {umask}, {path:?}: {found:o}");
        }
    }
}

/// Nothing panics where standard output or standard error cannot be written: on a full disk, closed, or with nobody who reads.
#[cfg(target_os = "linux")]
#[test]
fn no_command_panics_where_nobody_can_read() {
    let place = with_a_run();
    let (inspect, bench) =
        (["--data-dir", "data", "--images", "8"], ["--model", "lenet", "--image-size", "16"]);
    let nin = |arguments: &[&str]| [&[NIN], arguments].concat().iter().map(|&a| a.to_owned()).collect();
    let run = |more: &[&str]| -> Vec<String> {
        let all = place.arguments("", &["--epochs", "1"]);
        let all = all.into_iter().filter(|word| !["", "--run-dir"].contains(word));
        [TRAIN].into_iter().chain(all).chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let commands: [(Vec<String>, bool, i32); 18] = [
        (run(&[]), false, 0),
        (run(&["--seeds", "0..2"]), false, 0),
        (run(&["--lr", "1e300"]), false, 1),
        (vec![TRAIN.into(), "--help".into()], true, 0),
        (vec![TRAIN.into(), "-h".into()], true, 0),
        (vec![TRAIN.into(), "--version".into()], true, 0),
        (vec![TRAIN.into(), "--nonsense".into()], false, 2),
        (vec![TRAIN.into(), "--resume".into(), "nowhere".into()], false, 2),
        (vec![TRAIN.into(), "--dataset".into(), "fashion-mnist".into()], false, 1),
        (nin(&[]), false, 2),
        (nin(&["--help"]), true, 0),
        (nin(&["help", "compare"]), true, 0),
        (nin(&["eval", "run", "--data-dir", "data"]), true, 0),
        (nin(&["summary", "--plan"]), true, 0),
        (nin(&[&["bench", "--steps", "1", "--json"], &bench[..]].concat()), true, 0),
        (nin(&["compare", "--run", "run", "--evaluate", "--data-dir", "data", "--seconds", "0.01"]), true, 0),
        (nin(&[&["inspect", "run", "--csv", "out.csv"], &inspect[..]].concat()), true, 0),
        (nin(&["plot", "run"]), true, 0),
    ];
    for (command, prints, code) in &commands {
        for to in [">/dev/full", ">&-", "2>/dev/full", "2>&-", ">/dev/full 2>/dev/full", ">&- 2>&-", "| true"]
        {
            // The exit code of the command, also before a pipe.
            let script = format!("{{ \"$@\"; echo $? >&3; }} 3>code {to}");
            let mut shell = Command::new("sh");
            shell.current_dir(place.path("")).args(["-c", &script, "sh"]).args(command);
            shell
                .env("NIN_FASHION_MNIST_URL", "http://127.0.0.1:9")
                .env("NIN_CACHE_DIR", place.path("cache"));
            let output = shell.output().unwrap();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            let full = to.starts_with(">/dev/full") && *prints;
            let expected = if full { 1 } else { *code };
            assert_eq!(place.read("code").trim(), expected.to_string(), "{command:?} {to}: {out}{err}");
            assert!(!err.contains("panicked"), "{command:?} {to}: {err}");
        }
    }
}
