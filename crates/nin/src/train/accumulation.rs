//! The order of sums: in a group of a step, the gradients of micro-batches are added one after the other, on one thread or on
//! several; in the step, those of its groups.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use autograd::ParameterSums;
use tensor::{BufferPool, GradientSum, Tensor, lock};

use super::error::TrainError;
use super::evaluation::Metrics;
use super::micro_batch::MicroBatch;

/// The micro-batches of a group, and the sums to which each adds in its turn.
///
/// For every parameter the micro-batches take turns in their order, so that no bit depends on who runs them. Micro-batches on
/// several threads work as in a pipeline: on the way back each is a few ops behind the one before it.
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
    /// Errors by their micro-batches. No one waits for a turn once there is one.
    errors: BTreeMap<usize, TrainError>,
    /// A micro-batch's thread panicked. No one waits for a turn then.
    broken: bool,
    /// Micro-batches that are over.
    over: usize,
}

impl<'a> AccumulationGroup<'a> {
    /// The sums' own forms take memory of `pool`.
    pub(super) fn new(micro_batches: Vec<MicroBatch<'a>>, parameters: usize, pool: &Arc<BufferPool>) -> Self {
        let state = State {
            sums: (0..parameters).map(|_| GradientSum::in_pool(pool)).collect(),
            turns: vec![0; parameters],
            metrics: vec![Metrics::default(); micro_batches.len()],
            errors: BTreeMap::new(),
            broken: false,
            over: 0,
        };
        Self { micro_batches, state: Mutex::new(state), passed: Condvar::new() }
    }

    /// The turns of a micro-batch.
    pub(super) fn turns(&self, micro_batch: usize) -> Turns<'_> {
        let mut uses = vec![0; lock(&self.state).sums.len()];
        self.micro_batches[micro_batch].bound.uses().for_each(|number| uses[number] += 1);
        Turns { group: self, micro_batch, uses }
    }

    /// Has no one wait for a turn any more if a panic drops it: what those would wait for does not come.
    pub(super) fn guard(&self) -> Guard<'_> {
        Guard(self)
    }

    /// Tells whether a micro-batch before this one failed: its own work is for nothing.
    pub(super) fn has_failed(&self) -> bool {
        !lock(&self.state).errors.is_empty()
    }

    /// The sum of a parameter's gradients so far, taken away.
    pub(super) fn take(&self, number: usize, pool: &Arc<BufferPool>) -> GradientSum<f32> {
        std::mem::replace(&mut lock(&self.state).sums[number], GradientSum::in_pool(pool))
    }

    /// The gradients that are left, and the sums over the images: once all micro-batches are over.
    ///
    /// # Errors
    /// That of the first micro-batch that failed.
    pub(super) fn end(&self) -> Result<(Vec<GradientSum<f32>>, Metrics), TrainError> {
        let mut state = lock(&self.state);
        if let Some((_, error)) = state.errors.pop_first() {
            return Err(error);
        }
        let mut metrics = Metrics::default();
        state.metrics.iter().for_each(|&own| metrics.add(own));
        Ok((std::mem::take(&mut state.sums), metrics))
    }
}

/// One micro-batch's turns at the sums of its group. A turn passes when the last of the micro-batch's ops has added to the
/// parameter's sum.
pub(super) struct Turns<'a> {
    group: &'a AccumulationGroup<'a>,
    micro_batch: usize,
    /// For each parameter the ops of this micro-batch that are still to add to it.
    uses: Vec<usize>,
}

