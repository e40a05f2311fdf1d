//! `nin plot`: many runs in one picture.

use std::path::{Path, PathBuf};

use clap::Args;
use nin::disk;
use nin::names::{count_of, shown};
use nin::train::{EpochMetrics, TrainError};

use super::figures::TEST_ACC;
use super::runs::{Group, counted, groups, read_epochs, spread};
use super::{PictureArgs, check_file, log, print, write_file};
use crate::chart::{BarChart, Panel, write_panels};

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
    if let Some(file) = &args.bars {
        let bars: BarChart = serde_json::from_slice(&disk::read(file)?)
            .map_err(|error| disk::content(file, format!("no chart of bars: {error}")))?;
        write_file(path, &bars.svg())?;
        print_line!("the picture is {}", path.display());
        return Ok(());
    }
    let groups = groups(&args.folders, "metrics.jsonl")?;
    let all = groups.into_iter().zip(&args.folders).map(|(group, folder)| Finished::of(group, folder));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    // Before anything is printed, but after the runs: the folder of the picture is made for runs that are there.
    check_file(path)?;
    let printed = print(&all.iter().map(Finished::line).collect::<String>());
    let names: Vec<String> = all.iter().map(Finished::counted).collect();
    write_panels(path, &names, &panels(&all))?;
    printed?;
    print_line!("the picture is {}", path.display());
    Ok(())
}

/// The epochs of each of a folder's runs that has some with test accuracies.
struct Finished {
    name: String,
    runs: Vec<Vec<EpochMetrics>>,
}

impl Finished {
    fn of(Group { name, runs: folders }: Group, folder: &Path) -> Result<Self, TrainError> {
        let (mut runs, mut left_out) = (Vec::new(), Vec::new());
        for run in &folders {
            let epochs = read_epochs(run)?;
            match epochs.last() {
                None => left_out.push((run, "no epoch is finished")),
                Some(last) if last.test_acc.is_none() => {
                    left_out.push((run, "no test accuracy: its data have no classes"));
                }
                Some(_) => runs.push(epochs),
            }
        }
        for (run, why) in left_out {
            if runs.is_empty() {
                return Err(TrainError::of(folder, why));
            }
            log(&format!("warning: {} is left out: {why}", run.display()));
        }
        Ok(Self { name, runs })
    }

    /// The name in the legend.
    fn counted(&self) -> String {
        counted(&self.name, self.runs.len(), "runs")
    }

    fn last_epochs(&self) -> impl Iterator<Item = &EpochMetrics> {
        self.runs.iter().filter_map(|run| run.last())
    }

    /// The smallest, the middle and the largest of the last accuracies, and how many runs ended with dead class maps.
    fn line(&self) -> String {
        let accuracies = self.last_epochs().filter_map(|epoch| epoch.test_acc).collect();
        let dead = self.last_epochs().filter(|epoch| epoch.dead_maps > 0).count();
        let (name, runs) = (shown(&self.name), count_of(self.runs.len() as u64, "run"));
        format!("{name}: {runs}, {}; {dead} with dead class maps\n", spread(accuracies))
    }
}

fn panels(all: &[Finished]) -> [Panel; 2] {
    let by_epoch = |own: &Finished| own.runs.iter().map(|run| TEST_ACC.curve(run)).collect();
    let at_end = |(column, own): (usize, &Finished)| {
        let last = own.last_epochs().filter_map(|epoch| epoch.test_acc);
        let dot = |(index, test_acc)| {
            // Beside one another, so that equal accuracies do not hide each other.
            let aside = (f64::from(index) + 0.5) / own.runs.len() as f64 - 0.5;
            vec![(column as f64 + 0.5 * aside, test_acc)]
        };
        (0..).zip(last).map(dot).collect()
    };
    let panel = |title: &str, across: &str, names, groups| Panel {
        title: title.to_owned(),
        across: across.to_owned(),
        names,
        range: Some((0.0, 1.0)),
        groups,
        ..Panel::default()
    };
    let columns = all.iter().map(|own| own.name.clone()).collect();
    [
        panel("test accuracy by epoch", "epoch", Vec::new(), all.iter().map(by_epoch).collect()),
        panel(
            "test accuracy after the last epoch",
            "",
            columns,
            all.iter().enumerate().map(at_end).collect(),
        ),
    ]
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
        let runs = vec![run(&[0.9, 0.25], 0), run(&[0.1, 0.75], 2), run(&[0.1, 0.5], 0)];
        assert_eq!(
            Finished { name: "own".to_owned(), runs }.line(),
            "own: 3 runs, test acc min 0.2500, median 0.5000, max 0.7500; 1 with dead class maps\n"
        );
    }

    #[test]
    fn a_line_for_each_run_and_a_dot_for_its_end() {
        let finished = |name: &str, runs| Finished { name: name.to_owned(), runs };
        let all = [
            finished("chapter", vec![run(&[0.1, 0.2], 0); 3]),
            finished("robust", vec![run(&[0.5, 0.75], 0)]),
        ];
        let [by_epoch, at_end] = panels(&all);
        assert_eq!(by_epoch.groups[0], vec![vec![(1.0, 0.1), (2.0, 0.2)]; 3]);
        assert_eq!(at_end.groups[0].len(), 3);
        assert_eq!(at_end.groups[1], [[(1.0, 0.75)]]);
        assert!(at_end.groups[0].iter().all(|dot| dot[0].0.abs() < 0.5 && dot[0].1 == 0.2));
        assert_eq!(all.map(|own| own.counted()), ["chapter (3 runs)", "robust"]);
    }
}
