//! `nin inspect`: the signal inside of a network, layer by layer, at the start of a recipe or in finished runs.

use std::path::{Path, PathBuf};

use clap::Args;
use nin::checkpoint::Fit;
use nin::disk::content;
use nin::loss::CrossEntropy;
use nin::train::{Overrides, Recipe, Settings, StepSettings, TrainError, Trainer, Workers};
use serde_json::json;

use super::data::{DataArgs, data, data_of_run};
use super::flags::some_settings;
use super::runs::{Group, counted, groups};
use super::settings::{convolution, of_run, resolve};
use super::table::Table;
use super::{JsonArgs, PictureArgs, SeedsArgs, ThreadArgs, check_file, print, print_json, write_file};
use crate::bench::median;
use crate::chart::{Line, Panel, write_panels};
use crate::signal::{LayerSignal, Signal};

/// The most training images that are sent through.
const MOST_IMAGES: usize = 4096;

/// The size of the signal inside of a network, layer by layer, the share of it that tells images apart, the silent units, and the
/// size of the gradients.
///
/// A batch of real training images goes through a network and the gradients of its loss come back, at the start of a recipe or
/// with the weights of finished runs. Without --seeds a start is that of seed 0; with several seeds each figure is the
/// middle one of theirs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  nin inspect --recipe chapter --model nin-d2l --image-size 67            at the start, seed 0
  nin inspect --recipe chapter --recipe robust --seeds 0..20 --picture signal.svg
  nin inspect runs/nin-20260101-120000                                    with a run's weights
Columns: rms is the root mean square of the output after its ReLU, between images the part of it that differs from image to
image, zeros the share of it that is 0, dead the share of channels that are 0 for all images, weight spectral the most that the
weights stretch a patch (their largest singular value), gradient the norm of the weight's gradient.")]
pub(super) struct InspectArgs {
    /// Folder of a run, or of one run for each seed
    #[arg(value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Recipe whose start is looked at, as often as there are recipes [default, without folders: default]
    #[arg(long = "recipe", value_name = "NAME")]
    recipes: Vec<Recipe>,
    #[command(flatten)]
    settings: StartFlags,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    seeds: SeedsArgs,
    /// Training images that are sent through
    #[arg(long, value_name = "N", default_value_t = 128, allow_negative_numbers = true)]
    images: usize,
    #[command(flatten)]
    picture: PictureArgs,
    /// The table as CSV
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    threads: ThreadArgs,
}

some_settings! {
    /// Flags for the settings that what is seen at a recipe's start depends on.
    StartFlags: "model", "image_size", "init", "head_scale", "head_bias", "dataset"
}

/// A recipe or a folder, and what was found for each seed.
#[derive(Debug)]
struct Subject {
    name: String,
    signals: Vec<Signal>,
}

/// Runs `nin inspect`.
pub(super) fn inspect(args: &InspectArgs) -> Result<(), TrainError> {
    let threads = args.threads.read()?;
    if args.images == 0 || args.images > MOST_IMAGES {
        return Err(TrainError::setting("images", format!("1 to {MOST_IMAGES}"), args.images));
    }
    start_of_no_recipe(args)?;
    args.csv.iter().chain(&args.picture.picture).try_for_each(|path| check_file(path))?;
    let conv = convolution(None)?;
    let recipes = match (args.recipes.is_empty(), args.folders.is_empty()) {
        (true, true) => vec![Recipe::Default],
        _ => args.recipes.clone(),
    };
    // Of each subject, the settings of its networks, and the folder of each that is a run's.
    let mut asked = Vec::new();
    for recipe in recipes {
        let start = |seed| {
            let flags = Overrides { recipe: Some(recipe), seed: Some(seed), conv, ..args.settings.0.clone() };
            Ok((resolve(None, &Overrides::default(), &flags)?, None))
        };
        let starts = args.seeds.seeds.clone().unwrap_or(0..1).map(start);
        asked.push((recipe.to_string(), starts.collect::<Result<Vec<_>, TrainError>>()?));
    }
    for Group { name, runs } in groups(&args.folders, "config.toml")? {
        let run = |run: &PathBuf| {
            let weights = Some(run.join("model.safetensors"));
            let settings = of_run(run, &Overrides { conv, ..Overrides::default() })?;
            // What is frozen has a gradient, too, that only nobody follows.
            Ok((Settings { init_from: weights, freeze: None, lr_of: None, ..settings }, Some(run.clone())))
        };
        asked.push((name, runs.iter().map(run).collect::<Result<_, TrainError>>()?));
    }
    let mut subjects = Vec::new();
    for (name, networks) in asked {
        let mut signals = Vec::new();
        for (settings, run) in networks {
            let seed = settings.seed;
            let signal = signal(settings, run.as_deref(), args, threads)?;
            if args.json.json {
                print_json(&json!({ "network": name, "seed": seed, "signal": signal }))?;
            }
            signals.push(signal);
        }
        subjects.push(Subject { name, signals });
    }
    // None of them is lost with another.
    let text = if args.json.json { String::new() } else { subjects.iter().map(text).collect() };
    let printed = print(&text);
    let csv = args.csv.as_ref().map_or(Ok(()), |path| write_file(path, &table(&subjects).csv()));
    if let Some(path) = &args.picture.picture {
        let names: Vec<String> = subjects.iter().map(name).collect();
        write_panels(path, &names, &panels(&subjects))?;
    }
    printed.and(csv)
}

