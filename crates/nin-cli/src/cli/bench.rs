//! `nin bench`: what this machine does with a network.

use clap::Args;
use nin::summary::{Work, layers};
use nin::train::{TrainError, micro_batch_images};
use serde_json::json;
use tensor::conv::ConvAlgorithm;
use tensor::simd::Isa;
use tensor::{BufferPool, Context, Shape};

use super::flags::some_settings;
use super::network::NetworkArgs;
use super::settings::convolution;
use super::table::Table;
use super::{JsonArgs, SecondsArgs, ThreadArgs, print};
use crate::bench::Until;
use crate::bench::layers::{LayerTimes, Pass, measure};
use crate::bench::steps::{self, Report, Task};

/// Images of a step, where their number is not asked for.
pub(super) const BATCH: usize = 32;

/// Images per second of training or inference on this machine, or the time of every layer.
///
/// Without flags it is the article's network at the size that it was made for, and a step has 32 images. They are random and in
/// memory. Rates in GFLOP/s count the operations of the direct convolution, whatever the algorithm.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    step: StepFlags,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Kind of a step: forward, backward and SGD, or the logits
    #[arg(long, value_name = "NAME", default_value = "train")]
    pub(crate) task: Task,
    #[command(flatten)]
    seconds: SecondsArgs,
    /// Measure so many steps instead
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "seconds")]
    steps: Option<usize>,
    #[command(flatten)]
    json: JsonArgs,
    /// The time of every layer instead, on one thread; --batch-size is then a micro-batch's, by default what training cuts a
    /// batch into
    #[arg(long, conflicts_with_all = ["task", "threads", "steps"])]
    layers: bool,
}

some_settings! {
    /// Flags for the settings that a step depends on, beside the network.
    StepFlags: "batch_size", "conv"
}

impl BenchArgs {
    /// N: images of a step.
    pub(crate) fn batch(&self) -> usize {
        self.step.0.batch_size.unwrap_or(BATCH)
    }

    /// The time or the number of steps to measure.
    ///
    /// # Errors
    /// [`TrainError::Config`] of none.
    pub(crate) fn until(&self) -> Result<Until, TrainError> {
        match self.steps {
            Some(0) => Err(TrainError::setting("steps", "at least 1", 0)),
            Some(steps) => Ok(Until::Steps(steps)),
            None => self.seconds.read().map(Until::Seconds),
        }
    }
}

/// Runs `nin bench`.
pub(super) fn bench(args: &BenchArgs) -> Result<(), TrainError> {
    let conv = convolution(args.step.0.conv)?.unwrap_or(ConvAlgorithm::Auto);
    let text = if args.layers { layer_report(args, conv)? } else { step_report(args, conv)? };
    print(&text)
}

fn step_report(args: &BenchArgs, conv: ConvAlgorithm) -> Result<String, TrainError> {
    let report = steps::measure(args, args.threads.read()?, conv)?;
    if args.json.json {
        return Ok(format!("{}\n", json!(report)));
    }
    let Report { images_per_s: median, images_per_s_min: min, images_per_s_max: max, .. } = report;
    let task = if args.task == Task::Train { "training" } else { "inference" };
    let memory = report.peak_rss_mib.map_or("unknown".to_owned(), |mib| format!("{mib:.0} MiB"));
    Ok(format!(
        "{} at {side} x {side}, {task}, batch {}, threads {}, conv {conv}, {}\n\
         {median:.1} images/s, the median of {} steps (slowest {min:.1}, fastest {max:.1})\n\
         {:.1} GFLOP/s, counting the operations of the direct convolution\n\
         peak memory {memory}\n",
        report.model,
        report.batch,
        report.threads,
        report.isa,
        report.steps,
        report.gflop_per_s,
        side = report.image_size,
    ))
}

fn layer_report(args: &BenchArgs, conv: ConvAlgorithm) -> Result<String, TrainError> {
    steps::check(args)?;
    let seconds = args.seconds.read()?;
    let (model, side) = (args.network.model(), args.network.side());
    let network = steps::network(&args.network)?;
    let shape = |images| Shape::new(&[images, 1, side, side]);
    let batch = match args.step.0.batch_size {
        Some(images) => images,
        None => micro_batch_images(&network, &Context::training(BufferPool::new()), shape(args.batch()))?
            .unwrap_or_else(|| args.batch()),
    };
    let images = shape(batch);
    let all = layers(&network, images)?;
    let (work, passes) = (Work::of(&all), 3 * all.len());
    let times = measure(&network, images, conv, seconds / passes as f64)?;
    let isa = Isa::current().name();
    if args.json.json {
        let line = json!({ "model": model.to_string(), "image_size": side, "images": batch, "threads": 1,
            "conv": conv.to_string(), "isa": isa, "layers": times });
        return Ok(format!("{line}\n"));
    }
    let mut text = format!("{model} at {side} x {side}, {batch} images on one thread, conv {conv}, {isa}\n");
    text += &layer_table(&times);
    let of = |pass: fn(&LayerTimes) -> Option<&Pass>| -> f64 {
        times.iter().filter_map(pass).map(|pass| pass.ms).sum()
    };
    let forward = of(|layer| Some(&layer.forward));
    let all =
        forward + of(|layer| layer.input_gradient.as_ref()) + of(|layer| layer.weight_gradient.as_ref());
    for (name, ms, flops) in [("forward", forward, work.forward), ("training", all, work.training)] {
        let (rate, gflops) = (1e3 * batch as f64 / ms, flops as f64 / ms / 1e6);
        text += &format!("{name}: {ms:.2} ms, {rate:.1} images/s a thread, {gflops:.1} GFLOP/s\n");
    }
    Ok(text)
}

/// A line for each layer: milliseconds and GFLOP/s of the three passes.
fn layer_table(times: &[LayerTimes]) -> String {
    let rate = "GFLOP/s";
    let passes = ["forward ms", rate, "input gradient ms", rate, "weight gradient ms", rate];
    let mut table = Table::new(["layer", "kind", "input", "output", "algorithm"].into_iter().chain(passes));
    for layer in times {
        let shape = |[c, h, w]: [usize; 3]| format!("{c}x{h}x{w}");
        let mut algorithm = layer.forward.algorithm.clone().unwrap_or_default();
        if let Some(own) = layer.weight_gradient.as_ref().and_then(|pass| pass.algorithm.as_ref())
            && *own != algorithm
        {
            algorithm += &format!("; weight gradient {own}");
        }
        let mut row =
            vec![layer.path.clone(), layer.kind.clone(), shape(layer.input), shape(layer.output), algorithm];
        for pass in [Some(&layer.forward), layer.input_gradient.as_ref(), layer.weight_gradient.as_ref()] {
            let cell = |figure: Option<f64>, decimals: usize| {
                figure.map_or(String::new(), |figure| format!("{figure:.decimals$}"))
            };
            row.push(cell(pass.map(|pass| pass.ms), 2));
            row.push(cell(pass.and_then(|pass| pass.gflop_per_s), 1));
        }
        table.push(row);
    }
    table.text()
}
