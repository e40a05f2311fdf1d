//! A group of a step: a run of micro-batches whose gradients are added one after the other, on one thread or on several.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use autograd::ParameterSums;
use tensor::{BufferPool, GradientSum};

use super::error::TrainError;
use super::evaluation::Metrics;
use super::micro_batch::MicroBatch;

/// The micro-batches of a group, and the sums to which each adds in its turn.
///
/// For every parameter the micro-batches take turns in their order, so that no bit depends on who runs them. Micro-batches on several threads work as
/// in a pipeline: on the way back each is a few ops behind the one before it.
pub(super) struct AccumulationGroup<'a> {
    pub(super) micro_batches: Vec<MicroBatch<'a>>,
    state: Mutex<State>,
    /// A turn has passed.
    passed: Condvar,
}

struct State {
    /// For each parameter.
    sums: Vec<GradientSum<f32>>,
    /// For each parameter the micro-batch whose turn it is.
    turns: Vec<usize>,
    metrics: Vec<Metrics>,
    /// What went wrong in the first of the micro-batches in which something did. No one waits for a turn then.
    error: Option<(usize, TrainError)>,
    /// A micro-batch's thread panicked. No one waits for a turn then.
    broken: bool,
    /// Shards that are over.
    over: usize,
}

impl<'a> AccumulationGroup<'a> {
    /// The sums' own forms take memory of `pool`.
    pub(super) fn new(micro_batches: Vec<MicroBatch<'a>>, parameters: usize, pool: &Arc<BufferPool>) -> Self {
        let state = State {
            sums: (0..parameters).map(|_| GradientSum::in_pool(pool)).collect(),
            turns: vec![0; parameters],
            metrics: vec![Metrics::default(); micro_batches.len()],
            error: None,
            broken: false,
            over: 0,
        };
        Self { micro_batches, state: Mutex::new(state), passed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turns of a micro-batch.
    pub(super) fn turns(&self, micro_batch: usize) -> Turns<'_> {
        let mut uses = vec![0; self.state().sums.len()];
        self.micro_batches[micro_batch].bound.uses().for_each(|number| uses[number] += 1);
        Turns { group: self, micro_batch, uses }
    }

    /// Has no one wait for a turn any more if a panic drops it: what those would wait for does not come.
    pub(super) fn guard(&self) -> Guard<'_> {
        Guard { state: &self.state, passed: &self.passed }
    }

    /// Tells whether a micro-batch before this one failed: its own work is for nothing.
    pub(super) fn has_failed(&self) -> bool {
        self.state().error.is_some()
    }

    /// The sum of a parameter's gradients so far, taken away.
    pub(super) fn take(&self, number: usize, pool: &Arc<BufferPool>) -> GradientSum<f32> {
        std::mem::replace(&mut self.state().sums[number], GradientSum::in_pool(pool))
    }

    /// The gradients that are left, and the sums over the images: once all micro-batches are over.
    ///
    /// # Errors
    /// That of the first micro-batch that failed.
    pub(super) fn end(&self) -> Result<(Vec<GradientSum<f32>>, Metrics), TrainError> {
        let mut state = self.state();
        if let Some((_, error)) = state.error.take() {
            return Err(error);
        }
        let mut metrics = Metrics::default();
        state.metrics.iter().for_each(|&own| metrics.add(own));
        Ok((std::mem::take(&mut state.sums), metrics))
    }
}

/// One micro-batch's turns at the sums of its group. A turn passes when the last of the micro-batch's ops has added to the parameter's sum.
pub(super) struct Turns<'a> {
    group: &'a AccumulationGroup<'a>,
    micro_batch: usize,
    /// For each parameter the ops of this micro-batch that are still to add to it.
    uses: Vec<usize>,
}

impl Turns<'_> {
    /// Passes on all turns that are left. Tells whether the micro-batch was the last one of the group.
    pub(super) fn end(self, result: Result<Metrics, TrainError>) -> bool {
        let mut state = self.group.state();
        match result {
            Ok(metrics) => state.metrics[self.micro_batch] = metrics,
            Err(error) => {
                if state.error.as_ref().is_none_or(|&(first, _)| self.micro_batch < first) {
                    state.error = Some((self.micro_batch, error));
                }
            }
        }
        for number in 0..self.uses.len() {
            while state.waits(number, self.micro_batch) {
                state = self.group.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.turns[number] = state.turns[number].max(self.micro_batch + 1);
        }
        state.over += 1;
        self.group.passed.notify_all();
        state.over == self.group.micro_batches.len()
    }
}

impl State {
    fn waits(&self, number: usize, micro_batch: usize) -> bool {
        self.turns[number] < micro_batch && self.error.is_none() && !self.broken
    }
}

impl ParameterSums<f32> for Turns<'_> {
    fn take(&mut self, number: usize) -> GradientSum<f32> {
        let mut state = self.group.state();
        while state.waits(number, self.micro_batch) {
            state = self.group.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.sums[number])
    }

    fn put(&mut self, number: usize, sum: GradientSum<f32>) {
        let mut state = self.group.state();
        state.sums[number] = sum;
        self.uses[number] -= 1;
        if self.uses[number] == 0 {
            state.turns[number] = self.micro_batch + 1;
            self.group.passed.notify_all();
        }
    }
}

/// See [`AccumulationGroup::guard`].
pub(super) struct Guard<'a> {
    state: &'a Mutex<State>,
    passed: &'a Condvar,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).broken = true;
            self.passed.notify_all();
        }
    }
}
