//! Images per second of training steps and of inference.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nin::data::{ArrayDataset, Batch, DataLoader, LoaderOptions};
use nin::loss::CrossEntropy;
use nin::nn::{Module, Planned, Sequential, initialize};
use nin::optim::{Optimizer, Sgd};
use nin::summary::{Work, layers};
use nin::train::StepSettings;
use nin::train::{TrainError, Workers};
use serde::Serialize;
use tensor::conv::ConvAlgorithm;
use tensor::init::Init;
use tensor::simd::Isa;
use tensor::{BufferPool, Purpose, RandomStream};

use super::median_seconds;
use crate::cli::{BenchArgs, NetworkArgs};
use crate::process::peak_memory_mib;

/// The most pixels of a batch: 1 GiB of them.
const MAX_PIXELS: usize = 1 << 30;
/// Classes of the networks that are measured.
const CLASSES: usize = 10;

/// The work of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Task {
    // Momentum is 0.9, weight decay 5e-4. The help of the command line shows the lines of documentation.
    /// Forward with dropout, cross-entropy, backward, SGD with momentum and weight decay
    Train,
    /// The logits
    Infer,
}

/// A measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    /// `nin`, or `nin-direct` and the like if an algorithm was forced.
    pub(crate) variant: String,
    /// The work of a step.
    pub(crate) task: Task,
    /// The network.
    pub(crate) model: String,
    /// Rows and columns of the images.
    pub(crate) image_size: usize,
    /// N: images of a step.
    pub(crate) batch: usize,
    /// Threads.
    pub(crate) threads: usize,
    /// Steps that were timed.
    pub(crate) steps: usize,
    /// Images a second of the median step.
    pub(crate) images_per_s: f64,
    /// Of the slowest step.
    pub(crate) images_per_s_min: f64,
    /// Of the fastest.
    pub(crate) images_per_s_max: f64,
    /// 10^9 floating-point operations of the direct convolution a second, of the median step.
    pub(crate) gflop_per_s: f64,
    /// The largest resident set of the process, MiB; `None` where the system does not say.
    pub(crate) peak_rss_mib: Option<f64>,
    /// The instruction set of the kernels.
    pub(crate) isa: &'static str,
    /// The measured program, and its version.
    pub(crate) versions: BTreeMap<&'static str, &'static str>,
}

/// Refuses what cannot be measured.
///
/// # Errors
/// [`TrainError::Config`], with what was expected and found.
pub(crate) fn check(args: &BenchArgs) -> Result<(), TrainError> {
    let (batch, side) = (args.batch(), args.network.side());
    if batch == 0 {
        return Err(TrainError::setting("batch_size", "at least 1", 0));
    }
    let pixels = side.checked_pow(2).and_then(|image| image.checked_mul(batch));
    if pixels.is_none_or(|pixels| pixels > MAX_PIXELS) {
        let expected = format!("at most {MAX_PIXELS} pixels in all");
        let found = format!("{batch} images of {side} x {side}");
        return Err(TrainError::setting("batch_size", expected, found));
    }
    Ok(())
}

/// The network for images of one channel, with the weights that PyTorch begins with: their size keeps the loss of random images
/// finite.
///
/// # Errors
/// As [`NetworkArgs::build`].
pub(crate) fn network(args: &NetworkArgs) -> Result<Sequential<f32>, TrainError> {
    let mut network = args.build(1, CLASSES)?;
    initialize(&mut network, Init::PyTorch, Init::PyTorch, 0);
    Ok(network)
}

/// A batch of random 8-bit images with random labels, always the same.
fn images(batch: usize, side: usize) -> Result<Batch, TrainError> {
    let mut random = RandomStream::new(0, 0, Purpose::Other(0), 0);
    let mut pixels = vec![0; batch * side * side];
    random.fill_bytes(&mut pixels);
    let labels: Vec<usize> = (0..batch).map(|_| random.below(CLASSES as u64) as usize).collect();
    let dataset = Arc::new(ArrayDataset::new([1, side, side], pixels, labels)?);
    // No thread of its own: it would take time from the steps.
    let options = LoaderOptions { batch_size: batch, workers: 0, ..LoaderOptions::default() };
    let loader = DataLoader::new(dataset, options)?;
    Ok(loader.epoch(0).next().expect("a data set is not empty")?)
}

/// Measures.
///
/// # Errors
/// [`TrainError`] if what is asked for cannot work or the loss does not stay finite.
pub(crate) fn measure(args: &BenchArgs, threads: usize, conv: ConvAlgorithm) -> Result<Report, TrainError> {
    check(args)?;
    let (batch, side, until) = (args.batch(), args.network.side(), args.until()?);
    let mut network = Planned::new(network(&args.network)?);
    let work = Work::of(&layers(network.get(), [1, 1, side, side].into())?);
    let mut workers = Workers::new(threads)?.with_conv(conv);
    let images = images(batch, side)?;
    let (times, flops) = match args.task {
        Task::Train => {
            let mut optimizer = Sgd::new(0.01).momentum(0.9).weight_decay(5e-4);
            let mut step = 0;
            let step = || {
                step += 1;
                train_step(&mut workers, &mut network, &mut optimizer, &images, step)
            };
            (until.measure(step)?, work.training)
        }
        Task::Infer => {
            let images = images.images_in(BufferPool::global());
            let pass = || {
                let begin = Instant::now();
                workers.predict(&network, &images)?;
                Ok::<_, TrainError>(begin.elapsed())
            };
            (until.measure(pass)?, work.forward)
        }
    };
    let rate = |seconds: f64| batch as f64 / seconds.max(1e-9);
    let extreme =
        |pick: fn(f64, f64) -> f64| times.iter().map(Duration::as_secs_f64).reduce(pick).unwrap_or_default();
    let images_per_s = rate(median_seconds(&times));
    Ok(Report {
        variant: match conv {
            ConvAlgorithm::Auto => "nin".to_owned(),
            forced => format!("nin-{forced}"),
        },
        task: args.task,
        model: args.network.model().to_string(),
        image_size: side,
        batch,
        threads,
        steps: times.len(),
        images_per_s,
        images_per_s_min: rate(extreme(f64::max)),
        images_per_s_max: rate(extreme(f64::min)),
        gflop_per_s: flops as f64 * images_per_s / 1e9,
        peak_rss_mib: peak_memory_mib(),
        isa: Isa::current().name(),
        versions: BTreeMap::from([("nin", env!("CARGO_PKG_VERSION"))]),
    })
}

/// One step of training, as the trainer makes it.
fn train_step(
    workers: &mut Workers,
    network: &mut dyn Module<f32>,
    optimizer: &mut Sgd,
    images: &Batch,
    step: u64,
) -> Result<Duration, TrainError> {
    let begin = Instant::now();
    let settings = StepSettings { epoch: step, ..StepSettings::default() };
    workers.step(network, images, &CrossEntropy::default(), settings)?.finite_loss("loss", 1, step)?;
    workers.gradients(|gradients| optimizer.step(network, gradients.into()))?;
    Ok(begin.elapsed())
}
