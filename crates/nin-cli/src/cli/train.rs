//! `train`: one run from settings to a run folder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::Parser;

use super::default_threads;
use super::downloads::sources;
use super::progress::Display;
use super::run_name::default_run_dir;
use super::seeds;
use super::settings::{check_environment, convolution, resolve};
use nin::data::{Splits, load};
use nin::nn::parameter_count;
use nin::summary::{Work, layers};
use nin::train::lanes::check_threads;
use nin::train::{Config, EpochMetrics, Outcome, Overrides, Recipe, RunDir, TrainError, Trainer};

/// Train Network in Network on the CPU.
///
/// Without arguments it trains the article's network on the bundled Fashion-MNIST images and leaves a run folder with the
/// settings, the metrics, the weights and a picture of the curves. Settings come from a recipe, then from a TOML file, then
/// from flags; the later wins.
#[derive(Debug, Parser)]
#[command(name = "train", version, after_help = EXAMPLES, after_long_help = more_help())]
pub struct TrainArgs {
    /// Network: nin (the article's, stem stride 3), nin-d2l (the book's, stride 4), nin-cifar (the paper's CIFAR-10
    /// network, for 28 or 32 pixels), or one to compare them with: lenet, alexnet, vgg11 (quarter width)
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// What the class maps of a nin network go through: gap (global average pooling, its own end), fc (a fully connected
    /// layer in its place) or fc-dropout (with dropout before it), as in section 4.6 of the paper
    #[arg(long, value_name = "NAME")]
    pub head: Option<String>,
    /// Settings to begin with: default (small images, learns in minutes), chapter (the book's settings; with
    /// --model nin-d2l its network, too) or robust (the chapter's batch, epochs and image size with a start and a schedule that
    /// learn)
    #[arg(long, value_name = "NAME")]
    pub recipe: Option<String>,
    /// TOML file of settings, as a run folder's config.toml; flags win over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Data set: fashion-mnist-mini (bundled), fashion-mnist (downloaded if it is nowhere) or mnist (from --data-dir)
    #[arg(long, value_name = "NAME")]
    pub dataset: Option<String>,
    /// Folder of the data set's IDX files
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Rows and columns that images are resized to
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true)]
    pub image_size: Option<usize>,
    /// Images of a step
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub batch_size: Option<usize>,
    /// Passes over the training images
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub epochs: Option<u64>,
    /// Stop after this many steps
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub max_steps: Option<u64>,
    /// Base learning rate
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Momentum of SGD
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// L2 penalty on weights, not on biases
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// Learning-rate schedule: constant, cosine or step:EPOCHS:FACTOR
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Probability with which dropout layers drop
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// Share of a label that the loss spreads over all classes
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    pub label_smoothing: Option<f64>,
    /// Random variations of the training images, drawn anew each epoch: none, flip (left to right), shift:PIXELS (up to so
    /// many of the published image's pixels along each axis) or shift:PIXELS,flip
    #[arg(long, value_name = "LIST")]
    pub augment: Option<String>,
    /// Do not train on the last N training images, and test on them instead of the test images: for choosing settings
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub hold_out: Option<usize>,
    /// Epochs, or a part of one, in which the learning rate rises linearly
    #[arg(long, value_name = "EPOCHS", allow_negative_numbers = true)]
    pub warmup_epochs: Option<f64>,
    /// Bring gradients down to this Euclidean norm; 0 for no limit
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip_norm: Option<f64>,
    /// What the initial weights of the convolution that makes the class maps are multiplied by
    #[arg(long, value_name = "FACTOR", allow_negative_numbers = true)]
    pub head_scale: Option<f64>,
    /// Initial bias of that convolution: above 0, its ReLU begins open for every class
    #[arg(long, value_name = "BIAS", allow_negative_numbers = true)]
    pub head_bias: Option<f64>,
    /// Initial weights: xavier, he, he-uniform, pytorch, or data-dependent (he, then each convolution scaled and shifted so
    /// that its channels have mean 0 and deviation 1 over some training images)
    #[arg(long, value_name = "NAME")]
    pub init: Option<String>,
    /// Take the training images in the order of the data set
    #[arg(long)]
    pub no_shuffle: bool,
    /// Seed of every random number; the same seed gives the same bits on any number of threads
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub seed: Option<u64>,
    /// Train once with each of these seeds, such as 0..20 (0 to 19), in folders seed-N below the run folder; asked again
    /// with the same --run-dir, goes on where it stopped
    #[arg(long, value_name = "FROM..TO", conflicts_with_all = ["seed", "resume"])]
    pub seeds: Option<String>,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
    /// Convolution algorithm: auto (the fastest for each layer), direct, winograd, im2col or naive; wins over the
    /// environment variable NIN_CONV
    #[arg(long, value_name = "NAME")]
    pub conv: Option<String>,
    /// Begin with the weights of this safetensors file
    #[arg(long, value_name = "FILE")]
    pub init_from: Option<PathBuf>,
    /// Folder of the run [default: runs/MODEL-TIME]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Go on with the run in this folder; it ends in the weights of an uninterrupted run
    #[arg(long, value_name = "DIR", conflicts_with_all = ["run_dir", "init_from", "config", "recipe", "model", "head",
        "dataset", "image_size", "batch_size", "epochs", "lr", "momentum", "weight_decay", "schedule", "dropout", "init",
        "label_smoothing", "augment", "hold_out", "warmup_epochs", "clip_norm", "head_scale", "head_bias", "no_shuffle",
        "seed", "conv"])]
    pub resume: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  train                                           the default run on the bundled images
  train --recipe chapter --dataset fashion-mnist  the chapter, on the full data set
  train --model nin-cifar --epochs 3 --lr 0.01    another network and other settings
  train --seeds 0..20 --run-dir runs/lottery      twenty runs, and the spread of their accuracies
  train --resume runs/nin-20260101-120000         go on with a run that was stopped
