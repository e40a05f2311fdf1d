//! `nin plot`: many runs in one picture.

use std::path::{Path, PathBuf};

use clap::Args;
use nin::disk::{self, FileError};
use nin::names::shown;
use nin::train::{EpochMetrics, TrainError};

use super::runs::{Group, groups, read_epochs, spread};
use super::{PictureArgs, check_file, log, print, write_file};
use crate::chart::{BarChart, Line, Panel, write_panels};

/// Test accuracies of many runs in one picture: by epoch, and at the end.
///
/// A folder is that of a run, or that of `nin train --seeds` with a run for each seed. Each folder has a color of its own. Only
/// metrics.jsonl is read, so that the folders need no weights.
#[derive(Debug, Args)]
#[command(mut_arg("picture", |flag| flag.default_value("runs/accuracy.svg").alias("output")), after_help = "Examples:
  nin plot runs/chapter runs/robust               two recipes, a line for each seed
  nin plot runs/chapter --picture docs/chapter.svg
  nin plot --bars speeds.json --picture speeds.svg")]
pub(super) struct PlotArgs {
    /// Folder of a run, or of one run for each seed
    #[arg(value_name = "DIR", required_unless_present = "bars")]
    folders: Vec<PathBuf>,
    /// Draw bars instead, of a JSON file: { "title", "note", "groups": [{ "title", "bars": [{ "name", "value", "label",
    /// "kind": "ours", "own", "peer" or "inexact" }] }] }
    #[arg(long, value_name = "FILE", conflicts_with = "folders")]
    bars: Option<PathBuf>,
    #[command(flatten)]
    picture: PictureArgs,
}

/// Runs `nin plot`.
pub(super) fn plot(args: &PlotArgs) -> Result<(), TrainError> {
    let path = args.picture.picture.as_ref().expect("there is a default");
    check_file(path)?;
    if let Some(file) = &args.bars {
        let bars: BarChart = serde_json::from_slice(&disk::read(file)?).map_err(|error| {
            FileError::Content { path: file.clone(), reason: format!("no chart of bars: {error}") }
        })?;
        write_file(path, &bars.svg())?;
        print_line!("the picture is {}", path.display());
        return Ok(());
    }
    let groups = groups(&args.folders, "metrics.jsonl")?;
    let mut runs = Vec::new();
    for (group, folder) in groups.iter().zip(&args.folders) {
        runs.push(finished(group, folder)?);
    }
    let line = |(group, runs): (&Group, &Vec<_>)| format!("{}: {}\n", shown(&group.name), describe(runs));
    let printed = print(&groups.iter().zip(&runs).map(line).collect::<String>());
    write_panels(path, &names(&groups, &runs), &panels(&groups, &runs))?;
    printed?;
    print_line!("the picture is {}", path.display());
    Ok(())
}

/// The epochs of those of a folder's runs that have one with a test accuracy.
fn finished(group: &Group, folder: &Path) -> Result<Vec<Vec<EpochMetrics>>, TrainError> {
    let runs = group.runs.iter().map(|run| read_epochs(run)).collect::<Result<Vec<_>, _>>()?;
    let lacks = |epochs: &Vec<EpochMetrics>| match epochs.last() {
        None => Some("no epoch is finished"),
        Some(last) if last.test_acc.is_none() => Some("no test accuracy: its data have no classes"),
        Some(_) => None,
    };
    if let Some(why) = runs.iter().map(lacks).reduce(Option::and).flatten() {
        return Err(TrainError::of(folder, why));
    }
    for (run, epochs) in group.runs.iter().zip(&runs) {
        if let Some(why) = lacks(epochs) {
            log(&format!("warning: {} is left out: {why}", run.display()));
        }
    }
    Ok(runs.into_iter().filter(|epochs| lacks(epochs).is_none()).collect())
}

