//! Running a network without training it: logits, loss and accuracy.

use std::path::Path;
use std::sync::{Arc, Mutex};

use autograd::{Context, Tape};
use tensor::{BufferPool, Shape, ShapeError, Tensor, lock};

use super::error::TrainError;
use super::micro_batch::{bind, share_and_sum, with_images};
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
    /// The number that this sum is divided by: images, unless the loss has a rule of its own, such as the weights of classes
    /// ([`Loss::divisor`]).
    pub divisor: f64,
    /// Images whose largest logit is their label's; none of those with dense targets.
    pub correct: usize,
    /// Images.
    pub images: usize,
}

impl Metrics {
    /// Adds the sums over further images.
    pub fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.divisor += other.divisor;
        self.correct += other.correct;
        self.images += other.images;
    }

    /// The mean loss: of one batch or of many, the sum of their losses over the sum of their divisors, however they were cut. 0
    /// if that is 0: without an image, or with none that has a weight.
    #[must_use]
    pub fn mean_loss(&self) -> f64 {
        if self.divisor == 0.0 { 0.0 } else { self.loss / self.divisor }
    }

    /// The mean loss, in a step that is counted from 1 as its epoch is. Errors call it by its name.
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

    /// The share of images classified correctly, 0 to 1. With dense targets, of which none is right or wrong, 0: see the loss.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.images.max(1) as f64
    }
}

/// The most images that one task takes: enough to read the weights seldom, few enough to keep the maps near the core. No
/// logit depends on it.
const SHARE: usize = 4;

impl Workers {
    /// The network's output for N x C x H x W images, logits of N x K as a rule, without keeping anything for a backward pass.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images, or its output's outermost axis is not the images.
    ///
    /// # Panics
    /// If the network's flow depends on values, since it is traced on shapes alone, or it does not visit a parameter that it
    /// uses.
    pub fn predict(&self, model: &dyn Module<f32>, images: &Tensor<f32>) -> Result<Tensor<f32>, TrainError> {
        self.predict_from(model, images.shape(), |pool, from, to| images.narrow_in(pool, from, to))
    }

    /// The network's output for a batch, as [`Workers::predict`].
    ///
    /// # Errors
    /// As [`Workers::predict`].
    ///
    /// # Panics
    /// As [`Workers::predict`].
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
        let together = n < self.threads() || n > 1 && self.looks_across(model, shape)?;
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
        let (images, any) = bound.first_key_value().expect("there is a size");
        let output = any.plan().graph().output_shape();
        if output.first() != Some(images) {
            let message =
                format!("expected an output for each image, found one of {output} for {images} images");
            return Err(ShapeError::new("predict", message).into());
        }
        let mut outputs = Tensor::zeros(with_images(output, n));
        let values = output[1..].iter().product::<usize>().max(1);
        let forward = |pool: &Arc<BufferPool>, from, to| {
            bound[&(to - from)].forward(&context(pool), entries(pool, from, to)).take_output()
        };
        if together {
            // The time to an answer counts, and there is no other work.
            if n > 0 {
                let output = self.install_awake(|| forward(self.pool(), 0, n));
                outputs.data_mut().copy_from_slice(output.data());
            }
            return Ok(outputs);
        }
        let rows: Vec<_> = outputs.data_mut().chunks_mut(values).map(Mutex::new).collect();
        self.for_each_task(tasks, |task, pool| {
            let (from, to) = (bounds(task), bounds(task + 1));
            for (row, own) in rows[from..to].iter().zip(forward(pool, from, to).data().chunks(values)) {
                lock(row).copy_from_slice(own);
            }
        });
        drop(rows);
        Ok(outputs)
    }

    /// Tells whether the network looks across batches of this shape, or meets in them, as at a normalization by their
    /// statistics: they are not cut then.
    fn looks_across(&self, model: &dyn Module<f32>, shape: Shape) -> Result<bool, TrainError> {
        let context = Context { conv: self.conv, ..Context::evaluation(Arc::clone(self.pool())) };
        let plan = model.plan(&context, shape)?;
        Ok(plan.meets() || plan.graph().looks_across())
    }

    /// Loss and accuracy over a batch, in evaluation mode.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the loss the targets.
    ///
    /// # Panics
    /// As [`Workers::predict`].
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
        let (output, images) = (self.predict_batch(model, batch)?, batch.len());
        let predictions = predictions(&output, batch.labels());
        let correct = predictions.iter().filter(|own| own.class == own.label).count();
        let tape = Tape::new(Context::evaluation(Arc::clone(BufferPool::global())));
        let targets = batch.targets_in(BufferPool::global(), 0, images);
        let divisor = loss.divisor(&targets);
        let (_, loss) = share_and_sum(loss, tape.constant(output), targets, divisor)?;
        Ok((Metrics { loss, divisor, correct, images }, predictions))
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
    /// The answers to the images of a loader, in evaluation mode and in the loader's order. `weights` is the file that is to
    /// blame if they are none.
    ///
    /// # Errors
    /// [`TrainError`] if a batch cannot be made or the network does not fit, [`FileError::Content`] of a logit that is no number.
    ///
    /// # Panics
    /// As [`Workers::predict`].
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
        Prediction { label, class, probability: softmax(row)[class] }
    };
    logits.data().chunks_exact(classes).zip(labels).map(answer).collect()
}

