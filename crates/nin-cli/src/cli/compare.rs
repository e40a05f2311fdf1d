//! `nin compare`: networks side by side, by their size, their speed on this machine and what their runs came to.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use nin::data::HoldOut;
use nin::models::{Head, Model};
use nin::names::{ParseError, quoted};
use nin::nn::parameter_count;
use nin::summary::{Work, layers};
use nin::train::{EpochMetrics, Overrides, Settings, TrainError};
use serde::Deserialize;

use super::bench::BATCH;
use super::data::DataArgs;
use super::eval::{OpenRun, accuracy};
use super::figures::{TEST_ACC, TRAIN_ACC, four};
use super::flags::some_settings;
use super::network::network;
use super::runs::read_epochs;
use super::settings::{convolution, of_run};
use super::table::{Table, grouped};
use super::{FolderArgs, SecondsArgs, ThreadArgs, check_file, log, print, write_file};

/// Networks side by side: parameters, work, speed and memory on this machine, and the accuracies of finished runs.
///
/// Each network trains and infers on random images in a process of its own, so that its peak memory is its own. The training
/// accuracy of a run is the one its last epoch wrote down, measured while training, with dropout on; --evaluate measures it
/// anew with the final weights, as the test accuracy is measured. Networks are for one channel and ten classes. Without flags
/// those asked for by name have the size that they were made for (those of runs keep their own), and a step has 32 images.
#[derive(Debug, Args)]
#[command(mut_arg("data_dir", |flag| flag.requires("evaluate")), after_help = "Examples:
  nin compare                                               every network, as it was made
  nin compare nin-d2l alexnet vgg11 --batch-size 64
  nin compare --run runs/gap --run runs/fc --no-speed       what two runs came to
  nin compare nin-cifar nin-cifar:fc --output runs/heads")]
pub(super) struct CompareArgs {
    /// Networks, NAME or NAME:HEAD such as nin-cifar:fc [default: those of the runs, or all]
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    /// Folder of a finished run, as often as there are runs
    #[arg(long = "run", value_name = "DIR")]
    runs: Vec<PathBuf>,
    /// Evaluate each run's weights on its training and test images instead of reading the accuracies that it wrote down
    #[arg(long, requires = "runs")]
    evaluate: bool,
    #[command(flatten)]
    folder: FolderArgs,
    #[command(flatten)]
    measured: MeasuredFlags,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    seconds: SecondsArgs,
    /// Do not measure speed and memory
    #[arg(long, conflicts_with_all = ["batch_size", "seconds"])]
    no_speed: bool,
    /// Files for the table: PATH.md and PATH.csv
    #[arg(long, value_name = "PATH", default_value = "runs/compare")]
    output: PathBuf,
}

some_settings! {
    /// Flags for the settings that a measurement depends on.
    MeasuredFlags: "image_size", "batch_size"
}

impl CompareArgs {
    /// Images of a step.
    fn batch(&self) -> usize {
        self.measured.0.batch_size.unwrap_or(BATCH)
    }
}

/// A network at a size: what a row is about.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Subject {
    model: Model,
    head: Option<Head>,
    side: usize,
}

/// A row: a network, and a run of it if there is one.
#[derive(Debug)]
struct Row {
    subject: Subject,
    parameters: usize,
    /// Of one image's forward pass.
    gflop: f64,
    speed: Option<Speed>,
    run: Option<Run>,
}

impl Row {
    /// A row without a measurement.
    fn new(subject: Subject, run: Option<Run>) -> Result<Self, TrainError> {
        let Subject { model, head, side } = subject;
        let network = network(model, head, [1, side, side], 10)?;
        let work = Work::of(&layers(&network, [1, 1, side, side].into())?);
        let (parameters, gflop) = (parameter_count(&network), work.forward as f64 / 1e9);
        Ok(Self { subject, parameters, gflop, speed: None, run })
    }

    /// A cell about the speed, if it was measured.
    fn speed(&self, cell: fn(&Speed) -> String) -> String {
        self.speed.as_ref().map(cell).unwrap_or_default()
    }

    /// A cell about the run, if there is one.
    fn run(&self, cell: fn(&Run) -> String) -> String {
        self.run.as_ref().map(cell).unwrap_or_default()
    }
}

/// A finished run, as far as it is shown.
#[derive(Debug)]
struct Run {
    path: PathBuf,
    recipe: String,
    data: String,
    last: EpochMetrics,
}

/// Measurements of a subject.
#[derive(Debug, Clone)]
struct Speed {
    train: BenchReport,
    infer: BenchReport,
}

/// The part of `nin bench --json` that is read.
#[derive(Debug, Clone, Deserialize)]
struct BenchReport {
    images_per_s: f64,
    peak_rss_mib: Option<f64>,
}

/// A column's cell of a row.
type Cell = fn(&Row) -> String;