Exit codes: 0 done, 1 failed on the way, 2 the request cannot work, 130 interrupted (everything is saved).";

/// What `--help` ends with: the settings of each recipe, so that every flag's usual value is told, and the examples.
fn more_help() -> String {
    let mut text = "Recipes:\n".to_owned();
    for recipe in Recipe::ALL {
        let config = Config::of(recipe);
        let clip = if config.clip_norm > 0.0 { config.clip_norm.to_string() } else { "none".to_owned() };
        text += &format!(
            "  {recipe}: {model}, {dataset}, {size} pixels, batch {batch}, {epochs} epochs, lr {lr}, momentum {momentum}, \
             weight decay {decay}, schedule {schedule}, warm-up {warmup} epochs, clip norm {clip}, dropout {dropout}, \
             init {init}, head scale {scale}, head bias {bias}, {normal}\n",
            model = config.model,
            dataset = config.dataset,
            size = config.image_size,
            batch = config.batch_size,
            epochs = config.epochs,
            lr = config.lr,
            momentum = config.momentum,
            decay = config.weight_decay,
            schedule = config.schedule,
            warmup = config.warmup_epochs,
            dropout = config.dropout,
            init = config.init,
            scale = config.head_scale,
            bias = config.head_bias,
            normal = if config.normalize { "normalised images" } else { "pixels from 0 to 1" },
        );
    }
    text + "A file for --config has the same names as a run's config.toml, for example:
  recipe = \"chapter\"
  image_size = 96
  lr = 0.05
Environment: NIN_CONV and NIN_ISA choose kernels, NIN_CACHE_DIR and NIN_FASHION_MNIST_URL where downloads go and come from.
" + EXAMPLES
}

impl TrainArgs {
    fn overrides(&self) -> Overrides {
        Overrides {
            recipe: self.recipe.clone(),
            model: self.model.clone(),
            head: self.head.clone(),
            dataset: self.dataset.clone(),
            image_size: self.image_size,
            batch_size: self.batch_size,
            epochs: self.epochs,
            max_steps: self.max_steps,
            lr: self.lr,
            momentum: self.momentum,
            weight_decay: self.weight_decay,
            schedule: self.schedule.clone(),
            dropout: self.dropout,
            init: self.init.clone(),
            label_smoothing: self.label_smoothing,
            augment: self.augment.clone(),
            hold_out: self.hold_out,
            warmup_epochs: self.warmup_epochs,
            clip_norm: self.clip_norm,
            head_scale: self.head_scale,
            head_bias: self.head_bias,
            shuffle: self.no_shuffle.then_some(false),
            seed: self.seed,
            ..Overrides::default()
        }
    }
}

impl TrainArgs {
    /// The settings that the arguments and the file come to.
    pub(super) fn settings(&self) -> Result<Config, TrainError> {
        let file = self.config.as_deref().map_or(Ok(Overrides::default()), Overrides::from_toml)?;
        let flags = Overrides { conv: convolution(self.conv.as_deref())?, ..self.overrides() };
        resolve(self.config.as_deref(), &file, &flags)
    }
}

