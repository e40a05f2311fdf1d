//! One step over a batch, on many threads, with the same bits on any number of them.
//!
//! Where no layer looks across the batch, a batch is a sum over images. It is cut into a fixed number of
//! *lanes*, each lane into small *shards*. A worker takes a lane and runs its shards one after the other, forward and
//! backward, adding each shard's gradients to the lane's; the lanes' gradients are added up in their order, each as soon
//! as those before it are there. Which worker runs which lane changes nothing: the cuts and the order of every sum depend
//! on the batch alone.
//!
//! Each worker has a buffer pool of its own and begins with the lane of its own number, so that after the first step of a
//! batch size no worker needs fresh memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use autograd::{Bound, Context, Part, Run};
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, GradientSum, Shape, Tensor};

use super::error::TrainError;
use super::evaluation::Evaluation;
use super::shard::{Shard, Step};
use crate::data::Batch;
use crate::loss::Loss;
use crate::nn::{Module, Parameter, parameters};

/// The most lanes of a batch: the most threads that one step can use.
pub const LANES: usize = 8;
/// The most threads that may be asked for; more than any machine has cores.
pub const MAX_THREADS: usize = 1024;
/// The most images of a shard: few enough for its activations to stay near the core.
pub const SHARD: usize = 4;

/// What the random numbers of a step depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepSettings {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
}

/// Sums over the images of a lane, while it runs.
#[derive(Debug, Default)]
pub(super) struct LaneSums {
    /// For each parameter.
    pub(super) gradients: Vec<GradientSum<f32>>,
    pub(super) evaluation: Evaluation,
}

impl LaneSums {
    /// No sums yet, for so many parameters.
    fn new(parameters: usize) -> Self {
        let gradients = (0..parameters).map(|_| GradientSum::new()).collect();
        Self { gradients, evaluation: Evaluation::default() }
    }

    /// Writes the gradients, or adds them if `add`: what is in the Winograd domain comes out of it without a tensor of its own.
    fn write_to(self, gradients: &mut [Tensor<f32>], add: bool) {
        self.gradients.into_iter().zip(gradients).for_each(|(sum, gradient)| sum.write_to(gradient, add));
    }
}

/// Plans of a network for micro-batches of these sizes, each with the values of its parameters. `batch` is the shape of the whole batch.
pub(super) fn bind(
    model: &dyn Module<f32>,
    context: &Context,
    batch: Shape,
    sizes: impl Iterator<Item = usize>,
) -> Result<Vec<(usize, Bound<f32>)>, TrainError> {
    let parameters = parameters(model);
    let value = |identity| {
        let number = parameters.iter().position(|(_, own)| own.identity == identity);
        let number = number.expect("a network visits every parameter that its forward pass uses");
        (number, parameters[number].1.value.clone())
    };
    let mut all: Vec<(usize, Bound<f32>)> = Vec::new();
    for n in sizes {
        if all.iter().all(|(known, _)| *known != n) {
            let mut input = batch.to_vec();
            input[0] = n;
            let plan = model.plan(context, Shape::new(&input))?;
            all.push((n, Bound::new(plan, context, value)));
        }
    }
    Ok(all)
}

/// Sums over the images of whole lanes: a gradient for each parameter, and what [`Evaluation`] counts.
#[derive(Debug, Default)]
struct Sums {
    gradients: Vec<Tensor<f32>>,
    evaluation: Evaluation,
}

/// The sum over the lanes of a step.
#[derive(Debug, Default)]
struct Total {
    sums: Sums,
    /// Lanes that are in the sum: all below this one.
    next: usize,
    /// Lanes that were ready before their turn.
    early: BTreeMap<usize, Sums>,
    /// What went wrong in the first of the lanes in which something did.
    error: Option<(usize, TrainError)>,
}

impl Total {
    /// Adds the sums of `lane` when it is their turn, with those that waited for it.
    fn add(&mut self, lane: usize, sums: Sums) {
        self.early.insert(lane, sums);
        self.add_early();
    }

    fn add_early(&mut self) {
        while let Some(sums) = self.early.remove(&self.next) {
            self.sums.evaluation.add(sums.evaluation);
            for (sum, gradient) in self.sums.gradients.iter_mut().zip(&sums.gradients) {
                sum.add_assign(gradient);
            }
            self.next += 1;
        }
    }

