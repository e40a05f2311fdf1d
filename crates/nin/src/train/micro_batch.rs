//! A few images of a batch, forward and backward on one worker.

use std::sync::Arc;

use autograd::{Bound, Context, Run, Tape};
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, Tensor};

use super::error::TrainError;
use super::evaluation::{Metrics, correct};
use super::workers::StepSettings;
use crate::data::Batch;
use crate::loss::Loss;

/// What every micro-batch of a step shares.
pub(super) struct Step<'a> {
    pub(super) batch: &'a Batch,
    pub(super) settings: StepSettings,
    pub(super) loss: &'a dyn Loss<f32>,
    /// The loss's divisor for the whole batch.
    pub(super) divisor: f64,
    pub(super) conv: ConvAlgorithm,
}

/// The images `start..end` of a batch.
pub(super) struct MicroBatch<'a> {
    pub(super) step: &'a Step<'a>,
    pub(super) bound: &'a Bound<f32>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl MicroBatch<'_> {
    /// The surroundings of its passes, with memory from `pool`.
    pub(super) fn context(&self, pool: &Arc<BufferPool>) -> Context {
        let StepSettings { seed, epoch } = self.step.settings;
        Context {
            seed,
            epoch,
            samples: self.step.batch.samples()[self.start..self.end].to_vec(),
            conv: self.step.conv,
            ..Context::training(Arc::clone(pool))
        }
    }

    /// A forward pass that has not begun.
    pub(super) fn begin(&self, pool: &Arc<BufferPool>) -> Run<f32> {
        self.bound.begin(self.step.batch.narrow_in(pool, self.start, self.end))
    }

    /// The way back of a forward pass that is over, and its loss.
    pub(super) fn turn(
        &self,
        context: &Context,
        mut run: Run<f32>,
    ) -> Result<(Run<f32>, Metrics), TrainError> {
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
        let metrics = Metrics { loss: sum, correct, images: self.end - self.start };
        let gradient = tape.backward(loss)?.get(&output).cloned();
        let gradient = gradient.unwrap_or_else(|| Tensor::zeros_in(context.pool(), output.shape()));
        Ok((self.bound.turn(run, gradient), metrics))
    }
}