/// Runs the command.
///
/// # Errors
/// [`TrainError`] for the binary to print.
pub fn train(args: &TrainArgs) -> Result<ExitCode, TrainError> {
    check_environment()?;
    let threads = args.threads.unwrap_or_else(default_threads);
    check_threads(threads)?;
    let interrupt = Arc::new(AtomicBool::new(false));
    watch_interrupt(&interrupt)?;
    if let Some(range) = &args.seeds {
        return seeds::train_each(range, args, threads, &interrupt);
    }
    let (mut run, mut trainer) = match &args.resume {
        Some(path) => resume(path, args, threads)?,
        None => start(args, threads)?,
    };
    announce(&trainer, run.path(), threads)?;
    let started = Instant::now();
    let mut display = Display::new(&trainer, run.path(), "");
    let outcome = trainer.run(&mut run, &interrupt, |event| display.show(event, print_epoch))?;
    let minutes = started.elapsed().as_secs_f64() / 60.0;
    let (folder, step) = (run.path().display(), trainer.position().step);
    Ok(match outcome {
        Outcome::Finished(metrics) => {
            say!("done in {minutes:.1} min: test acc {:.4}; the run is in {folder}", metrics.test_acc);
            ExitCode::SUCCESS
        }
        Outcome::StepsDone => {
            say!("stopped after step {step} as asked; the run is in {folder}");
            ExitCode::SUCCESS
        }
        Outcome::Interrupted => {
            say!("interrupted after step {step}, saved; go on with: train --resume {folder}");
            ExitCode::from(130)
        }
    })
}

fn start(args: &TrainArgs, threads: usize) -> Result<(RunDir, Trainer), TrainError> {
    let config = args.settings()?;
    let splits = data(&config, args)?;
    let mut trainer = Trainer::new(config, splits, threads)?;
    if let Some(weights) = &args.init_from {
        trainer.init_from(weights)?;
    }
    let path = args.run_dir.clone().unwrap_or_else(|| default_run_dir(&trainer.config().model));
    let run = RunDir::create(&path, &trainer.config().to_toml())?;
    Ok((run, trainer))
}

fn resume(path: &Path, args: &TrainArgs, threads: usize) -> Result<(RunDir, Trainer), TrainError> {
    let (run, checkpoint) = RunDir::open(path)?;
    let file = path.join("config.toml");
    // A limit on steps belongs to the command, not to the run: the run that stopped at one is to go on.
    let overrides = Overrides { max_steps: None, ..Overrides::from_toml(&file)? };
    let flags = Overrides { max_steps: args.max_steps, ..Overrides::default() };
    let config = resolve(Some(&file), &overrides, &flags)?;
    let splits = data(&config, args)?;
    let mut trainer = Trainer::new(config, splits, threads)?;
    if let Some(checkpoint) = checkpoint {
        trainer.restore(checkpoint, path)?;
    }
    Ok((run, trainer))
}

/// The data set.
pub(super) fn data(config: &Config, args: &TrainArgs) -> Result<Splits, TrainError> {
    // What needs no data is refused before any is fetched.
    drop(config.network(1, 10)?);
    Ok(load(config.dataset()?, &sources(args.data_dir.clone()))?)
}

/// Raises the flag at Ctrl-C; a second one ends the process at once.
fn watch_interrupt(interrupt: &Arc<AtomicBool>) -> Result<(), TrainError> {
    let flag = Arc::clone(interrupt);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let news = "interrupted: finishing the step and saving (again to stop at once)";
        let _ = writeln!(std::io::stderr(), "{news}");
    })
    .map_err(|error| TrainError::Config(format!("cannot watch for Ctrl-C: {error}")))
}

pub(super) fn announce(trainer: &Trainer, folder: &Path, threads: usize) -> Result<(), TrainError> {
    let (config, model) = (trainer.config(), trainer.model());
    let flops = Work::of(&layers(model, trainer.input_shape())?).forward;
    say!(
        "{}: {} parameters, {:.2} GFLOP an image; {} at {side} x {side}, batch {}, {} epochs, {threads} threads; run folder {}",
        config.model,
        parameter_count(model),
        flops as f64 / 1e9,
        config.dataset,
        config.batch_size,
        config.epochs,
        folder.display(),
        side = config.image_size,
    );
    if config.hold_out > 0 {
        say!("the last {} training images are held out: \"test acc\" is measured on them", config.hold_out);
    }
    if trainer.position().step > 0 {
        say!("going on after step {}", trainer.position().step);
    }
    Ok(())
}

fn print_epoch(metrics: &EpochMetrics) {
    say!(
        "epoch {:>3}: train loss {:.4}, train acc {:.4}, test acc {:.4}, {:.1} images/s, waited for data {:.1} %",
        metrics.epoch,
        metrics.train_loss,
        metrics.train_acc,
        metrics.test_acc,
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