/// The columns.
const COLUMNS: [(&str, Cell); 15] = [
    ("network", |row| name(row.subject)),
    ("pixels", |row| row.subject.side.to_string()),
    ("parameters", |row| grouped(row.parameters)),
    ("GFLOP", |row| format!("{:.3}", row.gflop)),
    ("train images/s", |row| row.speed(|speed| rate(speed.train.images_per_s))),
    ("infer images/s", |row| row.speed(|speed| rate(speed.infer.images_per_s))),
    ("train MiB", |row| row.speed(|speed| mib(&speed.train))),
    ("infer MiB", |row| row.speed(|speed| mib(&speed.infer))),
    ("recipe", |row| row.run(|run| run.recipe.clone())),
    ("data", |row| row.run(|run| run.data.clone())),
    ("epochs", |row| row.run(|run| run.last.epoch.to_string())),
    ("train acc", |row| row.run(|run| TRAIN_ACC.text(&run.last))),
    ("test acc", |row| row.run(|run| TEST_ACC.text(&run.last))),
    ("gap", |row| {
        row.run(|run| four(run.last.train_acc.zip(run.last.test_acc).map(|(train, test)| train - test)))
    }),
    ("run", |row| row.run(|run| run.path.display().to_string())),
];

/// Runs `nin compare`.
pub(super) fn compare(args: &CompareArgs) -> Result<(), TrainError> {
    let threads = args.threads.read()?;
    args.seconds.read()?;
    // All networks are built before the first is measured, so that a mistake is told at once, as is a place for no file.
    let mut rows = rows(args)?;
    let [markdown, csv] = ["md", "csv"].map(|kind| args.output.with_added_extension(kind));
    check_file(&markdown)?;
    check_file(&csv)?;
    if args.evaluate {
        let (conv, data) = (convolution(None)?, DataArgs::of(&args.folder));
        for Run { path, last, .. } in rows.iter_mut().filter_map(|row| row.run.as_mut()) {
            let run = OpenRun::new(path, None, conv, &data, threads)?;
            for (on, found) in [("train", &mut last.train_acc), ("test", &mut last.test_acc)] {
                log(&format!("evaluating {}, {on} images", path.display()));
                *found = Some(accuracy(&run.judge(on)?.confusion()));
            }
        }
    }
    for at in 0..if args.no_speed { 0 } else { rows.len() } {
        let subject = rows[at].subject;
        let known = rows[..at].iter().find(|row| row.subject == subject).and_then(|row| row.speed.clone());
        rows[at].speed = Some(known.map_or_else(|| measure(subject, args, threads), Ok)?);
    }
    let mut table = Table::new(COLUMNS.map(|(heading, _)| heading));
    for row in &rows {
        table.push(COLUMNS.iter().map(|(_, cell)| cell(row)).collect());
    }
    let note = note(args, threads);
    // Neither is lost with the other.
    let printed = print(&format!("{}{note}\n", table.text()));
    write_file(&markdown, &format!("{}\n{note}\n", table.markdown()))?;
    write_file(&csv, &table.csv())?;
    printed?;
    print_line!("written to {} and {}", markdown.display(), csv.display());
    Ok(())
}

/// The meaning of the columns, in a sentence each.
fn note(args: &CompareArgs, threads: usize) -> String {
    let mut note = "GFLOP: one image's forward pass.".to_owned();
    if !args.no_speed {
        note += &format!(
            " Images per second and peak memory: batch {}, {threads} threads, {} s for each network and task, each in a process \
             of its own.",
            args.batch(),
            args.seconds.seconds
        );
    }
    if !args.runs.is_empty() {
        note += if args.evaluate {
            " Accuracies: the final weights, without dropout and variations."
        } else {
            " Train acc: of the last epoch, measured while training, with dropout."
        };
        note += " Gap: train acc less test acc.";
    }
    note
}

/// The networks asked for, each with its runs; then the runs of others.
fn rows(args: &CompareArgs) -> Result<Vec<Row>, TrainError> {
    let mut runs = Vec::new();
    for path in &args.runs {
        let (settings, last) = finished(path)?;
        let (model, head) = (settings.model, other_head(settings.head));
        let subject = Subject { model, head, side: settings.image_size };
        let data = match settings.hold_out {
            HoldOut::Last(0) => settings.dataset.to_string(),
            images => format!("{} ({images} held out)", settings.dataset),
        };
        let run = Run { path: path.clone(), recipe: settings.recipe.to_string(), data, last };
        runs.push(Row::new(subject, Some(run))?);
    }
    let mut names = args.networks.clone();
    if names.is_empty() && runs.is_empty() {
        names = Model::ALL.map(|model| model.to_string()).to_vec();
    }
    let mut rows = Vec::new();
    for name in &names {
        let (model, head) = parse(name)?;
        let of = |row: &Row| row.subject.model == model && row.subject.head == head;
        let own: Vec<Row> = runs.extract_if(.., |row| of(row)).collect();
        if own.is_empty() {
            let side = args.measured.0.image_size.unwrap_or_else(|| model.default_image_size());
            rows.push(Row::new(Subject { model, head, side }, None)?);
        }
        rows.extend(own);
    }
    rows.extend(runs);
    Ok(rows)
}

