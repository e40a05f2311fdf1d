//! A lane of a step: a run of micro-batches whose gradients are added one after the other, on one thread or on several.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use autograd::ParameterSums;
use tensor::{BufferPool, GradientSum};

use super::error::TrainError;
use super::evaluation::Evaluation;
use super::shard::Shard;

/// The shards of a lane, and the sums to which each adds in its turn.
///
/// For every parameter the shards take turns in their order, so that no bit depends on who runs them. Shards on several threads work as
/// in a pipeline: on the way back each is a few ops behind the one before it.
pub(super) struct Lane<'a> {
    pub(super) shards: Vec<Shard<'a>>,
    state: Mutex<State>,
    /// A turn has passed.
    passed: Condvar,
}

struct State {
    /// For each parameter.
    sums: Vec<GradientSum<f32>>,
    /// For each parameter the shard whose turn it is.
    turns: Vec<usize>,
    evaluations: Vec<Evaluation>,
    /// What went wrong in the first of the shards in which something did. No one waits for a turn then.
    error: Option<(usize, TrainError)>,
    /// A shard's thread panicked. No one waits for a turn then.
    broken: bool,
    /// Shards that are over.
    over: usize,
}

impl<'a> Lane<'a> {
    /// The sums' own forms take memory of `pool`.
    pub(super) fn new(shards: Vec<Shard<'a>>, parameters: usize, pool: &Arc<BufferPool>) -> Self {
        let state = State {
            sums: (0..parameters).map(|_| GradientSum::in_pool(pool)).collect(),
            turns: vec![0; parameters],
            evaluations: vec![Evaluation::default(); shards.len()],
            error: None,
            broken: false,
            over: 0,
        };
        Self { shards, state: Mutex::new(state), passed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The turns of a shard.
    pub(super) fn turns(&self, shard: usize) -> Turns<'_> {
        let mut uses = vec![0; self.state().sums.len()];
        self.shards[shard].bound.uses().for_each(|number| uses[number] += 1);
        Turns { lane: self, shard, uses, over: false }
    }

    /// Tells whether a shard before this one failed: its own work is for nothing.
    pub(super) fn has_failed(&self) -> bool {
        self.state().error.is_some()
    }

    /// The sum of a parameter's gradients so far, taken away.
    pub(super) fn take(&self, number: usize, pool: &Arc<BufferPool>) -> GradientSum<f32> {
        std::mem::replace(&mut self.state().sums[number], GradientSum::in_pool(pool))
    }

    /// The gradients that are left, and the sums over the images: once all shards are over.
    ///
    /// # Errors
    /// That of the first shard that failed.
    pub(super) fn end(&self) -> Result<(Vec<GradientSum<f32>>, Evaluation), TrainError> {
        let mut state = self.state();
        if let Some((_, error)) = state.error.take() {
            return Err(error);
        }
        let mut evaluation = Evaluation::default();
        state.evaluations.iter().for_each(|&own| evaluation.add(own));
        Ok((std::mem::take(&mut state.sums), evaluation))
    }
}

/// One shard's turns at the sums of its lane. A turn passes when the last of the shard's ops has added to the parameter's sum.
pub(super) struct Turns<'a> {
    lane: &'a Lane<'a>,
    shard: usize,
    /// For each parameter the ops of this shard that are still to add to it.
    uses: Vec<usize>,
    over: bool,
}

impl Turns<'_> {
    /// Passes on all turns that are left. Tells whether the shard was the last one of the lane.
    pub(super) fn end(mut self, result: Result<Evaluation, TrainError>) -> bool {
        self.over = true;
        let mut state = self.lane.state();
        match result {
            Ok(evaluation) => state.evaluations[self.shard] = evaluation,
            Err(error) => {
                if state.error.as_ref().is_none_or(|&(first, _)| self.shard < first) {
                    state.error = Some((self.shard, error));
                }
            }
        }
        for number in 0..self.uses.len() {
            while state.waits(number, self.shard) {
                state = self.lane.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.turns[number] = state.turns[number].max(self.shard + 1);
        }
        state.over += 1;
        self.lane.passed.notify_all();
        state.over == self.lane.shards.len()
    }
}

impl State {
    fn waits(&self, number: usize, shard: usize) -> bool {
        self.turns[number] < shard && self.error.is_none() && !self.broken
    }
}

impl ParameterSums<f32> for Turns<'_> {
    fn take(&mut self, number: usize) -> GradientSum<f32> {
        let mut state = self.lane.state();
        while state.waits(number, self.shard) {
            state = self.lane.passed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.sums[number])
    }

    fn put(&mut self, number: usize, sum: GradientSum<f32>) {
        let mut state = self.lane.state();
        state.sums[number] = sum;
        self.uses[number] -= 1;
        if self.uses[number] == 0 {
            state.turns[number] = self.shard + 1;
            self.lane.passed.notify_all();
        }
    }
}

impl Drop for Turns<'_> {
    /// If a panic ends the shard, those behind it must not wait for it.
    fn drop(&mut self) {
        if !self.over {
            self.lane.state().broken = true;
            self.lane.passed.notify_all();
        }
    }
}
