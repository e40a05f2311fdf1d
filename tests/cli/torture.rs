//! Runs that are killed, raced, fooled and given too little disk at random places lose nothing: they end in the bits of a run
//! that nothing disturbed. A dozen rounds in the usual tests; `NIN_ROUNDS=200` makes more, `NIN_ROUNDS_SEED` others.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tensor::{Purpose, RandomStream};

use crate::common::{Place, TRAIN, contents, copy, succeeded, text};

/// Three epochs of five steps, saved after each step.
const RUN: [&str; 8] =
    ["--image-size", "28", "--epochs", "3", "--checkpoint-minutes", "0.00001", "--augment", "shift:2,flip"];

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// The command that begins the run or goes on with it, as a user would.
fn command<'a>(place: &Place, run: &'a str) -> Vec<&'a str> {
    if place.path(run).join("config.toml").exists() {
        vec!["--resume", run, "--threads", "2", "--checkpoint-minutes", "0.00001"]
    } else {
        place.arguments(run, &RUN)
    }
}

/// Lets a process end: it did what it was asked, or says in one line why not.
fn end(child: Child, refusals: &[i32]) -> Option<String> {
    let output = child.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    if output.status.success() {
        return None;
    }
    // A signal ended it.
    let Some(code) = output.status.code() else { return Some(stderr) };
    assert!(refusals.contains(&code), "exit code {code}: {stderr}");
    let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert!(errors == 1 && !stderr.contains("panicked"), "{stderr}");
    Some(stderr)
}

/// Changes a file a little: a bit of it, or its end.
fn spoil(path: &Path, random: &mut RandomStream) {
    let mut bytes = fs::read(path).unwrap();
    if bytes.is_empty() {
        return;
    }
    let at = random.below(bytes.len() as u64) as usize;
    match random.below(3) {
        0 => bytes.truncate(at),
        1 => bytes.extend_from_slice(&[0; 7]),
        _ => bytes[at] ^= 1 << random.below(8),
    }
    fs::write(path, bytes).unwrap();
}

