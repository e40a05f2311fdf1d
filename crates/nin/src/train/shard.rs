//! A few images of a batch, forward and backward on one worker.

use std::sync::Arc;

use autograd::{Context, Tape};
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, Tensor};

use super::error::TrainError;
use super::evaluation::{Evaluation, correct};
use super::lanes::{LaneSums, StepSettings, Worker};
use crate::data::Batch;
use crate::loss::Loss;
use crate::nn::{Module, Parameter};

/// The images `start..end` of a batch.
pub(super) struct Shard<'a> {
    pub(super) model: &'a dyn Module<f32>,
    pub(super) batch: &'a Batch,
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) settings: StepSettings,
    pub(super) loss: &'a dyn Loss<f32>,
    /// The loss's divisor for the whole batch.
    pub(super) divisor: f64,
    pub(super) conv: ConvAlgorithm,
}

impl Shard<'_> {
    /// Forward and backward. Adds the gradients of the batch's mean loss, but for what stays in the worker's weight sums, and
    /// the sums over the images to `sums`. What is the first of its kind there takes memory of `gradients`.
    pub(super) fn run(
        &self,
        worker: &Worker,
        parameters: &[&Parameter<f32>],
        gradients: &Arc<BufferPool>,
        sums: &mut LaneSums,
    ) -> Result<(), TrainError> {
        let pool = &worker.pool;
        let rows = self.start..self.end;
        // None if targets are dense: nothing is right or wrong then.
        let labels = self.batch.labels().get(rows.clone()).unwrap_or_default();
        let context = Context {
            seed: self.settings.seed,
            epoch: self.settings.epoch,
            samples: self.batch.samples()[rows].to_vec(),
            conv: self.conv,
            weight_sums: Some(Arc::clone(&worker.weight_sums)),
            ..Context::training(Arc::clone(pool))
        };
        let tape = Tape::new(context);
        let images = tape.constant(self.batch.narrow_in(pool, self.start, self.end));
        let logits = self.model.forward(images)?;
        let correct = correct(logits.value().data(), labels);
        let targets = tape.constant(self.batch.targets_in(pool, self.start, self.end));
        let loss = self.loss.share(logits, targets, self.divisor)?;
        // The share of the batch's mean, times the images of the batch.
        let sum = f64::from(loss.value().item()) * self.batch.len() as f64;
        sums.evaluation.add(Evaluation { loss: sum, correct, images: self.end - self.start });
        let found = tape.backward(loss)?;
        for (parameter, sum) in parameters.iter().zip(&mut sums.gradients) {
            match (found.parameter(parameter.identity), sum) {
                (Some(gradient), Some(sum)) => sum.add_assign(gradient),
                (Some(gradient), sum) => {
                    let mut first = Tensor::empty_in(gradients, gradient.shape());
                    first.data_mut().copy_from_slice(gradient.data());
                    *sum = Some(first);
                }
                (None, _) => {}
            }
        }
        Ok(())
    }
}