/// The settings of a finished run and the figures of its last epoch.
fn finished(path: &Path) -> Result<(Settings, EpochMetrics), TrainError> {
    let settings = of_run(path, &Overrides::default())?;
    let epochs = read_epochs(path)?;
    let best = EpochMetrics::best(&epochs).map(|best| best.epoch);
    let last = epochs.last().copied();
    match last {
        Some(last) if settings.is_over(last.epoch, best) => Ok((settings, last)),
        _ => {
            let (made, all) = (last.map_or(0, |last| last.epoch), settings.epochs);
            let done = format!("the run is not finished, {made} of {all} epochs are trained");
            let way = format!("go on with it: nin train --resume {}", quoted(path));
            Err(TrainError::of(path, format!("{done} ({way})")))
        }
    }
}

/// Reads `NAME` or `NAME:HEAD`.
fn parse(text: &str) -> Result<(Model, Option<Head>), TrainError> {
    let (name, head) = text.split_once(':').map_or((text, None), |(name, head)| (name, Some(head)));
    let refuse = |error: ParseError| match head {
        Some(_) => TrainError::Config(format!("network {text:?}: {error}")),
        None => TrainError::Config(error.to_string()),
    };
    let parsed = head.map(str::parse).transpose().map_err(refuse)?;
    Ok((name.parse().map_err(refuse)?, other_head(parsed)))
}

/// A head that is not the networks' own end: `nin:gap` is `nin`.
fn other_head(head: Option<Head>) -> Option<Head> {
    head.filter(|&head| head != Head::Gap)
}

fn measure(subject: Subject, args: &CompareArgs, threads: usize) -> Result<Speed, TrainError> {
    let task = |task| bench(subject, task, args, threads);
    Ok(Speed { train: task("train")?, infer: task("infer")? })
}

/// Runs `nin bench` in a process of its own.
fn bench(
    subject: Subject,
    task: &str,
    args: &CompareArgs,
    threads: usize,
) -> Result<BenchReport, TrainError> {
    let name = name(subject);
    let program = std::env::current_exe().map_err(TrainError::io(Path::new("nin"), "find this program"))?;
    let mut command = Command::new(&program);
    command.args(["bench", "--json", "--task", task, "--model", &subject.model.to_string()]);
    command.args(["--image-size", &subject.side.to_string(), "--batch-size", &args.batch().to_string()]);
    command.args(["--threads", &threads.to_string(), "--seconds", &args.seconds.seconds.to_string()]);
    if let Some(head) = subject.head {
        command.args(["--head", &head.to_string()]);
    }
    log(&format!("measuring {name} at {side} x {side}, {task}", side = subject.side));
    let output = command.stderr(Stdio::piped()).output().map_err(TrainError::io(&program, "start"))?;
    let failed = |why: &str| TrainError::Config(format!("{name}, {task}: {why}"));
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = stderr.trim().strip_prefix("error: ").unwrap_or(stderr.trim());
        return Err(failed(if why.is_empty() { "the measuring process died" } else { why }));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| failed(&format!("no report: {error}")))
}

fn name(subject: Subject) -> String {
    let head = subject.head.map_or(String::new(), |head| format!(":{head}"));
    format!("{}{head}", subject.model)
}

/// Images per second: whole from a thousand on, where tenths are noise.
fn rate(images_per_s: f64) -> String {
    let decimals = usize::from(images_per_s < 1000.0);
    format!("{images_per_s:.decimals$}")
}

fn mib(report: &BenchReport) -> String {
    report.peak_rss_mib.map_or(String::new(), |mib| format!("{mib:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_above_a_thousand_have_no_decimals() {
        assert_eq!([72.04, 999.94, 15_222.6, 43_486.2].map(rate), ["72.0", "999.9", "15223", "43486"]);
    }

    #[test]
    fn networks_are_read_with_their_heads() {
        assert_eq!(parse("vgg11").unwrap(), (Model::Vgg11, None));
        assert_eq!(parse("nin:gap").unwrap(), parse("nin").unwrap());
        assert_eq!(parse("nin-cifar:fc-dropout").unwrap(), (Model::NinCifar, Some(Head::FcDropout)));
        let refused = |text| parse(text).unwrap_err().to_string();
        assert!(refused("resnet").starts_with("no network \"resnet\"; there are: nin, nin-d2l"));
        assert!(refused("nin:mlp").starts_with("network \"nin:mlp\": no head \"mlp\""));
    }
}