/// The weights that a folder's run ends in must be these, whatever its way was.
fn assert_ends_in(place: &Place, run: &str, whole: &[u8], lines: &[String]) {
    succeeded(place.command(TRAIN, &command(place, run)));
    assert!(place.weights(run) == whole, "other weights");
    assert_eq!(place.figures(run), lines);
    let left: Vec<_> =
        contents(&place.path(run)).into_keys().filter(|name| name.starts_with(".writing-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[cfg(unix)]
#[test]
fn whatever_happens_on_the_way_a_run_ends_in_the_same_bits() {
    let (rounds, seed) = (number("NIN_ROUNDS", 12), number("NIN_ROUNDS_SEED", 1));
    let (place, mut random) = (Place::new(), RandomStream::new(seed, 0, Purpose::Other(0), 0));
    let started = Instant::now();
    succeeded(place.train("whole", &RUN));
    let (whole, duration) = (place.weights("whole"), started.elapsed());
    let lines = place.figures("whole");
    assert_eq!(lines.len(), 18, "steps and epochs");
    let goes_on = |run: &str| place.command(TRAIN, &command(&place, run)).spawn().unwrap();
    let (mut killed, mut refused, mut raced, mut fooled) = (0, 0, 0, 0);
    for round in 0..rounds {
        println!("round {round}");
        let _ = fs::remove_dir_all(place.path("run"));
        for _ in 0..1 + random.below(4) {
            let micros = random.below(duration.as_micros() as u64 * 5 / 4);
            match random.below(4) {
                // Killed at any time.
                0 | 1 => {
                    let mut child = goes_on("run");
                    std::thread::sleep(Duration::from_micros(micros));
                    child.kill().unwrap();
                    killed += i32::from(end(child, &[]).is_some());
                }
                // No file may become larger than so many blocks: some do, or all, or none.
                2 => {
                    let blocks = [1, 4, 100, 500, 900, 1200][random.below(6) as usize];
                    let limit = format!("trap '' XFSZ; ulimit -f {blocks}");
                    let limited = place.after(&limit, TRAIN, &command(&place, "run")).spawn().unwrap();
                    refused += i32::from(end(limited, &[1]).is_some());
                }
                // Three at once, one of which is killed: each has the folder to itself, or has not.
                _ => {
                    let mut children: Vec<_> = (0..3).map(|_| goes_on("run")).collect();
                    std::thread::sleep(Duration::from_micros(micros / 2));
                    children[random.below(3) as usize].kill().unwrap();
                    raced += children.into_iter().filter_map(|child| end(child, &[2])).count();
                }
            }
        }
        // A copy of what is there is spoiled: it ends in the same bits, or is refused.
        if place.path("run/config.toml").exists() {
            let _ = fs::remove_dir_all(place.path("fooled"));
            copy(&place.path("run"), &place.path("fooled"));
            // The settings are the user's to change, and the best weights are looked at by those who read them.
            let names =
                ["checkpoint.safetensors", "model.safetensors", "metrics.jsonl", "data.json", ".lock"];
            let name = names[random.below(5) as usize];
            spoil(&place.path("fooled").join(name), &mut random);
            let ended = end(goes_on("fooled"), &[1, 2]);
            fooled += i32::from(ended.is_some());
            let same = || place.weights("fooled") == whole && place.figures("fooled").len() == lines.len();
            assert!(ended.is_some() || same(), "fooled by {name}");
        }
        assert_ends_in(&place, "run", &whole, &lines);
    }
    assert!(killed > 0 || rounds < 12, "every run was over before it could be killed");
    println!(
        "{rounds} rounds: {killed} runs were killed, {refused} had no room, {raced} lost a race, {fooled} refused a spoiled file"
    );
}

/// `nin` with its dropout, killed between the first steps, in the second epoch and in the third.
#[test]
fn a_run_that_is_killed_between_steps_ends_in_the_same_bits() {
    let (place, more) = (Place::of_nin(), &RUN[2..]);
    succeeded(place.train("whole", more));
    let (whole, figures) = (place.weights("whole"), place.figures("whole"));
    for lines in [1, 7, 13] {
        let run = format!("killed-{lines}");
        let mut child = place.train(&run, more).spawn().unwrap();
        let found = place.wait_for_lines(&run, lines);
        child.kill().unwrap();
        assert!(end(child, &[]).is_some() && found < figures.len(), "over before it was killed: {found}");
        assert_ends_in(&place, &run, &whole, &figures);
    }
}

/// A small file system that is almost full, where one may be made.
#[cfg(target_os = "linux")]
#[test]
fn a_file_system_that_is_full_costs_nothing() {
    let (place, mut random) = (Place::new(), RandomStream::new(7, 0, Purpose::Other(0), 0));
    let disk = place.path("disk");
    fs::create_dir(&disk).unwrap();
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=3m", "none"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        println!("skipped: no file system can be mounted here");
        return;
    }
    let filled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        succeeded(place.train("whole", &RUN));
        let whole = place.weights("whole");
        let lines = place.figures("whole");
        let mut refused = 0;
        for _ in 0..number("NIN_ROUNDS", 12).div_ceil(3) {
            let _ = fs::remove_dir_all(place.path("disk/run"));
            // What is left for the run, in KiB: it needs some 1,500.
            let room = 200 + random.below(1500);
            fs::write(place.path("disk/filler"), vec![0; 1024 * (3072 - room as usize)]).unwrap();
            let child = place.command(TRAIN, &command(&place, "disk/run")).spawn().unwrap();
            refused += i32::from(end(child, &[1]).is_some());
            fs::remove_file(place.path("disk/filler")).unwrap();
            assert_ends_in(&place, "disk/run", &whole, &lines);
        }
        assert!(refused > 0, "the file system was never full");
    }));
    assert!(Command::new("umount").arg(&disk).status().unwrap().success());
    if let Err(panic) = filled {
        std::panic::resume_unwind(panic);
    }
}