/// Refuses logits among which one is no finite number: they are no answer of the weights in this file.
pub(crate) fn refuse_no_numbers(logits: &Tensor<f32>, weights: &Path) -> Result<(), FileError> {
    match logits.data().iter().find(|logit| !logit.is_finite()) {
        Some(logit) => {
            let reason = format!("no answer: with these weights a logit is {logit}, expected finite numbers");
            Err(content(weights, reason))
        }
        None => Ok(()),
    }
}

/// The probabilities of the classes, 0 to 1, by their logits.
pub(crate) fn softmax(row: &[f32]) -> Vec<f64> {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut shares: Vec<f64> = row.iter().map(|logit| f64::from(logit - largest).exp()).collect();
    let sum: f64 = shares.iter().sum();
    shares.iter_mut().for_each(|share| *share /= sum);
    shares
}

/// The index of the largest logit of a row; the first of equals.
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
    use tensor::init::Init;

    use super::*;
    use crate::data::ArrayDataset;
    use crate::loss::{CrossEntropy, Mse};
    use crate::nn::{Conv2d, Flatten, Relu, Sequential, initialize};
    use crate::testing::{batch, images, linear, loader, numbers};
    use crate::train::StepSettings;

    /// Ten images of three classes, and the means over them by batches of this size, tested and trained.
    fn means(batch_size: usize, loss: &dyn Loss<f32>) -> [f64; 2] {
        let (net, data) = (linear(4, 3), images([1, 2, 2], [0, 1, 1, 0, 2, 1, 1, 1, 2, 0]));
        let (mut workers, mut sums) = (Workers::new(2).unwrap(), [Metrics::default(); 2]);
        for batch in loader(&data, batch_size).epoch(0).map(Result::unwrap) {
            sums[0].add(workers.evaluate(&net, &batch, loss).unwrap());
            sums[1].add(workers.step(&net, &batch, loss, StepSettings::default()).unwrap());
        }
        sums.map(|sums| sums.mean_loss())
    }

    /// As PyTorch's weighted mean of all images at once.
    #[test]
    fn a_weighted_mean_does_not_depend_on_the_batches() {
        let weights = Some(vec![0.25, 4.0, 9.0]);
        let weighted = CrossEntropy { weights, ..CrossEntropy::default() };
        let [whole, _] = means(10, &weighted);
        let [plain, _] = means(10, &CrossEntropy::default());
        assert!((whole - plain).abs() > 0.1, "the weights count: {whole}, {plain}");
        for batch in [2, 3, 5, 10] {
            for mean in means(batch, &weighted) {
                assert!((mean / whole - 1.0).abs() < 1e-6, "batches of {batch}: {mean}, {whole}");
            }
        }
        // The first two images are of classes without a weight.
        let last = CrossEntropy { weights: Some(vec![0.0, 0.0, 1.0]), ..CrossEntropy::default() };
        let mean = |batch_size| {
            let (net, data) = (linear(2, 3), ArrayDataset::new([1, 1, 2], vec![0.5f32; 8], vec![0, 1, 2, 2]));
            let (workers, mut sums) = (Workers::new(1).unwrap(), Metrics::default());
            let batches = loader(&data.unwrap(), batch_size).epoch(0);
            batches.for_each(|batch| sums.add(workers.evaluate(&net, &batch.unwrap(), &last).unwrap()));
            sums.mean_loss()
        };
        assert_eq!(mean(2), mean(4));
    }

    /// Also with label smoothing, by which such images have a loss, but still no mean.
    #[test]
    fn images_without_a_weight_move_nothing_and_have_no_loss() {
        let (net, batch) = (linear(2, 3), batch(&images([1, 1, 2], [0, 1, 0, 1])));
        let mut workers = Workers::new(2).unwrap();
        for label_smoothing in [0.0, 0.5] {
            let loss = CrossEntropy { weights: Some(vec![0.0, 0.0, 1.0]), label_smoothing };
            let evaluated = workers.evaluate(&net, &batch, &loss).unwrap();
            let trained = workers.step(&net, &batch, &loss, StepSettings::default()).unwrap();
            for found in [evaluated, trained] {
                assert_eq!((found.mean_loss(), found.divisor, found.images), (0.0, 0.0, 4), "{found:?}");
                assert_eq!(found.loss > 0.0, label_smoothing > 0.0, "{found:?}");
                assert_eq!(found.finite_loss("loss", 1, 1).unwrap(), 0.0);
            }
            assert!((evaluated.loss - trained.loss).abs() < 1e-6, "{evaluated:?}, {trained:?}");
            assert!(workers.gradients(|all| all.iter().all(|own| own.data().iter().all(|&g| g == 0.0))));
        }
    }

    /// The output is N x 1 x 2 x 3, the target N x 6.
    #[test]
    fn an_autoencoder_has_one_loss_in_training_and_in_evaluation() {
        let pixels = numbers(5 * 6);
        let targets: Vec<[f32; 6]> = pixels.as_chunks().0.to_vec();
        let batch = batch(&ArrayDataset::new([1, 2, 3], pixels, targets).unwrap());
        let mut net =
            Sequential::new().with(Conv2d::new(1, 4, 3, 1, 1)).with(Relu).with(Conv2d::new(4, 1, 3, 1, 1));
        initialize(&mut net, Init::HeNormal, Init::Constant(0.1), 2);
        let mut workers = Workers::new(2).unwrap();
        let output = workers.predict_batch(&net, &batch).unwrap();
        assert_eq!(output.shape(), Shape::from([5, 1, 2, 3]));
        let input = batch.images_in(BufferPool::global());
        let squares = output.data().iter().zip(input.data()).map(|(a, b)| f64::from(a - b).powi(2));
        let expected = squares.sum::<f64>() / 30.0;
        let evaluated = workers.evaluate(&net, &batch, &Mse).unwrap();
        let trained = workers.step(&net, &batch, &Mse, StepSettings::default()).unwrap();
        for found in [evaluated, trained] {
            assert!((found.mean_loss() / expected - 1.0).abs() < 1e-6, "{found:?}, {expected}");
            assert_eq!((found.divisor, found.images, found.correct), (30.0, 5, 0));
        }
        assert!(workers.gradients(|all| all.iter().all(|own| own.data().iter().any(|&g| g != 0.0))));
    }

    #[test]
    fn a_tensor_without_axes_is_refused() {
        let error =
            Workers::new(1).unwrap().predict(&Flatten, &Tensor::full(Shape::scalar(), 1.0)).unwrap_err();
        assert_eq!(error.to_string(), "predict: expected images, found a scalar");
    }
}
