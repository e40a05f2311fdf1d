//! `train --seeds`: the same run with one seed after the other, and how far its accuracies lie apart.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Args;
use nin::data::DataRecord;
use nin::disk::{FolderLock, exists, make_new_folder, read_if_there};
use nin::names::quoted;
use nin::train::{EpochMetrics, Outcome, Overrides, Position, RunDir, Settings, TrainError, Trainer};

use super::data::{Data, data};
use super::figures::{TRAIN_ACC, TRAIN_LOSS, named};
use super::progress::Display;
use super::run_name::default_run_dir;
use super::runs::spread;
use super::settings::of_run;
use super::train::{TrainArgs, announce, begin};
use super::{signals, write_file};

/// Many seeds.
#[derive(Debug, Args)]
pub(super) struct SeedsArgs {
    /// Once with each of these seeds, such as 0..20 (0 to 19)
    #[arg(long, value_name = "FROM..TO", value_parser = parse)]
    pub(super) seeds: Option<Range<u64>>,
}

/// The most seeds of one command.
const MOST: u64 = 10_000;

/// The ending of one seed.
#[derive(Debug, Clone)]
enum Ending {
    /// All epochs were trained; the figures of the last, and whether an earlier command trained them.
    Finished(EpochMetrics, bool),
    /// The loss or the weights were no longer numbers.
    Diverged(String),
    /// A limit of the command was reached.
    Stopped(u64),
    /// Ctrl-C, at this step.
    Interrupted(u64),
}

