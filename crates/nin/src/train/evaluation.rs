//! Running a network without training it: logits, loss and accuracy.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use autograd::{Context, Tape};
use tensor::{BufferPool, Shape, ShapeError, Tensor};

use super::error::TrainError;
use super::micro_batch::bind;
use super::workers::Workers;
use crate::data::{Batch, DataLoader};
use crate::disk::{FileError, content};
use crate::loss::Loss;
use crate::nn::Module;

/// Sums over some images.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Metrics {
    /// The sum of the losses.
    pub loss: f64,
    /// Images whose largest logit is their label's.
    pub correct: usize,
    /// Images.
    pub images: usize,
}

impl Metrics {
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

    /// The mean loss of an image, in a step that is counted from 1 as its epoch is. Errors call it by its name.
    ///
    /// # Errors
    /// [`TrainError::Diverged`] if it is no number.
    pub fn finite_loss(&self, name: &str, epoch: u64, step: u64) -> Result<f64, TrainError> {
        let loss = self.mean_loss();
        if loss.is_finite() {
            return Ok(loss);
        }
        Err(TrainError::Diverged { epoch, step, reason: format!("the {name} is {loss}") })
    }

    /// The share of images classified correctly, 0 to 1.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }
}

/// The most images that one task takes: enough to read the weights seldom, few enough to keep the maps near the core. No
/// logit depends on it.
const SHARE: usize = 4;

impl Workers {
    /// The logits of N x C x H x W images, N x K, without keeping anything for a backward pass.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images.
    pub fn predict(&self, model: &dyn Module<f32>, images: &Tensor<f32>) -> Result<Tensor<f32>, TrainError> {
        self.predict_from(model, images.shape(), |pool, from, to| images.narrow_in(pool, from, to))
    }

    /// The logits of a batch, N x K.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images.
    pub fn predict_batch(&self, model: &dyn Module<f32>, batch: &Batch) -> Result<Tensor<f32>, TrainError> {
        self.predict_from(model, batch.shape(), |pool, from, to| batch.narrow_in(pool, from, to))
    }

    fn predict_from(
        &self,
        model: &dyn Module<f32>,
        shape: Shape,
        entries: impl Fn(&Arc<BufferPool>, usize, usize) -> Tensor<f32> + Sync,
    ) -> Result<Tensor<f32>, TrainError> {
        let &n =
            shape.first().ok_or_else(|| ShapeError::new("predict", "expected images, found a scalar"))?;
        let together = n < self.threads();
        // Shares of equal size, and as many for each thread; one if all threads work on each image.
        let tasks =
            if together { n.min(1) } else { n.div_ceil(SHARE).next_multiple_of(self.threads()).min(n) };
        let bounds = |task: usize| task * n / tasks;
        let context = |pool: &Arc<BufferPool>| Context {
            conv: self.conv,
            parallel: together,
            ..Context::evaluation(Arc::clone(pool))
        };
        let sizes = (0..tasks).map(|task| bounds(task + 1) - bounds(task));
        // Without an image, too, a network that does not fit is an error.
        let bound = bind(model, &context(self.pool()), shape, sizes.chain((n == 0).then_some(0)))?;
        let classes = bound[0].1.plan().graph().output_shape().iter().skip(1).product::<usize>();
        let mut logits = Tensor::zeros([n, classes]);
        let forward = |pool: &Arc<BufferPool>, from, to| {
            let (_, bound) = bound.iter().find(|(n, _)| *n == to - from).expect("a plan for each size");
            bound.forward(&context(pool), entries(pool, from, to)).take_output()
        };
        if together {
            // The time to an answer counts, and there is no other work.
            if n > 0 {
                let output = self.install_awake(|| forward(self.pool(), 0, n));
                logits.data_mut().copy_from_slice(output.data());
            }
            return Ok(logits);
        }
        let rows: Vec<_> = logits.data_mut().chunks_mut(classes).map(Mutex::new).collect();
        self.for_each_task(tasks, |task, pool| {
            let (from, to) = (bounds(task), bounds(task + 1));
            for (row, own) in rows[from..to].iter().zip(forward(pool, from, to).data().chunks(classes)) {
                row.lock().unwrap_or_else(PoisonError::into_inner).copy_from_slice(own);
            }
        });
        drop(rows);
        Ok(logits)
    }