impl<'a> Turns<'a> {
    /// Waits for the turn at a parameter's sum, or until no one's comes any more.
    fn wait(&self, state: MutexGuard<'a, State>, number: usize) -> MutexGuard<'a, State> {
        let waits = |state: &mut State| {
            state.turns[number] < self.micro_batch && state.errors.is_empty() && !state.broken
        };
        self.group.passed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on all turns that are left. Tells whether the micro-batch was the last one of the group.
    pub(super) fn end(self, result: Result<Metrics, TrainError>) -> bool {
        let mut state = lock(&self.group.state);
        match result {
            Ok(metrics) => state.metrics[self.micro_batch] = metrics,
            Err(error) => drop(state.errors.insert(self.micro_batch, error)),
        }
        for number in 0..self.uses.len() {
            state = self.wait(state, number);
            state.turns[number] = state.turns[number].max(self.micro_batch + 1);
        }
        state.over += 1;
        self.group.passed.notify_all();
        state.over == self.group.micro_batches.len()
    }
}

impl ParameterSums<f32> for Turns<'_> {
    fn take(&mut self, number: usize) -> GradientSum<f32> {
        let mut state = self.wait(lock(&self.group.state), number);
        std::mem::take(&mut state.sums[number])
    }

    fn put(&mut self, number: usize, sum: GradientSum<f32>) {
        let mut state = lock(&self.group.state);
        state.sums[number] = sum;
        self.uses[number] -= 1;
        if self.uses[number] == 0 {
            state.turns[number] = self.micro_batch + 1;
            self.group.passed.notify_all();
        }
    }
}

/// See [`AccumulationGroup::guard`].
pub(super) struct Guard<'a>(&'a AccumulationGroup<'a>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).broken = true;
            self.0.passed.notify_all();
        }
    }
}

/// A sum for each parameter, and what [`Metrics`] counts, of one group.
pub(super) type GroupSums = (Vec<GradientSum<f32>>, Metrics);

/// Sums over the images of whole groups: a gradient for each parameter, and what [`Metrics`] counts.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) gradients: Vec<Tensor<f32>>,
    pub(super) metrics: Metrics,
}

/// The sum over the groups of a step.
#[derive(Debug, Default)]
pub(super) struct Total {
    pub(super) sums: Sums,
    /// Groups that are in the sum: all below this one.
    pub(super) next: usize,
    /// Groups that were ready before their turn.
    early: BTreeMap<usize, Sums>,
    /// Errors by their groups.
    pub(super) errors: BTreeMap<usize, TrainError>,
}

impl Total {
    /// Adds the sums of `group` when it is their turn, with those that waited for it.
    pub(super) fn add(&mut self, group: usize, sums: Sums) {
        self.early.insert(group, sums);
        self.add_early();
    }

    fn add_early(&mut self) {
        while let Some(sums) = self.early.remove(&self.next) {
            self.sums.metrics.add(sums.metrics);
            for (sum, gradient) in self.sums.gradients.iter_mut().zip(&sums.gradients) {
                sum.add_assign(gradient);
            }
            self.next += 1;
        }
    }

    /// Adds the sums of the group whose turn it is, with the bits of [`Total::add`]. The first is written to `gradients()`.
    pub(super) fn add_in_turn(
        &mut self,
        sums: Vec<GradientSum<f32>>,
        metrics: Metrics,
        gradients: impl FnOnce() -> Vec<Tensor<f32>>,
    ) {
        if self.next == 0 {
            self.sums.gradients = gradients();
        }
        self.sums.metrics.add(metrics);
        write_all(sums, &mut self.sums.gradients, self.next > 0);
        self.next += 1;
        self.add_early();
    }
}

/// Writes a group's sums, or adds them if `add`: what is in the Winograd domain comes out of it without a tensor of its own.
pub(super) fn write_all(sums: Vec<GradientSum<f32>>, gradients: &mut [Tensor<f32>], add: bool) {
    sums.into_iter().zip(gradients).for_each(|(sum, gradient)| sum.write_to(gradient, add));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(value: f32) -> Sums {
        let metrics = Metrics { loss: f64::from(value), divisor: 2.0, correct: 1, images: 2 };
        Sums { gradients: vec![Tensor::full([3], value)], metrics }
    }

    #[test]
    fn groups_are_added_in_their_order_whenever_they_come() {
        // Rounding tells orders apart: (1e8 + 1) - 1e8 is 0, (1e8 - 1e8) + 1 is 1.
        let values = [1e8, 1.0, -1e8, 5.0];
        for in_turn in [false, true] {
            for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
                let mut total = Total::default();
                for index in order {
                    let Sums { gradients, metrics } = group(values[index]);
                    if total.next == index && (in_turn || index == 0) {
                        let sums = gradients.into_iter().map(GradientSum::from).collect();
                        total.add_in_turn(sums, metrics, || vec![Tensor::full([3], f32::NAN)]);
                    } else {
                        total.add(index, Sums { gradients, metrics });
                    }
                }
                assert_eq!(total.sums.gradients[0].data(), [5.0; 3]);
                assert_eq!((total.next, total.sums.metrics.images), (4, 8));
                assert!(total.early.is_empty());
            }
        }
    }
}
