//! One step over a batch, on many threads, with the same bits on any number of them.
//!
//! No layer of these networks looks across the batch, so a batch is a sum over images. It is cut into a fixed number of
//! *lanes*, each lane into small *shards*. A worker takes a lane and runs its shards one after the other, forward and
//! backward, adding each shard's gradients to the lane's; in the end the lanes' gradients are summed in their order. Which
//! worker runs which lane changes nothing: the cuts and the order of every sum depend on the batch alone.
//!
//! Each worker has a buffer pool of its own and begins with the lane of its own number, so that after the first step of a
//! batch size no worker needs fresh memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use autograd::{Context, Tape, Var};
use rayon::prelude::*;
use tensor::conv::ConvPath;
use tensor::ops::SoftmaxCrossEntropy;
use tensor::{BufferPool, Shape, Tensor};

use super::error::TrainError;
use crate::data::Batch;
use crate::nn::{Module, parameters};

/// The most lanes of a batch: the most threads that one step can use.
pub const LANES: usize = 8;
/// The most threads that may be asked for; more than any machine has cores.
pub const MAX_THREADS: usize = 1024;
/// The most images of a shard: few enough for its activations to stay near the core.
pub const SHARD: usize = 4;

/// Sums over some images.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evaluation {
    /// The sum of the losses.
    pub loss: f64,
    /// Images whose largest logit is their label's.
    pub correct: usize,
    /// Images.
    pub images: usize,
}

impl Evaluation {
    /// Adds the sums over further images.
    pub fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.images += other.images;
    }

    /// The mean loss of an image.
    #[must_use]
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }

    /// The share of images classified correctly, 0 to 1.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }
}

/// What a lane carries from shard to shard.
#[derive(Debug, Default)]
struct Lane {
    gradients: Vec<Tensor<f32>>,
    sums: Evaluation,
    result: Option<TrainError>,
}

/// What the random numbers of a step depend on, and how its loss is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepSettings {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// Label smoothing of the loss, 0 for none.
    pub label_smoothing: f64,
}

/// A shard's logits, once they are computed.
type ShardLogits = Option<Result<Tensor<f32>, TrainError>>;

/// The workers and the memory that steps and evaluations run in. See the module's documentation.
#[derive(Debug)]
pub struct Lanes {
    threads: rayon::ThreadPool,
    pools: Vec<Arc<BufferPool>>,
    lanes: Vec<Mutex<Lane>>,
    conv: ConvPath,
}

/// Refuses numbers of threads that cannot be.
///
/// # Errors
/// [`TrainError::Config`] for 0 threads or more than [`MAX_THREADS`].
pub fn check_threads(threads: usize) -> Result<(), TrainError> {
    if threads == 0 || threads > MAX_THREADS {
        return Err(TrainError::Config(format!("threads: expected 1 to {MAX_THREADS}, found {threads}")));
    }
    Ok(())
}