    /// Loss and accuracy over a batch, in evaluation mode.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the loss the targets.
    pub fn evaluate(
        &self,
        model: &dyn Module<f32>,
        batch: &Batch,
        loss: &dyn Loss<f32>,
    ) -> Result<Metrics, TrainError> {
        Ok(self.judge(model, batch, loss)?.0)
    }

    /// As [`Workers::evaluate`], and the answers to the images.
    pub(super) fn judge(
        &self,
        model: &dyn Module<f32>,
        batch: &Batch,
        loss: &dyn Loss<f32>,
    ) -> Result<(Metrics, Vec<Prediction>), TrainError> {
        let logits = self.predict_batch(model, batch)?;
        let predictions = predictions(&logits, batch.labels());
        let correct = predictions.iter().filter(|own| own.class == own.label).count();
        let tape = Tape::new(Context::evaluation(Arc::clone(BufferPool::global())));
        let targets = batch.targets_in(BufferPool::global(), 0, batch.len());
        // The mean, times the images of the batch.
        let divisor = loss.divisor(&targets) / batch.len() as f64;
        let loss = loss.share(tape.constant(logits), tape.constant(targets), divisor);
        let loss = loss.map_err(TrainError::Autograd)?;
        Ok((Metrics { loss: f64::from(loss.value().item()), correct, images: batch.len() }, predictions))
    }
}

/// The answer of a network to an image, beside the image's label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prediction {
    /// The label.
    pub label: usize,
    /// The class of the largest logit; the first of equals.
    pub class: usize,
    /// The probability of that class, 0 to 1: softmax of the logits.
    pub probability: f64,
}

impl Workers {
    /// The answers to the images of a loader, in evaluation mode and in the loader's order. `weights` is the file that is to blame if
    /// they are none.
    ///
    /// # Errors
    /// [`TrainError`] if a batch cannot be made or the network does not fit, [`FileError::Content`] of a logit that is no number.
    pub fn predictions(
        &self,
        model: &dyn Module<f32>,
        loader: &DataLoader,
        weights: &Path,
    ) -> Result<Vec<Prediction>, TrainError> {
        let mut all = Vec::with_capacity(loader.samples_per_epoch());
        for batch in loader.epoch(0) {
            let batch = batch?;
            let logits = self.predict_batch(model, &batch)?;
            refuse_no_numbers(&logits, weights)?;
            all.extend(predictions(&logits, batch.labels()));
        }
        Ok(all)
    }
}

/// The answers in N x K logits to images with these labels.
fn predictions(logits: &Tensor<f32>, labels: &[usize]) -> Vec<Prediction> {
    let classes = logits.shape().iter().skip(1).product::<usize>().max(1);
    let answer = |(row, &label): (&[f32], &usize)| {
        let class = argmax(row);
        // Softmax of the largest, whose own share of the sum is 1.
        let sum: f64 = row.iter().map(|logit| f64::from(logit - row[class]).exp()).sum();
        Prediction { label, class, probability: 1.0 / sum }
    };
    logits.data().chunks_exact(classes).zip(labels).map(answer).collect()
}

/// Refuses logits among which one is no finite number: they are no answer of the weights in this file.
///
/// # Errors
/// [`FileError::Content`].
pub fn refuse_no_numbers(logits: &Tensor<f32>, weights: &Path) -> Result<(), FileError> {
    match logits.data().iter().find(|logit| !logit.is_finite()) {
        Some(logit) => {
            let reason = format!("no answer: with these weights a logit is {logit}, expected finite numbers");
            Err(content(weights, reason))
        }
        None => Ok(()),
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

/// The number of rows of `logits` that have their largest in the place of the label.
pub(super) fn correct(logits: &[f32], labels: &[usize]) -> usize {
    let classes = logits.len() / labels.len().max(1);
    logits.chunks_exact(classes.max(1)).zip(labels).filter(|(row, label)| argmax(row) == **label).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Flatten;

    #[test]
    fn a_tensor_without_axes_is_refused() {
        let error =
            Workers::new(1).unwrap().predict(&Flatten, &Tensor::full(Shape::scalar(), 1.0)).unwrap_err();
        assert_eq!(error.to_string(), "predict: expected images, found a scalar");
    }
}