/// A run's folder says itself what its network is: what is asked for a start besides would change nothing.
fn start_of_no_recipe(args: &InspectArgs) -> Result<(), TrainError> {
    if args.folders.is_empty() || !args.recipes.is_empty() {
        return Ok(());
    }
    match args.settings.0.names().chain(args.seeds.seeds.as_ref().map(|_| "seeds")).next() {
        Some(name) => Err(TrainError::Config(format!(
            "{name}: is of a recipe's start, and a run's folder has its own; there is no --recipe"
        ))),
        None => Ok(()),
    }
}

fn signal(
    settings: Settings,
    run: Option<&Path>,
    args: &InspectArgs,
    threads: usize,
) -> Result<Signal, TrainError> {
    let (splits, _) = match run {
        Some(run) => data_of_run(run, &settings, &args.data, threads)?,
        None => data(&settings, &args.data, threads)?,
    };
    let trainer = Trainer::new(settings, splits, threads)?;
    // A run's own weights are all of its network's.
    if let (Some(weights), Some(difference)) =
        (&trainer.settings().init_from, trainer.fit().and_then(Fit::difference))
    {
        return Err(content(weights, format!("weights of another network: {difference}")).into());
    }
    let Settings { seed, conv, label_smoothing, .. } = *trainer.settings();
    let Some(batch) = trainer.some_images(args.images)? else {
        return Err(TrainError::Config("there are no training images to inspect".to_owned()));
    };
    let (mut workers, step) = (Workers::new(threads)?.with_conv(conv), StepSettings { seed, epoch: 0 });
    let loss = CrossEntropy { label_smoothing, weights: None };
    let signal = crate::signal::inspect(trainer.model(), &batch, &mut workers, &loss, step)?;
    for layer in &signal.layers {
        let found = FIGURES.iter().find(|(_, figure)| !figure(layer).is_finite());
        let Some((name, figure)) = found else { continue };
        let reason = format!("{name} of layer {} is {}, expected a finite number", layer.path, figure(layer));
        return Err(match &trainer.settings().init_from {
            Some(weights) => content(weights, reason).into(),
            None => TrainError::Config(reason),
        });
    }
    Ok(signal)
}

/// The middle one of a figure of each seed.
fn middle(signals: &[Signal], figure: impl Fn(&Signal) -> f64) -> f64 {
    median(signals.iter().map(figure).collect())
}

/// A figure of a layer.
type Figure = fn(&LayerSignal) -> f64;

/// The columns after the network's name, the layer's and its kind.
const FIGURES: [(&str, Figure); 7] = [
    ("rms", |layer| layer.rms),
    ("between images", |layer| layer.between_images),
    ("zeros", |layer| layer.zeros),
    ("dead", |layer| layer.dead_channels),
    ("weight rms", |layer| layer.weight_rms),
    ("weight spectral", |layer| layer.spectral_norm),
    ("gradient", |layer| layer.gradient_norm),
];

fn table(subjects: &[Subject]) -> Table {
    let figures = FIGURES.iter().map(|(heading, _)| *heading);
    let mut table = Table::new(["network", "layer", "kind"].into_iter().chain(figures));
    for subject in subjects {
        let Some(first) = subject.signals.first() else { continue };
        for (index, layer) in first.layers.iter().enumerate() {
            let mut row = vec![name(subject), layer.path.clone(), layer.kind.clone()];
            row.extend(FIGURES.iter().map(|(_, figure)| {
                format!("{:.5}", middle(&subject.signals, |signal| figure(&signal.layers[index])))
            }));
            table.push(row);
        }
    }
    table
}

fn name(subject: &Subject) -> String {
    counted(&subject.name, subject.signals.len(), "seeds")
}

fn text(subject: &Subject) -> String {
    let signals = &subject.signals;
    let mut text = table(std::slice::from_ref(subject)).text();
    text += &format!(
        "logits: mean {:.4}, between classes {:.5}, between images {:.5}; loss {:.4}\n",
        middle(signals, |signal| signal.logit_mean),
        middle(signals, |signal| signal.between_classes),
        middle(signals, |signal| signal.between_images),
        middle(signals, |signal| signal.loss),
    );
    let all: Vec<&Vec<usize>> = signals.iter().filter_map(|signal| signal.dead_classes.as_ref()).collect();
    let listed = |numbers: Vec<usize>| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    text += &match &all[..] {
        // It has no maps of the classes.
        [] => String::new(),
        [dead] if dead.is_empty() => "no class map is 0 for all of the images\n".to_owned(),
        [dead] => format!("class maps that are 0 for all of the images: {}\n", listed(dead.to_vec())),
        all => {
            let counts = listed(all.iter().map(|dead| dead.len()).collect());
            format!("class maps that are 0 for all of the images, seed by seed: {counts}\n")
        }
    };
    text + "\n"
}

fn panels(subjects: &[Subject]) -> Vec<Panel> {
    let paths = subjects.first().and_then(|subject| subject.signals.first());
    let names: Vec<String> =
        paths.map_or(Vec::new(), |signal| signal.layers.iter().map(|layer| layer.path.clone()).collect());
    let line = |signal: &Signal, figure: Figure| -> Line {
        (0..).zip(&signal.layers).map(|(index, layer)| (f64::from(index), figure(layer))).collect()
    };
    let panel = |title: &str, figure: Figure| Panel {
        title: title.to_owned(),
        across: "layer".to_owned(),
        names: names.clone(),
        logarithmic: true,
        groups: subjects
            .iter()
            .map(|subject| subject.signals.iter().map(|own| line(own, figure)).collect())
            .collect(),
        ..Panel::default()
    };
    vec![
        panel("rms of the output", |layer| layer.rms),
        panel("of it, what differs between images", |layer| layer.between_images),
        panel("norm of the weight's gradient", |layer| layer.gradient_norm),
    ]
}