/// The legend: each group with its number of runs.
fn names(groups: &[Group], runs: &[Vec<Vec<EpochMetrics>>]) -> Vec<String> {
    let name = |(group, runs): (&Group, &Vec<_>)| match runs.len() {
        1 => group.name.clone(),
        count => format!("{} ({count} runs)", group.name),
    };
    groups.iter().zip(runs).map(name).collect()
}

fn panels(groups: &[Group], runs: &[Vec<Vec<EpochMetrics>>]) -> [Panel; 2] {
    let by_epoch = |runs: &Vec<Vec<EpochMetrics>>| -> Vec<Line> {
        runs.iter()
            .map(|run| run.iter().filter_map(|epoch| Some((epoch.epoch as f64, epoch.test_acc?))).collect())
            .collect()
    };
    let at_end = |(column, runs): (usize, &Vec<Vec<EpochMetrics>>)| -> Vec<Line> {
        let last = runs.iter().filter_map(|run| run.last()?.test_acc);
        last.enumerate()
            .map(|(index, test_acc)| {
                // Beside one another, so that equal accuracies do not hide each other.
                let aside = (index as f64 + 0.5) / runs.len() as f64 - 0.5;
                vec![(column as f64 + 0.5 * aside, test_acc)]
            })
            .collect()
    };
    let panel = |title: &str, across: &str, names, groups| Panel {
        title: title.to_owned(),
        across: across.to_owned(),
        names,
        range: Some((0.0, 1.0)),
        groups,
        ..Panel::default()
    };
    let columns = groups.iter().map(|group| group.name.clone()).collect();
    [
        panel("test accuracy by epoch", "epoch", Vec::new(), runs.iter().map(by_epoch).collect()),
        panel(
            "test accuracy after the last epoch",
            "",
            columns,
            runs.iter().enumerate().map(at_end).collect(),
        ),
    ]
}

/// The smallest, the middle and the largest of the last accuracies, and how many runs ended with dead class maps.
fn describe(runs: &[Vec<EpochMetrics>]) -> String {
    let last: Vec<&EpochMetrics> = runs.iter().filter_map(|run| run.last()).collect();
    let accuracies = last.iter().filter_map(|epoch| epoch.test_acc).collect();
    let dead = last.iter().filter(|epoch| epoch.dead_maps > 0).count();
    format!("{} runs, {}; {dead} with dead class maps", last.len(), spread(accuracies))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::figures::tests::epoch;

    fn run(accuracies: &[f64], dead_maps: usize) -> Vec<EpochMetrics> {
        (1..).zip(accuracies).map(|(number, &accuracy)| epoch(number, accuracy, dead_maps)).collect()
    }

    #[test]
    fn the_last_epoch_counts() {
        let runs = [run(&[0.9, 0.25], 0), run(&[0.1, 0.75], 2), run(&[0.1, 0.5], 0)];
        assert_eq!(
            describe(&runs),
            "3 runs, test acc min 0.2500, median 0.5000, max 0.7500; 1 with dead class maps"
        );
    }

    #[test]
    fn a_line_for_each_run_and_a_dot_for_its_end() {
        let runs = vec![vec![run(&[0.1, 0.2], 0); 3], vec![run(&[0.5, 0.75], 0)]];
        let group = |name: &str| Group { name: name.to_owned(), runs: Vec::new() };
        let groups = [group("chapter"), group("robust")];
        let [by_epoch, at_end] = panels(&groups, &runs);
        assert_eq!(by_epoch.groups[0], vec![vec![(1.0, 0.1), (2.0, 0.2)]; 3]);
        assert_eq!(at_end.groups[0].len(), 3);
        assert_eq!(at_end.groups[1], [[(1.0, 0.75)]]);
        assert!(at_end.groups[0].iter().all(|dot| dot[0].0.abs() < 0.5 && dot[0].1 == 0.2));
        assert_eq!(names(&groups, &runs), ["chapter (3 runs)", "robust"]);
    }
}