impl Lanes {
    /// Workers on this many threads, with the convolutions of [`ConvPath::current`].
    ///
    /// # Errors
    /// As [`check_threads`]; also [`TrainError::Config`] if the operating system grants none.
    pub fn new(threads: usize) -> Result<Self, TrainError> {
        check_threads(threads)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("worker-{index}"))
            .build()
            .map_err(|error| TrainError::Config(format!("threads: cannot start {threads}: {error}")))?;
        let pools = (0..threads).map(|_| BufferPool::new()).collect();
        let lanes = (0..LANES).map(|_| Mutex::default()).collect();
        Ok(Self { threads: pool, pools, lanes, conv: ConvPath::current() })
    }

    /// The same workers with this convolution algorithm, in steps and in evaluations.
    #[must_use]
    pub fn with_conv(self, conv: ConvPath) -> Self {
        Self { conv, ..self }
    }

    /// The number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.pools.len()
    }

    /// Runs `work` on these threads, so that what it does in parallel stays on them.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    /// Calls `work(task, pool)` once for each task below `count`; each worker begins with the task of its own number.
    fn for_each_task(&self, count: usize, work: impl Fn(usize, &Arc<BufferPool>) + Sync) {
        let next = AtomicUsize::new(self.threads());
        self.threads.broadcast(|worker| {
            let pool = &self.pools[worker.index()];
            let mut task = worker.index();
            while task < count {
                work(task, pool);
                task = next.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// The gradients of the batch's mean loss, left in lane 0 for [`Lanes::gradients`], and the sums over its images.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the labels.
    pub fn step(
        &self,
        model: &dyn Module<f32>,
        batch: &Batch,
        settings: StepSettings,
    ) -> Result<Evaluation, TrainError> {
        let n = batch.len();
        let lanes = n.div_ceil(SHARD).min(LANES);
        let identities: Vec<u64> =
            parameters(model).iter().map(|(_, parameter)| parameter.identity).collect();
        self.for_each_task(lanes, |lane, pool| {
            let (from, to) = (lane * n / lanes, (lane + 1) * n / lanes);
            let mut state = self.lanes[lane].lock().unwrap_or_else(PoisonError::into_inner);
            state.sums = Evaluation::default();
            state.result = None;
            let mut start = from;
            while start < to {
                let end = (start + SHARD).min(to);
                let shard = Shard { model, batch, start, end, settings, conv: self.conv };
                if let Err(error) = shard.run(pool, &identities, start == from, &mut state) {
                    state.result = Some(error);
                    return;
                }
                start = end;
            }
        });
        let mut sums = Evaluation::default();
        for lane in &self.lanes[..lanes] {
            let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = lane.result.take() {
                return Err(error);
            }
            sums.add(lane.sums);
        }
        self.sum_lanes(lanes);
        Ok(sums)
    }

    /// Adds the gradients of lanes 1, 2, ... to those of lane 0, in this order for every element.
    fn sum_lanes(&self, lanes: usize) {
        const BLOCK: usize = 4096;
        let mut guards: Vec<_> = self.lanes[..lanes]
            .iter()
            .map(|lane| lane.lock().unwrap_or_else(PoisonError::into_inner))
            .collect();
        let Some((first, others)) = guards.split_first_mut() else { return };
        let first = &mut first.gradients;
        let others: Vec<&[Tensor<f32>]> = others.iter().map(|lane| lane.gradients.as_slice()).collect();
        self.threads.install(|| {
            for (index, sum) in first.iter_mut().enumerate() {
                sum.data_mut().par_chunks_mut(BLOCK).enumerate().for_each(|(block, sums)| {
                    for other in &others {
                        let terms = &other[index].data()[block * BLOCK..][..sums.len()];
                        for (sum, &term) in sums.iter_mut().zip(terms) {
                            *sum += term;
                        }
                    }
                });
            }
        });
    }

    /// Calls `use_gradients` with the gradients of the last step: a tensor for each parameter, in the network's order.
    pub fn gradients<R: Send>(&self, use_gradients: impl FnOnce(&[Tensor<f32>]) -> R + Send) -> R {
        let lane = self.lanes[0].lock().unwrap_or_else(PoisonError::into_inner);
        let gradients = &lane.gradients;
        self.threads.install(|| use_gradients(gradients))
    }

    /// The logits of N x C x H x W images, N x K, without keeping anything for a backward pass.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images.
    pub fn predict(&self, model: &dyn Module<f32>, images: &Tensor<f32>) -> Result<Tensor<f32>, TrainError> {
        self.predict_from(model, images.shape(), |pool, from, to| images.entries_in(pool, from, to))
    }

    /// The logits of a batch, N x K.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images.
    pub fn predict_batch(&self, model: &dyn Module<f32>, batch: &Batch) -> Result<Tensor<f32>, TrainError> {
        self.predict_from(model, batch.shape(), |pool, from, to| batch.entries_in(pool, from, to))
    }

    fn predict_from(
        &self,
        model: &dyn Module<f32>,
        shape: Shape,
        entries: impl Fn(&Arc<BufferPool>, usize, usize) -> Tensor<f32> + Sync,
    ) -> Result<Tensor<f32>, TrainError> {
        let n = shape[0];
        let classes = model.output_shape(shape)?.iter().skip(1).product::<usize>();
        let mut logits = Tensor::zeros([n, classes]);
        let results: Vec<Mutex<ShardLogits>> = (0..n.div_ceil(SHARD)).map(|_| Mutex::default()).collect();
        self.for_each_task(results.len(), |shard, pool| {
            let (from, to) = (shard * SHARD, ((shard + 1) * SHARD).min(n));
            let tape = Tape::new(Context { conv: self.conv, ..Context::evaluation(Arc::clone(pool)) });
            let images = tape.constant(entries(pool, from, to));
            let output = model.forward(images).map(Var::into_value).map_err(TrainError::from);
            *results[shard].lock().unwrap_or_else(PoisonError::into_inner) = Some(output);
        });
        for (rows, result) in logits.data_mut().chunks_mut((SHARD * classes).max(1)).zip(results) {
            let result = result.into_inner().unwrap_or_else(PoisonError::into_inner);
            rows.copy_from_slice(result.expect("every shard was run")?.data());
        }
        Ok(logits)
    }

    /// Loss and accuracy over a batch, in evaluation mode.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the labels.
    pub fn evaluate(&self, model: &dyn Module<f32>, batch: &Batch) -> Result<Evaluation, TrainError> {
        let logits = self.predict_batch(model, batch)?;
        let labels = batch.labels();
        let correct = correct(logits.data(), labels);
        let tape = Tape::new(Context::evaluation(Arc::clone(BufferPool::global())));
        let loss = SoftmaxCrossEntropy { labels: labels.to_vec(), label_smoothing: 0.0, divisor: Some(1) };
        let loss = tape.apply(loss, [tape.constant(logits)])?;
        Ok(Evaluation { loss: f64::from(loss.value().item()), correct, images: labels.len() })
    }
}

/// The index of the largest logit of each row; the first of equals.
pub fn argmax(row: &[f32]) -> usize {
    let mut best = 0;
    for (index, &logit) in row.iter().enumerate() {
        if logit > row[best] {
            best = index;
        }
    }
    best
}

fn correct(logits: &[f32], labels: &[usize]) -> usize {
    let classes = logits.len() / labels.len().max(1);
    logits.chunks_exact(classes.max(1)).zip(labels).filter(|(row, label)| argmax(row) == **label).count()
}

/// The images `start..end` of a batch.
struct Shard<'a> {
    model: &'a dyn Module<f32>,
    batch: &'a Batch,
    start: usize,
    end: usize,
    settings: StepSettings,
    conv: ConvPath,
}

impl Shard<'_> {
    /// Forward and backward; adds the gradients (sets them, for a lane's first shard) and the sums to the lane's.
    fn run(
        &self,
        pool: &Arc<BufferPool>,
        identities: &[u64],
        first: bool,
        lane: &mut Lane,
    ) -> Result<(), TrainError> {
        let rows = self.start..self.end;
        let labels = &self.batch.labels()[rows.clone()];
        let context = Context {
            seed: self.settings.seed,
            epoch: self.settings.epoch,
            samples: self.batch.samples()[rows].to_vec(),
            conv: self.conv,
            ..Context::training(Arc::clone(pool))
        };
        let tape = Tape::new(context);
        let images = tape.constant(self.batch.entries_in(pool, self.start, self.end));
        let logits = self.model.forward(images)?;
        let correct = correct(logits.value().data(), labels);
        let n = self.batch.len();
        let loss = SoftmaxCrossEntropy {
            labels: labels.to_vec(),
            label_smoothing: self.settings.label_smoothing,
            divisor: Some(n),
        };
        let loss = tape.apply(loss, [logits])?;
        let sum = f64::from(loss.value().item()) * n as f64;
        lane.sums.add(Evaluation { loss: sum, correct, images: labels.len() });
        let gradients = tape.backward(loss)?;
        if lane.gradients.len() != identities.len() {
            lane.gradients = parameters(self.model)
                .iter()
                .map(|(_, parameter)| Tensor::zeros(parameter.value.shape()))
                .collect();
        }
        for (&identity, sum) in identities.iter().zip(&mut lane.gradients) {
            match gradients.parameter(identity) {
                Some(gradient) if first => sum.data_mut().copy_from_slice(gradient.data()),
                Some(gradient) => sum.add_assign(gradient),
                None if first => sum.data_mut().fill(0.0),
                None => {}
            }
        }
        Ok(())
    }
}
