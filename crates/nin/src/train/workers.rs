//! One step over a batch, on many threads, with the same bits on any number of them.
//!
//! A batch is a sum over images if nothing looks across the batch: a network or a loss that does gets the batch whole, and its
//! convolutions share the threads. Any other batch is cut into a fixed number of *groups*, each group into small
//! *micro-batches*. A worker takes a group and runs its micro-batches one after the other, forward and backward; a worker that
//! finds no group helps another with its group, and the micro-batches of a group add their gradients in turn
//! (`AccumulationGroup`). The groups' gradients are added up in their order, each as soon as those before it are there. Who runs
//! what changes nothing: the cuts and the order of every sum depend on the batch alone.
//!
//! Each worker has a buffer pool of its own and begins with the group of its own number, so that after the first step of a batch
//! size no worker needs fresh memory. Sums belong to groups, of which few are begun at a time: more threads bring more
//! activations, not more sums.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use autograd::{Context, Part, Run};
use rayon::prelude::*;
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, Tensor, lock};

use super::accumulation::{AccumulationGroup, GroupSums, Sums, Total, Turns, write_all};
use super::error::TrainError;
use super::evaluation::Metrics;
use super::micro_batch::{MicroBatch, StepInputs, bind, micro_batch_images};
use super::start::check_weights;
use crate::data::Batch;
use crate::loss::Loss;
use crate::nn::{Module, Parameter, parameters};

/// The most groups of a batch. As many threads as it has micro-batches can work on it; more groups would be more sums to take out
/// of the Winograd domain and to keep.
const GROUPS: usize = 8;
/// The most threads that may be asked for; more than any machine has cores.
const MAX_THREADS: usize = 1024;
/// Images of a group at least, if a batch has as many for two groups: the sums of each leave the Winograd domain and are added to
/// the total, which takes the time of some images.
const IMAGES_A_GROUP: usize = 8;
/// Workers for each group under way, but for the first groups of [`BEGUN`]: more groups are more memory, and more workers on one
/// wait for each other.
const WORKERS_A_GROUP: usize = 2;
/// Groups that are under way in any case before workers help with those rather than begin another.
const BEGUN: usize = 2;
/// The time that a thread that is kept awake looks for work in vain. It must end: where several callers share the workers, what a
/// caller waits for may lie below another's search on the same thread.
const AWAKE: Duration = Duration::from_millis(1);

/// All that the random numbers of a step depend on.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepSettings {
    /// The seed of the run.
    pub seed: u64,
    /// The epoch, counted from 0.
    pub epoch: u64,
}

/// Who takes which micro-batch of a step.
struct Schedule {
    groups: Vec<Progress>,
    /// Groups under way, whose sums are in memory, before workers help with those.
    at_once: usize,
}

/// Of a group's micro-batches, those that have begun, those that are over, and all.
struct Progress {
    begun: usize,
    over: usize,
    all: usize,
}

impl Schedule {
    /// A schedule of groups of these numbers of micro-batches, none of which has begun.
    fn new(micro_batches: impl Iterator<Item = usize>, at_once: usize) -> Self {
        Self { groups: micro_batches.map(|all| Progress { begun: 0, over: 0, all }).collect(), at_once }
    }

    /// The next micro-batch for a worker, with its group. `own` is the group of the micro-batch that it is done with; without one
    /// it begins, with group `first` before any other.
    fn next(&mut self, own: Option<usize>, first: usize) -> Option<(usize, usize)> {
        if let Some(own) = own {
            self.groups[own].over += 1;
        }
        let group = self.choose(own, first)?;
        self.groups[group].begun += 1;
        Some((group, self.groups[group].begun - 1))
    }

