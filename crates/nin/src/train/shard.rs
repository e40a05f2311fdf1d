//! A few images of a batch, forward and backward on one worker.

use std::sync::Arc;

use autograd::{Bound, Context, Run, Tape};
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, Tensor};

use super::error::TrainError;
use super::evaluation::{Evaluation, correct};
use super::lanes::{LaneSums, StepSettings, Worker};
use crate::data::Batch;
use crate::loss::Loss;

/// What every shard of a step shares.
pub(super) struct Step<'a> {
    pub(super) batch: &'a Batch,
    pub(super) settings: StepSettings,
    pub(super) loss: &'a dyn Loss<f32>,
    /// The loss's divisor for the whole batch.
    pub(super) divisor: f64,
    pub(super) conv: ConvAlgorithm,
}

/// The images `start..end` of a batch.
pub(super) struct Shard<'a> {
    pub(super) step: &'a Step<'a>,
    pub(super) bound: &'a Bound<f32>,
    /// Of the parameter with each number in the plan, the number in the network.
    pub(super) parameters: &'a [usize],
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Shard<'_> {
    /// The surroundings of its passes on a worker. What it adds to weight sums is the lane's if the worker runs lane after lane.
    pub(super) fn context(&self, worker: &Worker, lane_after_lane: bool) -> Context {
        let StepSettings { seed, epoch } = self.step.settings;
        Context {
            seed,
            epoch,
            samples: self.step.batch.samples()[self.start..self.end].to_vec(),
            conv: self.step.conv,
            weight_sums: lane_after_lane.then(|| Arc::clone(&worker.weight_sums)),
            ..Context::training(Arc::clone(&worker.pool))
        }
    }

    /// A forward pass that has not begun.
    pub(super) fn begin(&self, worker: &Worker) -> Run<f32> {
        self.bound.begin(self.step.batch.narrow_in(&worker.pool, self.start, self.end))
    }

    /// The loss of a forward pass that is over, added to `sums`, and the way back.
    pub(super) fn turn(
        &self,
        context: &Context,
        mut run: Run<f32>,
        sums: &mut LaneSums,
    ) -> Result<Run<f32>, TrainError> {
        let Step { batch, loss, divisor, .. } = self.step;
        // None if targets are dense: nothing is right or wrong then.
        let labels = batch.labels().get(self.start..self.end).unwrap_or_default();
        let output = run.take_output();
        let correct = correct(output.data(), labels);
        let tape = Tape::new(context.clone());
        let output = tape.leaf(output);
        let targets = tape.constant(batch.targets_in(context.pool(), self.start, self.end));
        let loss = loss.share(output.clone(), targets, *divisor).map_err(TrainError::Autograd)?;
        // The share of the batch's mean, times the images of the batch.
        let sum = f64::from(loss.value().item()) * batch.len() as f64;
        sums.evaluation.add(Evaluation { loss: sum, correct, images: self.end - self.start });
        let gradient = tape.backward(loss)?.take(&output);
        let gradient = gradient.unwrap_or_else(|| Tensor::zeros_in(context.pool(), output.shape()));
        Ok(self.bound.turn(run, gradient))
    }

    /// Adds the gradient of a use of the parameter with a number in the plan to the sums. The first of its kind takes memory of `gradients`.
    pub(super) fn add(
        &self,
        sums: &mut LaneSums,
        gradients: &Arc<BufferPool>,
        number: usize,
        gradient: &Tensor<f32>,
    ) {
        match &mut sums.gradients[self.parameters[number]] {
            Some(sum) => sum.add_assign(gradient),
            sum => {
                let mut first = Tensor::empty_in(gradients, gradient.shape());
                first.data_mut().copy_from_slice(gradient.data());
                *sum = Some(first);
            }
        }
    }
}