/// Trains with each of these seeds, in a folder of its own below the run folder. A seed that is finished is not trained
/// again, one that was stopped goes on.
///
/// # Errors
/// [`TrainError`] if a setting cannot work, or a run fails otherwise than by diverging.
pub(super) fn train_each(
    seeds: Range<u64>,
    args: &TrainArgs,
    threads: usize,
    interrupt: &AtomicBool,
) -> Result<ExitCode, TrainError> {
    let settings = args.settings()?;
    let data = data(&settings, &args.data, threads)?;
    let name = format!("{}-seeds", settings.model);
    let folder = args.run_dir.clone().map_or_else(|| default_run_dir(&name), Ok)?;
    let made = make_new_folder(&folder)? || args.run_dir.is_none();
    // `seeds.csv` has one owner, too.
    let lock = FolderLock::take(&folder)?;
    let mut endings: Vec<(u64, Ending)> = Vec::new();
    for seed in seeds.clone() {
        let settings = Settings { seed, ..settings.clone() };
        let started = Instant::now();
        let (own, first) = (folder.join(format!("seed-{seed}")), seed == seeds.start);
        let ending = match train_seed(threads, settings, args, &data, &own, first, interrupt) {
            Err(error) if made && first => {
                // What was refused at once leaves no folder: it goes if it is empty.
                drop(lock);
                let _ = std::fs::remove_dir(&folder);
                return Err(error);
            }
            ending => ending?,
        };
        print_line!("seed {seed}: {}", describe(&ending, started.elapsed().as_secs_f64()));
        let interrupted = matches!(ending, Ending::Interrupted(_));
        endings.push((seed, ending));
        write_table(&folder, &endings)?;
        if interrupted {
            print_line!(
                "go on with the same command and --run-dir {}; {} of {} seeds are left",
                quoted(&folder),
                seeds.end - seed,
                seeds.end - seeds.start,
            );
            return Ok(signals::interrupted());
        }
    }
    print_line!("{}; the runs are in {}", summary(&endings), folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Reads `FROM..TO`, without TO.
///
/// # Errors
/// The form that was expected and the text that was found.
pub fn parse(range: &str) -> Result<Range<u64>, String> {
    let ends = range.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    match ends {
        Some((from, to)) if from < to && to - from <= MOST => Ok(from..to),
        _ => Err(format!(
            "expected FROM..TO with FROM below TO and at most {MOST} seeds, such as 0..20, found {range:?}"
        )),
    }
}

/// Trains with one seed in its folder, unless it is finished.
fn train_seed(
    threads: usize,
    settings: Settings,
    args: &TrainArgs,
    (splits, record): &Data,
    folder: &Path,
    first: bool,
    interrupt: &AtomicBool,
) -> Result<Ending, TrainError> {
    let (mut run, mut trainer) = if exists(&folder.join("config.toml"))? {
        let (mut run, checkpoint) = RunDir::open(folder)?;
        refuse_other_settings(folder, &settings)?;
        refuse_other_data(folder, record)?;
        let Position { epoch, best, .. } = checkpoint.position;
        let over = settings.is_over(epoch, best.map(|best| best.epoch));
        if let (true, Some(metrics)) = (over, RunDir::read_epochs(folder)?.last()) {
            run.repair(&checkpoint)?;
            return Ok(Ending::Finished(*metrics, true));
        }
        let trainer = Trainer::resumed(settings, splits.clone(), threads, checkpoint, folder)?;
        (run.with_data(record.clone()), trainer)
    } else {
        begin(settings, (splits.clone(), record.clone()), args, threads, Some(folder))?
    };
    if first {
        announce(&trainer, folder, threads)?;
    }
    let name = format!("seed {}, ", trainer.settings().seed);
    let display = Display::new(&trainer, folder, &name, args.display)?;
    match display.train(&mut trainer, &mut run, interrupt, threads, |_| ()) {
        Ok(Outcome::Finished(metrics)) => Ok(Ending::Finished(metrics, false)),
        Ok(Outcome::Stopped) => Ok(Ending::Stopped(trainer.position().step)),
        Ok(Outcome::Interrupted) => Ok(Ending::Interrupted(trainer.position().step)),
        Err(error @ TrainError::Diverged { .. }) => Ok(Ending::Diverged(error.to_string())),
        Err(error) => Err(error),
    }
}

/// A folder of another experiment must not be mixed into this one. Limits are the command's, not the run's.
fn refuse_other_settings(folder: &Path, asked: &Settings) -> Result<(), TrainError> {
    let same = Overrides { checkpoint_minutes: Some(asked.checkpoint_minutes), ..Overrides::default() };
    let (found, asked) = (of_run(folder, &Overrides::default())?.under(&same), asked.clone().under(&same));
    if found == asked {
        return Ok(());
    }
    let (found, asked) = (found.to_toml(), asked.to_toml());
    let missing = |from: &str, of: &str| {
        of.lines().find(|line| !from.lines().any(|own| own == *line)).map(str::to_owned)
    };
    let other = missing(&asked, &found).or_else(|| missing(&found, &asked).map(|line| format!("no {line}")));
    let other = other.unwrap_or_default();
    Err(TrainError::of(folder, format!("a run with other settings ({other}); name another --run-dir")))
}

/// Nor must one of other data.
fn refuse_other_data(folder: &Path, asked: &DataRecord) -> Result<(), TrainError> {
    match DataRecord::read(folder)? {
        Some(found) if !found.same_data(asked) => Err(TrainError::of(
            folder,
            format!("a run made of {found}, asked for {asked}; name another --run-dir"),
        )),
        _ => Ok(()),
    }
}

fn describe(ending: &Ending, seconds: f64) -> String {
    match ending {
        Ending::Finished(last, before) => {
            let when =
                if *before { "finished before".to_owned() } else { format!("{:.1} min", seconds / 60.0) };
            let dead = match last.dead_maps {
                0 => String::new(),
                dead => format!("{dead} class maps dead, "),
            };
            format!("{}, {}, {dead}{when}", last.score(), named(&[TRAIN_ACC, TRAIN_LOSS], last))
        }
        Ending::Diverged(error) => error.clone(),
        Ending::Stopped(step) => format!("stopped after step {step} as asked"),
        Ending::Interrupted(step) => format!("interrupted after step {step}, saved"),
    }
}

/// `seeds.csv`: a line for each seed, those of earlier commands included.
fn write_table(folder: &Path, endings: &[(u64, Ending)]) -> Result<(), TrainError> {
    let path = folder.join("seeds.csv");
    let before = read_if_there(&path)?.unwrap_or_default();
    let before = String::from_utf8_lossy(&before);
    let known =
        before.lines().filter_map(|line| Some((line.split(',').next()?.parse().ok()?, line.to_owned())));
    let mut lines: BTreeMap<u64, String> = known.collect();
    lines.extend(endings.iter().map(|(seed, ending)| (*seed, table_line(*seed, ending))));
    let mut text = "seed,ending,train_loss,train_acc,test_acc,dead_maps\n".to_owned();
    for line in lines.values() {
        text += line;
        text.push('\n');
    }
    write_file(&path, &text)
}

fn table_line(seed: u64, ending: &Ending) -> String {
    match ending {
        Ending::Finished(last, _) => {
            let EpochMetrics { train_loss, train_acc, test_acc, dead_maps, .. } = last;
            let [train_acc, test_acc] =
                [train_acc, test_acc].map(|acc| acc.map_or_else(String::new, |acc| acc.to_string()));
            format!("{seed},finished,{train_loss},{train_acc},{test_acc},{dead_maps}")
        }
        Ending::Diverged(_) => format!("{seed},diverged,,,,"),
        Ending::Stopped(_) | Ending::Interrupted(_) => format!("{seed},stopped,,,,"),
    }
}

/// The smallest, the middle and the largest test accuracy of the finished seeds, and which seeds diverged.
fn summary(endings: &[(u64, Ending)]) -> String {
    let (mut finished, mut diverged) = (Vec::new(), Vec::new());
    for (seed, ending) in endings {
        match ending {
            Ending::Finished(last, _) => finished.push(last),
            Ending::Diverged(_) => diverged.push(seed.to_string()),
            Ending::Stopped(_) | Ending::Interrupted(_) => {}
        }
    }
    let mut text = format!("{} of {} seeds finished", finished.len(), endings.len());
    let accuracies: Vec<f64> = finished.iter().filter_map(|last| last.test_acc).collect();
    if !accuracies.is_empty() {
        text += &format!(": {}", spread(accuracies));
    }
    if !diverged.is_empty() {
        text += &format!("; diverged: {}", diverged.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::figures::tests::epoch;

    fn finished(test_acc: f64) -> Ending {
        Ending::Finished(epoch(2, test_acc, 2), false)
    }

    #[test]
    fn ranges() {
        assert_eq!(parse("3..6").unwrap(), 3..6);
        for range in ["3", "..", "3..", "..3", "3..3", "5..3", "0..10001", "-1..2", "0..=2"] {
            let error = parse(range).unwrap_err();
            assert!(error.starts_with("expected FROM..TO") && error.contains(range), "{error}");
        }
    }

    #[test]
    fn the_spread_is_of_the_finished_seeds() {
        let mut endings = vec![(0, finished(0.5)), (1, finished(0.1)), (2, finished(0.875))];
        assert_eq!(
            summary(&endings),
            "3 of 3 seeds finished: test acc min 0.1000, median 0.5000, max 0.8750"
        );
        endings.push((3, finished(0.6)));
        endings.push((4, Ending::Diverged("diverged".to_owned())));
        assert_eq!(
            summary(&endings),
            "4 of 5 seeds finished: test acc min 0.1000, median 0.5500, max 0.8750; diverged: 4"
        );
        assert_eq!(summary(&[(7, Ending::Stopped(3))]), "0 of 1 seeds finished");
    }

    #[test]
    fn the_table_has_a_line_for_each_seed() {
        let folder = tempfile::tempdir().unwrap();
        let endings = [(4, finished(0.5)), (5, Ending::Diverged(String::new())), (6, Ending::Stopped(3))];
        write_table(folder.path(), &endings).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path().join("seeds.csv")).unwrap(),
            "seed,ending,train_loss,train_acc,test_acc,dead_maps\n4,finished,0.5,0.75,0.5,2\n5,diverged,,,,\n6,stopped,,,,\n"
        );
        // Another range later: its lines come in, newer ones win.
        write_table(folder.path(), &[(3, finished(0.25)), (6, finished(0.5))]).unwrap();
        assert_eq!(
            std::fs::read_to_string(folder.path().join("seeds.csv")).unwrap(),
            "seed,ending,train_loss,train_acc,test_acc,dead_maps\n3,finished,0.5,0.75,0.25,2\n4,finished,0.5,0.75,0.5,2\n\
             5,diverged,,,,\n6,finished,0.5,0.75,0.5,2\n"
        );
    }
}