    /// The group of the next micro-batch: the worker's own while it has any; then one that has not begun, or one that others work
    /// on if many are under way.
    fn choose(&self, own: Option<usize>, first: usize) -> Option<usize> {
        let left = |group: usize| self.groups[group].all - self.groups[group].begun;
        let has_begun = |&group: &usize| self.groups[group].begun > 0;
        if let Some(own) = own.filter(|&own| left(own) > 0) {
            return Some(own);
        }
        let all = 0..self.groups.len();
        let of_its_number =
            Some(first).filter(|first| own.is_none() && all.contains(first) && !has_begun(first));
        let to_begin = of_its_number.or_else(|| all.clone().find(|group| !has_begun(group)));
        // The one with most left, of equal ones the first.
        let to_help =
            all.filter(has_begun).rev().max_by_key(|&group| left(group)).filter(|&group| left(group) > 0);
        let under_way = self.groups.iter().filter(|own| own.begun > 0 && own.over < own.all).count();
        if under_way < self.at_once { to_begin.or(to_help) } else { to_help.or(to_begin) }
    }
}

/// Groups of a batch of `n` images, `images` of which are a micro-batch. Two at least, so that a batch of a few images has work
/// for two threads.
fn groups_of(n: usize, images: usize) -> usize {
    n.div_ceil(IMAGES_A_GROUP.max(images)).max(2).min(n).min(GROUPS)
}

/// The workers and the memory that steps and evaluations run in. See the module's documentation.
#[derive(Debug)]
pub struct Workers {
    threads: rayon::ThreadPool,
    /// The memory of each worker.
    workers: Vec<Arc<BufferPool>>,
    /// The pool of groups' gradients, of those that run and of those that wait for the first, which begins the total. Memory
    /// that is never written costs nothing, and what was in use before is taken first.
    gradients: Arc<BufferPool>,
    total: Mutex<Total>,
    pub(super) conv: ConvAlgorithm,
}

/// Refuses numbers of threads that cannot be.
///
/// # Errors
/// [`TrainError::Config`] for 0 threads or more than 1024.
pub fn check_threads(threads: usize) -> Result<(), TrainError> {
    if threads == 0 || threads > MAX_THREADS {
        return Err(TrainError::Config(format!("threads: expected 1 to {MAX_THREADS}, found {threads}")));
    }
    Ok(())
}

impl Workers {
    /// Workers on this many threads, with the fastest convolutions.
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
            conv: ConvAlgorithm::Auto,
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

