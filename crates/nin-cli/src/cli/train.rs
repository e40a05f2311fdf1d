//! `train`: one run from settings to a run folder.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{Arg, Args, Command, Id, Parser};
use nin::data::HoldOut;
use nin::names::{count_of, quoted};
use nin::nn::{parameter_count, parameters};
use nin::summary::{Work, layers};
use nin::train::{
    EpochMetrics, Outcome, Overrides, Recipe, RunDir, Settings, TrainError, Trainer, is_of_a_command,
};

use super::data::{Data, DataArgs, data, data_of_run};
use super::figures::{TRAIN_ACC, TRAIN_LOSS, named};
use super::flags::weights_file;
use super::progress::{Display, DisplayArgs};
use super::run_name::default_run_dir;
use super::seeds::train_each;
use super::settings::{convolution, of_run, resolve};
use super::{SeedsArgs, ThreadArgs, log, signals};

/// Train Network in Network on the CPU.
///
/// Without arguments it trains the article's network on the bundled Fashion-MNIST images and leaves a run folder with the
/// settings, the metrics, the weights and a picture of the curves. Settings come from a recipe, then from a TOML file, then
/// from flags; the later wins. With --seeds, the run of each is in a folder seed-N below the run folder; asked again with the
/// same --run-dir, the command goes on where it stopped.
#[derive(Debug, Parser)]
#[command(name = "train", version, mut_arg("seeds", |flag| flag.conflicts_with_all(["seed", "resume"])))]
#[command(after_help = examples("train"), after_long_help = more_help("train"))]
pub(super) struct TrainArgs {
    #[command(flatten)]
    pub(super) settings: Overrides,
    /// TOML file of settings, as a run folder's config.toml; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    seeds: SeedsArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    pub(super) display: DisplayArgs,
    /// Folder of the run [default: runs/MODEL-TIME]
    #[arg(long, value_name = "DIR")]
    pub(super) run_dir: Option<PathBuf>,
    /// Go on with the run in this folder; it ends in the weights of an uninterrupted run
    #[arg(long, value_name = "DIR", conflicts_with_all = begun_otherwise())]
    resume: Option<PathBuf>,
}

/// Arguments that a run that goes on has already.
fn begun_otherwise() -> Vec<Id> {
    let settings = Overrides::augment_args(Command::new("train"));
    let others =
        settings.get_arguments().map(Arg::get_id).filter(|id| !is_of_a_command(id.as_str())).cloned();
    ["run_dir", "config"].into_iter().map(Id::from).chain(others).collect()
}

/// The end of `-h`, of a command that is typed like this.
pub(super) fn examples(command: &str) -> String {
    format!(
        "Examples:
  {command}                                           the default run on the bundled images
  {command} --recipe chapter --dataset fashion-mnist  the chapter, on the full data set
  {command} --model nin-cifar --epochs 3 --lr 0.01    another network and other settings
  {command} --seeds 0..20 --run-dir runs/lottery      twenty runs, the spread of their accuracies
  {command} --resume runs/nin-20260101-120000         go on with a run that was stopped
Exit codes: 0 done, 1 failed on the way, 2 it cannot be: arguments, settings, or files that are not there or are no such thing;
128 and its number where a signal ended it (130 after Ctrl-C, 143 after kill; everything is saved)."
    )
}

/// The end of `--help`: the settings of each recipe, so that every flag's usual value is told, and the examples.
pub(super) fn more_help(command: &str) -> String {
    let mut text = "Recipes, the settings as config.toml has them, of robust and default those that are not as in chapter:\n".to_owned();
    let chapter = Settings::of(Recipe::Chapter).to_toml();
    let others = [Recipe::Robust, Recipe::Default].map(|recipe| Settings::of(recipe).to_toml());
    let differs = |line: &&str| !chapter.lines().any(|own| own == *line);
    text += &format!("  {}\n", chapter.lines().collect::<Vec<_>>().join(", "));
    for other in &others {
        text += &format!("  {}\n", other.lines().filter(differs).collect::<Vec<_>>().join(", "));
    }
    text + "A file for --config has the same names as a run's config.toml, for example:
  recipe = \"chapter\"
  image_size = 96
  lr = 0.05
Environment: NIN_CONV and NIN_ISA choose kernels, NIN_CACHE_DIR and NIN_FASHION_MNIST_URL where downloads go and come from.
" + &examples(command)
}

impl TrainArgs {
    /// The settings that the arguments and the file come to.
    pub(super) fn settings(&self) -> Result<Settings, TrainError> {
        let file = self.config.as_deref().map_or(Ok(Overrides::default()), Overrides::from_toml)?;
        let flags = Overrides { conv: convolution(self.settings.conv)?, ..self.settings.clone() };
        let settings = resolve(self.config.as_deref(), &file, &flags)?;
        Ok(Settings { init_from: settings.init_from.as_deref().map(weights_file), ..settings })
    }
}