    /// Adds the sums of the lane whose turn it is, with the bits of [`Total::add`]. The first is written to `gradients()`.
    fn add_in_turn(&mut self, sums: LaneSums, gradients: impl FnOnce() -> Vec<Tensor<f32>>) {
        if self.next == 0 {
            self.sums.gradients = gradients();
        }
        self.sums.evaluation.add(sums.evaluation);
        sums.write_to(&mut self.sums.gradients, self.next > 0);
        self.next += 1;
        self.add_early();
    }

    fn fail(&mut self, lane: usize, error: TrainError) {
        if self.error.as_ref().is_none_or(|&(first, _)| lane < first) {
            self.error = Some((lane, error));
        }
    }
}

/// The workers and the memory that steps and evaluations run in. See the module's documentation.
#[derive(Debug)]
pub struct Lanes {
    threads: rayon::ThreadPool,
    /// The memory of each worker.
    workers: Vec<Arc<BufferPool>>,
    /// Where the gradients of whole lanes are kept: room for all, since any number may wait for the first, which begins the total.
    /// Memory that is never written costs nothing, and the lowest is the first taken.
    gradients: Arc<BufferPool>,
    total: Mutex<Total>,
    pub(super) conv: ConvAlgorithm,
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
    /// Workers on this many threads, with the convolutions of [`ConvAlgorithm::current`].
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
        let workers = (0..threads).map(|_| BufferPool::new()).collect();
        Ok(Self {
            threads: pool,
            workers,
            gradients: BufferPool::new(),
            total: Mutex::default(),
            conv: ConvAlgorithm::current(),
        })
    }

    /// The same workers with this convolution algorithm, in steps and in evaluations.
    #[must_use]
    pub fn with_conv(self, conv: ConvAlgorithm) -> Self {
        Self { conv, ..self }
    }

    /// The number of threads.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.workers.len()
    }

    /// The convolution algorithm.
    #[must_use]
    pub fn conv(&self) -> ConvAlgorithm {
        self.conv
    }

    /// Runs `work` on these threads, so that what it does in parallel stays on them.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }

    /// As [`Lanes::install`], for work that goes parallel often and briefly, as an image does in every layer: the other threads
    /// look for work all the while. Waking a thread that went to sleep takes as long as its share of a small layer.
    pub(super) fn install_awake<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        /// Sends the other threads home, also after a panic.
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let done = AtomicBool::new(false);
        self.install(|| {
            let own = rayon::current_thread_index();
            rayon::scope(|scope| {
                scope.spawn_broadcast(|_, thread| {
                    while Some(thread.index()) != own && !done.load(Ordering::Acquire) {
                        // Runs what there is to do; if there is nothing, another process may.
                        if rayon::yield_now() != Some(rayon::Yield::Executed) {
                            std::thread::yield_now();
                        }
                    }
                });
                let _done = Done(&done);
                work()
            })
        })
    }

    /// The first worker's memory.
    pub(crate) fn pool(&self) -> &Arc<BufferPool> {
        &self.workers[0]
    }

    /// Calls `work(task, pool)` once for each task below `count`; each worker begins with the task of its own number.
    pub(super) fn for_each_task(&self, count: usize, work: impl Fn(usize, &Arc<BufferPool>) + Sync) {
        let next = AtomicUsize::new(self.threads());
        self.threads.broadcast(|thread| {
            let worker = &self.workers[thread.index()];
            let mut task = thread.index();
            while task < count {
                work(task, worker);
                task = next.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    /// A tensor for each parameter's gradient, not yet written.
    fn lane_gradients(&self, parameters: &[&Parameter<f32>]) -> Vec<Tensor<f32>> {
        let gradient =
            |parameter: &&Parameter<f32>| Tensor::empty_in(&self.gradients, parameter.value.shape());
        parameters.iter().map(gradient).collect()
    }

    fn total(&self) -> MutexGuard<'_, Total> {
        self.total.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes the gradients of the batch's mean `loss`, kept for [`Lanes::gradients`], and the sums over its images.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the loss the targets.
    pub fn step(
        &self,
        model: &dyn Module<f32>,
        batch: &Batch,
        loss: &dyn Loss<f32>,
        settings: StepSettings,
    ) -> Result<Evaluation, TrainError> {
        let n = batch.len();
        let divisor = loss.divisor(&batch.targets_in(self.pool(), 0, n));
        // Two at least, so that a batch of a few images has work for two threads.
        let lanes = n.div_ceil(SHARD).max(2).min(n).min(LANES);
        let parameters = parameters(model);
        let parameters: Vec<&Parameter<f32>> = parameters.iter().map(|&(_, parameter)| parameter).collect();
        *self.total() = Total::default();
        if self.gradients.free_bytes() == 0 {
            // Set aside at once, so that no later step needs more.
            drop((0..LANES).map(|_| self.lane_gradients(&parameters)).collect::<Vec<_>>());
        }
        let step = Step { batch, settings, loss, divisor, conv: self.conv };
        let images_of = |lane: usize| lane * n / lanes..(lane + 1) * n / lanes;
        let shards_of = |lane: usize| {
            let images = images_of(lane);
            images.clone().step_by(SHARD).map(move |start| start..images.end.min(start + SHARD))
        };
        let context = Context { conv: self.conv, ..Context::training(Arc::clone(self.pool())) };
        let sizes = (0..lanes).flat_map(shards_of).map(|shard| shard.len());
        let bound = bind(model, &context, batch.shape(), sizes)?;
        let shard_of = |shard: Range<usize>| {
            let (_, bound) = bound.iter().find(|(n, _)| *n == shard.len()).expect("a plan for each size");
            Shard { step: &step, bound, start: shard.start, end: shard.end }
        };
        if bound.iter().any(|(_, bound)| bound.plan().meets()) {
            let shards: Vec<Vec<Shard>> =
                (0..lanes).map(|lane| shards_of(lane).map(shard_of).collect()).collect();
            self.run_together(&shards, &parameters);
        } else {
            self.for_each_task(lanes, |lane, pool| {
                let mut sums = LaneSums::new(parameters.len());
                let result = shards_of(lane).map(shard_of).try_for_each(|shard| {
                    let context = shard.context(pool);
                    let mut run = shard.begin(pool);
                    shard.bound.advance(&context, &mut run, None);
                    let mut run = shard.turn(&context, run, &mut sums)?;
                    shard.bound.retreat(&context, &mut run, None, &mut sums.gradients);
                    Ok(())
                });
                self.end_lane(lane, result.map(|()| sums), &parameters);
            });
        }
        drop(bound);
        let mut total = self.total();
        match total.error.take() {
            Some((_, error)) => Err(error),
            None => Ok(total.sums.evaluation),
        }
    }

    /// Adds the sums of a lane to the total, or keeps them until it is their turn.
    fn end_lane(&self, lane: usize, sums: Result<LaneSums, TrainError>, parameters: &[&Parameter<f32>]) {
        let mut total = self.total();
        match sums {
            Err(error) => total.fail(lane, error),
            Ok(sums) if total.next == lane => total.add_in_turn(sums, || self.lane_gradients(parameters)),
            Ok(sums) => {
                drop(total);
                let (evaluation, mut gradients) = (sums.evaluation, self.lane_gradients(parameters));
                sums.write_to(&mut gradients, false);
                self.total().add(lane, Sums { gradients, evaluation });
            }
        }
    }

    /// Runs a step whose micro-batches meet: all shards go forward to the next meeting, then all from there on, and back the same way. A
    /// worker keeps its lanes from the beginning to the end, since its memory is theirs. All values that the backward pass needs are in
    /// memory at once, those of the whole batch.
    fn run_together(&self, shards: &[Vec<Shard<'_>>], parameters: &[&Parameter<f32>]) {
        struct Lane {
            runs: Vec<Run<f32>>,
            parts: Vec<Part>,
            sums: LaneSums,
            error: Option<TrainError>,
        }
        type Work<'a> = dyn Fn(&mut Lane, &[Shard<'_>], &Arc<BufferPool>, Option<&Part>) + Sync + 'a;
        let new = || Lane {
            runs: Vec::new(),
            parts: Vec::new(),
            sums: LaneSums::new(parameters.len()),
            error: None,
        };
        let lanes: Vec<Mutex<Lane>> = shards.iter().map(|_| Mutex::new(new())).collect();
        fn locked(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
            lane.lock().unwrap_or_else(PoisonError::into_inner)
        }
        let each = |work: &Work, joined: Option<&Part>| {
            self.threads.broadcast(|thread| {
                for lane in (thread.index()..shards.len()).step_by(self.threads()) {
                    let mut own = locked(&lanes[lane]);
                    if own.error.is_none() {
                        work(&mut own, &shards[lane], &self.workers[thread.index()], joined);
                    }
                }
            });
        };
        // What all shards brought to the meeting at which they wait, in their order; `None` if they do not wait.
        let join = || {
            let parts: Vec<Part> =
                lanes.iter().flat_map(|lane| std::mem::take(&mut locked(lane).parts)).collect();
            (!parts.is_empty()).then(|| Part::join(&parts))
        };
        // From meeting to meeting, until the way is over.
        let go = |work: &Work| {
            let mut joined = None;
            loop {
                each(work, joined.as_ref());
                joined = join();
                if joined.is_none() {
                    return;
                }
            }
        };
        each(
            &|lane, shards, pool, _| lane.runs = shards.iter().map(|shard| shard.begin(pool)).collect(),
            None,
        );
        go(&|lane, shards, pool, joined| {
            for (shard, run) in shards.iter().zip(&mut lane.runs) {
                lane.parts.extend(shard.bound.advance(&shard.context(pool), run, joined));
            }
        });
        each(
            &|lane, shards, pool, _| {
                let runs = std::mem::take(&mut lane.runs).into_iter().zip(shards);
                let turned = runs.map(|(run, shard)| shard.turn(&shard.context(pool), run, &mut lane.sums));
                match turned.collect() {
                    Ok(runs) => lane.runs = runs,
                    Err(error) => lane.error = Some(error),
                }
            },
            None,
        );
        // No lane goes back alone: the sums at a meeting would not be the batch's.
        if lanes.iter().all(|lane| locked(lane).error.is_none()) {
            go(&|Lane { runs, parts, sums, .. }, shards, pool, joined| {
                for (shard, run) in shards.iter().zip(runs) {
                    parts.extend(shard.bound.retreat(&shard.context(pool), run, joined, &mut sums.gradients));
                }
            });
        }
        for (index, lane) in lanes.into_iter().enumerate() {
            let Lane { sums, error, .. } = lane.into_inner().unwrap_or_else(PoisonError::into_inner);
            self.end_lane(index, error.map_or(Ok(sums), Err), parameters);
        }
    }

    /// Calls `use_gradients` with the gradients of the last step: a tensor for each parameter, in the network's order.
    pub fn gradients<R: Send>(&self, use_gradients: impl FnOnce(&[Tensor<f32>]) -> R + Send) -> R {
        let total = self.total();
        let gradients = &total.sums.gradients;
        self.threads.install(|| use_gradients(gradients))
    }
}

#[cfg(test)]
mod tests {
    use tensor::init::Init;

    use super::*;
    use crate::data::{ArrayDataset, DataLoader, LoaderOptions};
    use crate::loss::CrossEntropy;
    use crate::nn::{
        AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, Relu, Sequential, initialise, update_buffers,
    };

    fn lane(value: f32) -> Sums {
        let evaluation = Evaluation { loss: f64::from(value), correct: 1, images: 2 };
        Sums { gradients: vec![Tensor::full([3], value)], evaluation }
    }

    #[test]
    fn lanes_are_added_in_their_order_whenever_they_come() {
        // Rounding tells orders apart: (1e8 + 1) - 1e8 is 0, (1e8 - 1e8) + 1 is 1.
        let values = [1e8, 1.0, -1e8, 5.0];
        for in_turn in [false, true] {
            for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
                let mut total = Total::default();
                for index in order {
                    let Sums { gradients, evaluation } = lane(values[index]);
                    if total.next == index && (in_turn || index == 0) {
                        let mut sums = LaneSums { gradients: vec![GradientSum::new()], evaluation };
                        gradients.into_iter().for_each(|gradient| sums.gradients[0].add(gradient));
                        total.add_in_turn(sums, || vec![Tensor::full([3], f32::NAN)]);
                    } else {
                        total.add(index, Sums { gradients, evaluation });
                    }
                }
                assert_eq!(total.sums.gradients[0].data(), [5.0; 3]);
                assert_eq!((total.next, total.sums.evaluation.images), (4, 8));
                assert!(total.early.is_empty());
            }
        }
    }

    #[test]
    fn the_first_lane_s_error_is_told() {
        let mut total = Total::default();
        for lane in [3, 1, 2] {
            total.fail(lane, TrainError::Config(lane.to_string()));
        }
        assert_eq!(total.error.map(|(lane, _)| lane), Some(1));
    }

    #[test]
    fn threads_that_are_kept_awake_work_and_go_home() {
        for threads in [1, 2, 5] {
            let lanes = Lanes::new(threads).unwrap();
            let halves = || lanes.install_awake(|| rayon::join(rayon::current_thread_index, || 7));
            assert!(matches!(halves(), (Some(_), 7)));
            // If a panic left them waiting for work, the scope around them would never end.
            let fail = std::panic::AssertUnwindSafe(|| lanes.install_awake(|| panic!("the work failed")));
            let panicked = std::panic::catch_unwind(fail);
            assert!(panicked.is_err());
            assert!(matches!(halves(), (Some(_), 7)));
        }
    }

    /// Two normalizations at which a batch of several lanes meets.
    fn normalized() -> Sequential<f32> {
        let block = |c_in| {
            Sequential::new().with(Conv2d::new(c_in, 3, 3, 1, 1).without_bias()).with(BatchNorm2d::new(3))
        };
        let mut net = Sequential::new()
            .with(block(1).with(Relu))
            .with(block(3).with(Relu))
            .with(AdaptiveAvgPool2d::GLOBAL)
            .with(Flatten)
            .with(Linear::new(3, 2));
        initialise(&mut net, Init::HeNormal, Init::Constant(0.1), 3);
        net
    }

    fn batch(images: usize) -> Batch {
        let pixels: Vec<f32> = (0..images * 30).map(|i| (i * 7919 % 1013) as f32 / 500.0 - 1.0).collect();
        let labels: Vec<usize> = (0..images).map(|i| i % 2).collect();
        let data = ArrayDataset::new([1, 5, 6], pixels, labels).unwrap();
        let options = LoaderOptions { batch_size: images, ..LoaderOptions::default() };
        DataLoader::new(Arc::new(data), options).unwrap().epoch(0).next().unwrap().unwrap()
    }

    /// Loss, gradients and running statistics of a step of micro-batches are those of the whole batch on a tape, and the same bits on
    /// any number of threads.
    #[test]
    fn a_batch_meets_at_its_normalizations() {
        let batch = batch(21);
        let settings = StepSettings::default();
        let step = |threads: usize| {
            let (mut net, lanes) = (normalized(), Lanes::new(threads).unwrap());
            let sums = lanes.step(&net, &batch, &CrossEntropy::default(), settings).unwrap();
            let gradients = lanes.gradients(<[Tensor<f32>]>::to_vec);
            update_buffers(&mut net);
            let buffers: Vec<_> = parameters(&net)
                .into_iter()
                .filter(|(_, own)| own.is_buffer())
                .map(|(_, own)| own.value.data().to_vec())
                .collect();
            (sums.loss, gradients, buffers)
        };
        let one = step(1);
        for threads in [2, 3, 8] {
            assert_eq!(step(threads), one, "{threads} threads");
        }
        let mut net = normalized();
        let pool = BufferPool::new();
        let tape = autograd::Tape::new(Context::training(Arc::clone(&pool)));
        let output = net.forward(tape.constant(batch.images_in(&pool))).unwrap();
        let loss =
            CrossEntropy::default().mean(output, tape.constant(batch.targets_in(&pool, 0, 21))).unwrap();
        assert!((f64::from(loss.value().item()) * 21.0 / one.0 - 1.0).abs() < 1e-5);
        let found = tape.backward(loss).unwrap();
        for ((name, own), gradient) in
            parameters(&net).into_iter().zip(&one.1).filter(|(own, _)| !own.1.is_buffer())
        {
            let expected = found.parameter(own.identity).unwrap().data();
            let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * largest;
            assert!(gradient.data().iter().zip(expected).all(near), "{name}: {gradient:?}, {expected:?}");
        }
        update_buffers(&mut net);
        let buffers = parameters(&net).into_iter().filter(|(_, own)| own.is_buffer());
        for ((name, own), found) in buffers.zip(&one.2) {
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-6;
            assert!(own.value.data().iter().zip(found).all(near), "{name}");
        }
    }
}