    /// As [`Workers::install`], for work that goes parallel often and briefly, as an image does in every layer: the other threads
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
                    let mut last = Instant::now();
                    while Some(thread.index()) != own
                        && !done.load(Ordering::Acquire)
                        && last.elapsed() < AWAKE
                    {
                        // Runs what there is to do; if there is nothing, another process may.
                        if rayon::yield_now() == Some(rayon::Yield::Executed) {
                            last = Instant::now();
                        } else {
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

    /// The memory of the worker that a micro-batch of this number belongs to where all are in memory at once.
    fn worker_of(&self, number: usize) -> &Arc<BufferPool> {
        &self.workers[number % self.threads()]
    }

    /// A tensor for each parameter's gradient, not yet written.
    fn group_gradients(&self, parameters: &[&Parameter<f32>]) -> Vec<Tensor<f32>> {
        let gradient =
            |parameter: &&Parameter<f32>| Tensor::empty_in(&self.gradients, parameter.value.shape());
        parameters.iter().map(gradient).collect()
    }

    fn total(&self) -> MutexGuard<'_, Total> {
        lock(&self.total)
    }

    /// Computes the gradients of the batch's mean `loss`, kept for [`Workers::gradients`], and the sums over its images.
    ///
    /// The workers keep the gradients of one step, so that two steps at once would mix theirs. That does not compile:
    ///
    /// ```compile_fail,E0596
    /// # use nin::{data::Batch, loss::CrossEntropy, nn::Relu, train::{StepSettings, Workers}};
    /// fn shared(workers: &Workers, batch: &Batch) {
    ///     let _ = workers.step(&Relu, batch, &CrossEntropy::default(), StepSettings::default());
    /// }
    /// ```
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the loss the targets, or the weights of several layers are all
    /// zeros.
    ///
    /// # Panics
    /// If the network's flow depends on values, since it is traced on shapes alone, or it does not visit a parameter that it
    /// uses.
    pub fn step(
        &mut self,
        model: &dyn Module<f32>,
        batch: &Batch,
        loss: &dyn Loss<f32>,
        settings: StepSettings,
    ) -> Result<Metrics, TrainError> {
        let n = batch.len();
        let divisor = loss.divisor(&batch.targets_in(self.pool(), 0, n));
        let context = Context { conv: self.conv, ..Context::training(Arc::clone(self.pool())) };
        let cut =
            if loss.looks_across() { None } else { micro_batch_images(model, &context, batch.shape())? };
        let (groups, images) = cut.map_or((n.min(1), n.max(1)), |images| (groups_of(n, images), images));
        let parameters = parameters(model);
        let parameters: Vec<&Parameter<f32>> = parameters.iter().map(|&(_, parameter)| parameter).collect();
        check_weights(parameters.iter().copied())?;
        *self.total() = Total::default();
        if self.gradients.free_bytes() == 0 {
            // Set aside at once, so that no later step needs more: gradients of every group that may wait for its turn, and of
            // each that is begun sums in the Winograd domain, four times as large. What is never written takes no memory.
            let sets = GROUPS + 4 * self.threads().min(GROUPS);
            drop((0..sets).map(|_| self.group_gradients(&parameters)).collect::<Vec<_>>());
        }
        let step = StepInputs { batch, settings, loss, divisor, conv: self.conv };
        let micro_batches_of = |group: usize| {
            let (start, end) = (group * n / groups, (group + 1) * n / groups);
            (start..end).step_by(images).map(move |start| start..end.min(start + images))
        };
        let sizes = (0..groups).flat_map(micro_batches_of).map(|micro_batch| micro_batch.len());
        let bound = bind(model, &context, batch.shape(), sizes)?;
        let micro_batch_of =
            |Range { start, end }| MicroBatch { step: &step, bound: &bound[&(end - start)], start, end };
        let group_of = |group| {
            AccumulationGroup::new(
                micro_batches_of(group).map(micro_batch_of).collect(),
                parameters.len(),
                &self.gradients,
            )
        };
        let groups: Vec<AccumulationGroup> = (0..groups).map(group_of).collect();
        if bound.values().any(|bound| bound.plan().meets()) {
            self.run_together(&groups, &parameters);
        } else {
            self.run_in_turn(&groups, &parameters);
        }
        drop(groups);
        drop(bound);
        let mut total = self.total();
        match total.errors.pop_first() {
            Some((_, error)) => Err(error),
            None => Ok(total.sums.metrics),
        }
    }

    /// Runs a step whose micro-batches need nothing of each other.
    fn run_in_turn(&self, groups: &[AccumulationGroup<'_>], parameters: &[&Parameter<f32>]) {
        let micro_batches = groups.iter().map(|group| group.micro_batches.len());
        let at_once = BEGUN.max(self.threads() / WORKERS_A_GROUP);
        let schedule = Mutex::new(Schedule::new(micro_batches, at_once));
        let next = |own, first| lock(&schedule).next(own, first);
        self.threads.broadcast(|thread| {
            let (pool, mut own) = (&self.workers[thread.index()], None);
            while let Some((index, number)) = next(own, thread.index()) {
                own = Some(index);
                let group = &groups[index];
                let _guard = group.guard();
                let mut turns = group.turns(number);
                let mut run = || {
                    if group.has_failed() {
                        return Ok(Metrics::default());
                    }
                    let micro_batch = &group.micro_batches[number];
                    let context = micro_batch.context(pool);
                    let mut run = micro_batch.begin(pool);
                    micro_batch.bound.advance(&context, &mut run, None);
                    let (mut run, metrics) = micro_batch.turn(&context, run)?;
                    micro_batch.bound.retreat(&context, &mut run, None, &mut turns);
                    Ok(metrics)
                };
                let result = run();
                if turns.end(result) {
                    self.end_group(index, group.end(), parameters);
                }
            }
        });
    }

    /// Adds the sums of a group to the total, or keeps them until it is their turn.
    fn end_group(&self, group: usize, sums: Result<GroupSums, TrainError>, parameters: &[&Parameter<f32>]) {
        let mut total = self.total();
        match sums {
            Err(error) => drop(total.errors.insert(group, error)),
            Ok((sums, metrics)) if total.next == group => {
                total.add_in_turn(sums, metrics, || self.group_gradients(parameters));
            }
            Ok((sums, metrics)) => {
                drop(total);
                let mut gradients = self.group_gradients(parameters);
                write_all(sums, &mut gradients, false);
                self.total().add(group, Sums { gradients, metrics });
            }
        }
    }

    /// Runs a step whose micro-batches meet. Gradients go to the total from meeting to meeting.
    fn run_together(&self, groups: &[AccumulationGroup<'_>], parameters: &[&Parameter<f32>]) {
        let passes = Passes::begin(self, groups);
        passes.until_over(
            |pass, context, joined| pass.micro_batch.bound.advance(context, &mut pass.run, joined),
            || (),
        );
        passes.each(|pass, context| {
            let run = std::mem::take(&mut pass.run);
            match pass.micro_batch.turn(context, run) {
                Ok((run, metrics)) => (pass.run, pass.result) = (run, Ok(metrics)),
                Err(error) => pass.result = Err(error),
            }
        });
        let mut gradients: Vec<(Tensor<f32>, bool)> =
            self.group_gradients(parameters).into_iter().map(|gradient| (gradient, false)).collect();
        // No micro-batch goes back alone: the sums at a meeting would not be the batch's.
        if passes.all.iter().all(|pass| lock(pass).result.is_ok()) {
            passes.until_over(
                |Pass { micro_batch, turns, run, .. }, context, joined| {
                    micro_batch.bound.retreat(context, run, joined, turns)
                },
                || self.take_sums(groups, &mut gradients),
            );
        }
        for pass in passes.all {
            let Pass { turns, group, result, .. } = pass.into_inner().unwrap_or_else(PoisonError::into_inner);
            if turns.end(result) {
                match groups[group].end() {
                    Ok((_, metrics)) => self.total().sums.metrics.add(metrics),
                    Err(error) => drop(self.total().errors.insert(group, error)),
                }
            }
        }
        let zeroed = |(mut gradient, begun): (Tensor<f32>, bool)| {
            if !begun {
                gradient.data_mut().fill(0.0);
            }
            gradient
        };
        self.total().sums.gradients = gradients.into_iter().map(zeroed).collect();
    }

    /// Takes what the groups have added up so far to the total's gradients, each of which knows whether anything is in it.
    fn take_sums(&self, groups: &[AccumulationGroup<'_>], gradients: &mut [(Tensor<f32>, bool)]) {
        let take = |number: usize, (gradient, begun): &mut (Tensor<f32>, bool)| {
            let sums = groups.iter().map(|group| group.take(number, &self.gradients));
            for sum in sums.filter(|sum| !sum.is_empty()) {
                sum.write_to(gradient, *begun);
                *begun = true;
            }
        };
        self.install(|| {
            gradients.par_iter_mut().enumerate().for_each(|(number, gradient)| take(number, gradient));
        });
    }

    /// Calls `use_gradients` with the gradients of the last step: a tensor for each parameter, in the network's order.
    pub fn gradients<R: Send>(&self, use_gradients: impl FnOnce(&[Tensor<f32>]) -> R + Send) -> R {
        let total = self.total();
        let gradients = &total.sums.gradients;
        self.threads.install(|| use_gradients(gradients))
    }
}

/// The micro-batches of a step that meet: all go forward to the next meeting, then all from there on, and back the same way. All
/// values that the backward pass needs are in memory at once, those of the whole batch.
struct Passes<'a> {
    workers: &'a Workers,
    groups: &'a [AccumulationGroup<'a>],
    all: Vec<Mutex<Pass<'a>>>,
}

/// A micro-batch on its way.
struct Pass<'a> {
    group: usize,
    micro_batch: &'a MicroBatch<'a>,
    turns: Turns<'a>,
    run: Run<f32>,
    /// The part that the micro-batch brought to the meeting at which it waits.
    part: Option<Part>,
    result: Result<Metrics, TrainError>,
}

impl<'a> Passes<'a> {
    /// All micro-batches of the groups, in their order.
    fn begin(workers: &'a Workers, groups: &'a [AccumulationGroup<'a>]) -> Self {
        let mut all = Vec::new();
        for (index, group) in groups.iter().enumerate() {
            for (number, micro_batch) in group.micro_batches.iter().enumerate() {
                let (turns, run) = (group.turns(number), micro_batch.begin(workers.worker_of(all.len())));
                let result = Ok(Metrics::default());
                all.push(Mutex::new(Pass { group: index, micro_batch, turns, run, part: None, result }));
            }
        }
        Self { workers, groups, all }
    }

    /// Does some work on every micro-batch. A worker keeps its micro-batches from the beginning to the end, since its memory is
    /// theirs.
    fn each(&self, work: impl Fn(&mut Pass<'a>, &Context) + Sync) {
        self.workers.threads.broadcast(|thread| {
            // After a panic this thread's other micro-batches do not come either.
            let _guards: Vec<_> = self.groups.iter().map(AccumulationGroup::guard).collect();
            let own = self.all.iter().skip(thread.index()).step_by(self.workers.threads());
            for pass in own {
                let mut pass = lock(pass);
                let context = pass.micro_batch.context(self.workers.worker_of(thread.index()));
                work(&mut pass, &context);
            }
        });
    }

    /// Works from meeting to meeting until the way is over, and calls `after` at each and at the end. The work goes on from what
    /// was joined at the meeting before and answers what the micro-batch brings to the next. Parts are joined in the order of the
    /// micro-batches.
    fn until_over(
        &self,
        work: impl Fn(&mut Pass<'a>, &Context, Option<&Part>) -> Option<Part> + Sync,
        mut after: impl FnMut(),
    ) {
        let mut joined = None;
        loop {
            self.each(|pass, context| pass.part = work(pass, context, joined.as_ref()));
            after();
            let parts: Vec<Part> = self.all.iter().filter_map(|pass| lock(pass).part.take()).collect();
            if parts.is_empty() {
                return;
            }
            joined = Some(Part::join(&parts));
        }
    }
}

#[cfg(test)]
mod tests {
    use autograd::Var;
    use tensor::init::Init;
    use tensor::ops::{Mean, Sum};
    use tensor::{Element, UnaryOp};

    use super::*;
    use crate::loss::{CrossEntropy, from_fn};
    use crate::nn::{
        AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, Output, Relu, Sequential, initialize,
        update_buffers,
    };
    use crate::testing;

    #[test]
    fn a_worker_begins_with_its_own_group_and_helps_when_many_have_begun() {
        let mut schedule = Schedule::new([2, 2, 3, 1, 1].into_iter(), 2);
        let mut next = |own, first| schedule.next(own, first);
        assert_eq!(next(None, 1), Some((1, 0)));
        assert_eq!(next(None, 9), Some((0, 0)), "a worker beyond the groups");
        assert_eq!(next(None, 2), Some((0, 1)), "two are under way: the first of those with most left");
        assert_eq!(next(Some(1), 1), Some((1, 1)), "its own first");
        assert_eq!(next(Some(1), 1), Some((2, 0)), "it was the last to end");
        assert_eq!(next(Some(0), 2), Some((2, 1)), "the first of its group is not over yet");
        assert_eq!(next(Some(0), 9), Some((3, 0)));
        assert_eq!(next(Some(3), 9), Some((4, 0)));
        assert_eq!(next(Some(2), 1), Some((2, 2)));
        assert_eq!(next(Some(2), 2), None, "two are under way, and all have begun");
        assert_eq!(next(Some(4), 9), None);
    }

    #[test]
    fn small_batches_have_few_groups() {
        let found = [(1, 2), (3, 2), (16, 2), (32, 2), (32, 4), (64, 4), (128, 2), (256, 8)]
            .map(|(n, images)| groups_of(n, images));
        assert_eq!(found, [1, 2, 2, 4, 4, 8, 8, 8]);
    }

    #[test]
    fn threads_that_are_kept_awake_work_and_go_home() {
        for threads in [1, 2, 5] {
            let groups = Workers::new(threads).unwrap();
            let halves = || groups.install_awake(|| rayon::join(rayon::current_thread_index, || 7));
            assert!(matches!(halves(), (Some(_), 7)));
            // If a panic left them waiting for work, the scope around them would never end.
            let fail = std::panic::AssertUnwindSafe(|| groups.install_awake(|| panic!("the work failed")));
            let panicked = std::panic::catch_unwind(fail);
            assert!(panicked.is_err());
            assert!(matches!(halves(), (Some(_), 7)));
        }
    }

    /// Two normalizations at which a batch of several groups meets.
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
        initialize(&mut net, Init::HeNormal, Init::Constant(0.1), 3);
        net
    }

    fn batch(count: usize) -> Batch {
        testing::batch(&testing::images([1, 5, 6], (0..count).map(|i| i % 2)))
    }

    /// Loss, gradients and running statistics of a step of micro-batches are those of the whole batch on a tape, and the same
    /// bits on any number of threads.
    #[test]
    fn a_batch_meets_at_its_normalizations() {
        let batch = batch(21);
        let settings = StepSettings::default();
        let step = |threads: usize| {
            let (mut net, mut groups) = (normalized(), Workers::new(threads).unwrap());
            let sums = groups.step(&net, &batch, &CrossEntropy::default(), settings).unwrap();
            let gradients = groups.gradients(<[Tensor<f32>]>::to_vec);
            update_buffers(&mut net);
            let buffers: Vec<_> = parameters(&net)
                .into_iter()
                .filter(|(_, own)| own.is_buffer())
                .map(|(_, own)| own.value.data().to_vec())
                .collect();
            (sums.loss, gradients, buffers)
        };
        let one = step(1);
        for threads in [2, 3, 8, 32] {
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

    /// A network of what a function makes of a batch of 28 x 1 x 5 x 6.
    #[derive(Debug)]
    struct After {
        of: for<'t> fn(Var<'t, f32>) -> Output<'t, f32>,
        net: Sequential<f32>,
    }

    impl Module<f32> for After {
        crate::visit_fields!(f32: net);

        fn forward<'t>(&self, x: Var<'t, f32>) -> Output<'t, f32> {
            self.net.forward((self.of)(x)?)
        }
    }

    /// Each value less its mean over an axis.
    fn centered(x: Var<'_, f32>, axis: usize) -> Output<'_, f32> {
        let mean = x.clone().mean(Mean { axes: Some(vec![axis]), keepdim: true })?;
        x.sub(mean)
    }

    /// The variance of the outputs over the batch: a loss that is no sum over samples.
    struct Variance;

    impl Loss<f32> for Variance {
        fn looks_across(&self) -> bool {
            true
        }

        fn share<'t>(&self, output: Var<'t, f32>, _: Var<'t, f32>, divisor: f64) -> Output<'t, f32> {
            let mean = output.clone().mean(Mean { axes: Some(vec![0]), keepdim: true })?;
            let apart = output.sub(mean)?;
            apart.clone().mul(apart)?.sum(Sum::default())?.scale(1.0 / divisor)
        }
    }

    /// What a network or a loss that looks across the batch answers is that of a tape: the batch is not cut.
    #[test]
    fn what_looks_across_the_batch_gets_it_whole() {
        let batch = batch(28);
        let after = |of| After { of, net: testing::linear(30, 2) };
        let by_mean = after(|x| centered(x, 0));
        let by_groups = after(|x| centered(x.reshape([4, 7, 30])?, 1)?.reshape([28, 30]));
        // Training cuts it, since the parts meet; evaluation does not.
        let by_statistics = after(|x| {
            let [weight, bias] = [1.0, 0.0].map(|value| x.tape().constant(Tensor::full([1], value)));
            x.batch_norm2d(weight, bias, None, tensor::ops::BatchNorm2d::default())
        });
        let by_pairs =
            After { of: |x| x.clone().flatten()?.linear(x.flatten()?, None), net: testing::linear(28, 2) };
        let (plain, entropy) = (testing::linear(30, 2), CrossEntropy::default());
        let cases: [(&str, &dyn Module<f32>, &dyn Loss<f32>); 5] = [
            ("mean", &by_mean, &entropy),
            ("groups", &by_groups, &entropy),
            ("statistics", &by_statistics, &entropy),
            ("pairs", &by_pairs, &entropy),
            ("loss", &plain, &Variance),
        ];
        let near = |found: &[f32], expected: &[f32]| {
            let largest = expected.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * largest;
            found.len() == expected.len() && found.iter().zip(expected).all(near)
        };
        for (name, net, loss) in cases {
            let tape = autograd::Tape::new(Context::default());
            let pool = BufferPool::global();
            let output = net.forward(tape.constant(batch.images_in(pool))).unwrap();
            let logits = output.value().clone();
            let mean = loss.mean(output, tape.constant(batch.targets_in(pool, 0, 28))).unwrap();
            let expected = f64::from(mean.value().item());
            let gradients = tape.backward(mean).unwrap();
            for threads in [1, 3, 32] {
                let mut workers = Workers::new(threads).unwrap();
                let found = workers.step(net, &batch, loss, StepSettings::default()).unwrap();
                let evaluated = workers.evaluate(net, &batch, loss).unwrap();
                for mean in [found.mean_loss(), evaluated.mean_loss()] {
                    assert!((mean / expected - 1.0).abs() < 1e-6, "{name}, {threads}: {mean}, {expected}");
                }
                let predicted = workers.predict_batch(net, &batch).unwrap();
                assert!(near(predicted.data(), logits.data()), "{name}, {threads}");
                workers.gradients(|all| {
                    for ((path, own), found) in parameters(net).into_iter().zip(all) {
                        let expected = gradients.parameter(own.identity).unwrap().data();
                        assert!(near(found.data(), expected), "{name}, {threads}: {path}");
                    }
                });
            }
        }
    }

    #[test]
    fn a_loss_that_is_no_number_is_an_error() {
        let (net, batch, loss) = (testing::linear(30, 2), batch(6), from_fn(|output, _| output.abs()));
        let mut workers = Workers::new(2).unwrap();
        let found = [
            workers.step(&net, &batch, &loss, StepSettings::default()),
            workers.evaluate(&net, &batch, &loss),
        ];
        for (found, images) in found.into_iter().zip([2, 6]) {
            let error = found.unwrap_err().to_string();
            assert_eq!(
                error,
                format!("loss: expected one number, found {images} x 2: end it with a mean or a sum")
            );
        }
    }

    /// A group of one image and one of two, the errors of which tell their images: whichever fails first, it is the first's.
    #[test]
    fn of_groups_that_fail_differently_the_first_is_told() {
        let loss = from_fn(|output, _| output.abs());
        for net in [testing::linear(30, 2), normalized()] {
            for threads in [1, 2, 5] {
                let mut workers = Workers::new(threads).unwrap();
                let error = workers.step(&net, &batch(3), &loss, StepSettings::default()).unwrap_err();
                assert!(error.to_string().contains("found 1 x 2: "), "{threads} threads: {error}");
            }
        }
    }

    #[test]
    fn layers_of_zeros_are_refused() {
        let layers =
            || Sequential::new().with(Flatten).with(Linear::new(30, 4)).with(Relu).with(Linear::new(4, 2));
        let mut workers = Workers::new(2).unwrap();
        let mut step = |net: &Sequential<f32>| {
            workers.step(net, &batch(6), &CrossEntropy::default(), StepSettings::default())
        };
        let error = step(&layers()).unwrap_err().to_string();
        assert!(error.contains("all weights are zeros"), "{error}");
        let mut net = layers();
        initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 1);
        step(&net).unwrap();
    }

    /// An op that panics on its way back with one of the images.
    #[derive(Debug, Clone)]
    struct Fails;

    impl UnaryOp for Fails {
        type Saved<T: Element> = ();

        const NAME: &'static str = "fails";

        fn compute<T: Element>(&self, _: &Context, x: Tensor<T>) -> (Tensor<T>, ()) {
            (x, ())
        }

        fn gradient<T: Element>(&self, context: &Context, (): (), dy: Tensor<T>) -> Tensor<T> {
            assert!(!context.samples.contains(&0), "the op failed");
            dy
        }
    }

    /// Those who wait for the turn of a micro-batch whose thread panics would wait forever.
    #[test]
    fn a_panic_in_a_step_ends_it() {
        for net in [
            testing::linear(30, 2).with(Fails).with(Linear::new(2, 2)),
            normalized().with(Fails).with(Linear::new(2, 2)),
        ] {
            for threads in [1, 3] {
                let mut workers = Workers::new(threads).unwrap();
                let mut step =
                    || workers.step(&net, &batch(40), &CrossEntropy::default(), StepSettings::default());
                let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| step().map(drop)));
                assert!(panicked.is_err(), "{threads} threads");
            }
        }
    }
}