/// Runs the command, which is typed as `command`: hints say so.
pub(super) fn train(args: &TrainArgs, command: &str) -> Result<ExitCode, TrainError> {
    let threads = args.threads.read()?;
    let interrupt = Arc::new(AtomicBool::new(false));
    signals::watch(&interrupt)?;
    if let Some(seeds) = &args.seeds.seeds {
        return train_each(seeds.clone(), args, threads, &interrupt);
    }
    let (mut run, mut trainer) = match &args.resume {
        Some(path) => resume(path, args, threads)?,
        None => start(args, threads)?,
    };
    announce(&trainer, run.path(), threads)?;
    let started = Instant::now();
    let display = Display::new(&trainer, run.path(), "", args.display)?;
    let outcome = display.train(&mut trainer, &mut run, &interrupt, threads, print_epoch)?;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let (folder, step) = (run.path().display(), trainer.position().step);
    Ok(match outcome {
        Outcome::Finished(metrics) => {
            if let Some(best) = trainer.position().best
                && metrics.epoch < trainer.settings().epochs
            {
                let figure = best.score.name();
                print_line!("stopped early: {figure} has not become better since epoch {}", best.epoch);
            }
            print_line!("done in {minutes:.1} min: {}; the run is in {folder}", metrics.score());
            ExitCode::SUCCESS
        }
        Outcome::Stopped => {
            print_line!("stopped after step {step} as asked; the run is in {folder}");
            ExitCode::SUCCESS
        }
        Outcome::Interrupted => {
            print_line!(
                "interrupted after step {step}, saved; go on with: {command} --resume {}",
                quoted(run.path())
            );
            signals::interrupted()
        }
    })
}

fn start(args: &TrainArgs, threads: usize) -> Result<(RunDir, Trainer), TrainError> {
    let settings = args.settings()?;
    let data = data(&settings, &args.data, threads)?;
    begin(settings, data, args, threads, args.run_dir.as_deref())
}

/// A run that begins, in this folder or in one that is named by the time.
///
/// # Errors
/// [`TrainError`] if it cannot be, before the folder is made, or the folder cannot be had.
pub(super) fn begin(
    settings: Settings,
    (splits, record): Data,
    args: &TrainArgs,
    threads: usize,
    folder: Option<&Path>,
) -> Result<(RunDir, Trainer), TrainError> {
    let trainer = Trainer::new(settings, splits, threads)?;
    trainer.check_start(&args.settings)?;
    let named = || default_run_dir(trainer.settings().model.name());
    let folder = folder.map_or_else(named, |folder| Ok(folder.to_path_buf()))?;
    Ok((RunDir::create(&folder, &trainer.settings().to_toml())?.with_data(record), trainer))
}

fn resume(path: &Path, args: &TrainArgs, threads: usize) -> Result<(RunDir, Trainer), TrainError> {
    let (run, checkpoint) = RunDir::open(path)?;
    let settings = of_run(path, &args.settings.of_a_command())?.under(&args.settings);
    let (splits, record) = data_of_run(path, &settings, &args.data, threads)?;
    Ok((run.with_data(record), Trainer::resumed(settings, splits, threads, checkpoint, path)?))
}

pub(super) fn announce(trainer: &Trainer, folder: &Path, threads: usize) -> Result<(), TrainError> {
    let (settings, model) = (trainer.settings(), trainer.model());
    let flops = Work::of(&layers(model, trainer.input_shape())?).forward;
    // Of a small network two figures, too.
    let work = if flops < 10_000_000 {
        format!("{:.2} MFLOP", flops as f64 / 1e6)
    } else {
        format!("{:.2} GFLOP", flops as f64 / 1e9)
    };
    print_line!(
        "{}: {} parameters, {work} an image; {} at {side} x {side}, batch {}, {}, {}; run folder {}",
        settings.model,
        parameter_count(model),
        settings.dataset,
        settings.batch_size,
        count_of(settings.epochs, "epoch"),
        count_of(threads as u64, "thread"),
        folder.display(),
        side = settings.image_size,
    );
    if settings.warmup_epochs > settings.epochs as f64 {
        log(&format!(
            "warning: warmup_epochs is {} of {}: the learning rate does not arrive at {}",
            settings.warmup_epochs,
            count_of(settings.epochs, "epoch"),
            settings.lr,
        ));
    }
    if let (Some(file), Some(fit)) = (&settings.init_from, trainer.fit()) {
        print_line!("init-from {}: {fit}", file.display());
    }
    let all = parameters(model);
    let frozen = all.iter().filter(|(_, own)| !own.requires_grad && !own.is_buffer()).count();
    if frozen > 0 {
        print_line!("frozen: {frozen} of {} tensors", all.len());
    }
    if settings.hold_out != HoldOut::Last(0) {
        let [train, test] = trainer.image_counts();
        print_line!(
            "{test} of {} training images are held out: \"test acc\" is measured on them",
            train + test
        );
    }
    if trainer.position().step > 0 {
        print_line!("going on after step {}", trainer.position().step);
    }
    Ok(())
}

fn print_epoch(metrics: &EpochMetrics) {
    print_line!(
        "epoch {:>3}: {}, {}, {:.1} images/s, waited for data {:.1} %",
        metrics.epoch,
        named(&[TRAIN_LOSS, TRAIN_ACC], metrics),
        metrics.score(),
        metrics.images_per_s,
        100.0 * metrics.data_wait,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_a_consistent_set() {
        use clap::CommandFactory;
        TrainArgs::command().debug_assert();
    }
}
