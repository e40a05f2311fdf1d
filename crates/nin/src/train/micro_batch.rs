//! A few images of a batch: how many they are, and their way forward and back on one worker.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::RangeInclusive;
use std::sync::Arc;

use autograd::{Bound, Context, Run, Tape, Var};
use tensor::conv::ConvAlgorithm;
use tensor::{BufferPool, Shape, ShapeError, Tensor};

use super::error::TrainError;
use super::evaluation::{Metrics, correct};
use super::workers::StepSettings;
use crate::data::Batch;
use crate::loss::Loss;
use crate::nn::{Module, bound};

/// The fewest and the most images of a micro-batch, if its batch has as many.
const MICRO_BATCH: RangeInclusive<usize> = 2..=8;
/// Micro-batches that a batch is cut into before they have more than [`LARGE`] images: work for as many threads.
const PARTS: usize = 32;
/// Images that a micro-batch may have though there are fewer than [`PARTS`].
const LARGE: usize = 4;

/// The images of a micro-batch of a batch of this shape: a power of two from 2 to 8, or `None` if the network looks across its
/// batch ([`Graph::looks_across`](autograd::Graph::looks_across)), which is not cut then.
///
/// Every micro-batch reads all weights and adds to all of their gradients. So a network of many weights takes as many images at
/// once as have as many values as it has weights, rounded up; one of few weights takes few images, whose values stay near the
/// core. More than 4 are taken only of batches that still have work for 32 threads then. It is a function of network and batch
/// alone, not of threads.
///
/// # Errors
/// [`TrainError`] if the network does not fit the images.
pub fn micro_batch_images(
    model: &dyn Module<f32>,
    context: &Context,
    batch: Shape,
) -> Result<Option<usize>, TrainError> {
    let whole = model.plan(context, batch)?;
    let few = batch[0].min(*MICRO_BATCH.start());
    // A network that takes no batch but of its own size is not cut either.
    let plan = match model.plan(context, with_images(batch, few)) {
        Ok(plan) if !whole.graph().looks_across() => plan,
        _ => return Ok(None),
    };
    let (mut weights, mut values) = (0, 1);
    for (index, node) in plan.graph().nodes().iter().enumerate() {
        if node.parameter().is_some() {
            weights += node.shape().elements();
        } else if plan.runs(index) {
            values += node.shape().elements();
        }
    }
    let most = (batch[0] / PARTS).max(LARGE);
    let images = (weights * few).div_ceil(values).next_power_of_two().min(1 << most.ilog2());
    Ok(Some(images.clamp(*MICRO_BATCH.start(), *MICRO_BATCH.end())))
}

/// The shape of a batch with this number of images.
pub(super) fn with_images(batch: Shape, images: usize) -> Shape {
    let mut extents = batch.to_vec();
    extents[0] = images;
    Shape::new(&extents)
}

/// Plans of a network for micro-batches of these sizes, by which they are found, each with the values of its parameters. `batch`
/// is the shape of the whole batch.
pub(super) fn bind(
    model: &dyn Module<f32>,
    context: &Context,
    batch: Shape,
    sizes: impl Iterator<Item = usize>,
) -> Result<BTreeMap<usize, Bound<f32>>, TrainError> {
    let mut all = BTreeMap::new();
    for n in sizes {
        if let Entry::Vacant(place) = all.entry(n) {
            let plan = model.plan(context, with_images(batch, n))?;
            place.insert(bound(model, plan, context));
        }
    }
    Ok(all)
}

/// Settings and data that all micro-batches of a step share.
pub(super) struct StepInputs<'a> {
    pub(super) batch: &'a Batch,
    pub(super) settings: StepSettings,
    pub(super) loss: &'a dyn Loss<f32>,
    /// The loss's divisor for the whole batch.
    pub(super) divisor: f64,
    pub(super) conv: ConvAlgorithm,
}

/// The images `start..end` of a batch.
pub(super) struct MicroBatch<'a> {
    pub(super) step: &'a StepInputs<'a>,
    pub(super) bound: &'a Bound<f32>,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl MicroBatch<'_> {
    /// The surroundings of its passes, with memory from `pool`.
    pub(super) fn context(&self, pool: &Arc<BufferPool>) -> Context {
        let StepSettings { seed, epoch } = self.step.settings;
        let images = self.end - self.start;
        Context {
            seed,
            epoch,
            samples: self.step.batch.samples()[self.start..self.end].to_vec(),
            // A batch that is not cut has no other work for the other threads.
            parallel: images > 1 && images == self.step.batch.len() && rayon::current_num_threads() > 1,
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
        let StepInputs { batch, loss, divisor, .. } = self.step;
        // None if the data set's targets are dense: nothing is right or wrong then.
        let labels = batch.labels().get(self.start..self.end).unwrap_or_default();
        let output = run.take_output();
        let correct = correct(output.data(), labels);
        let tape = Tape::new(context.clone());
        let targets = batch.targets_in(context.pool(), self.start, self.end);
        let (output, images) = (tape.leaf(output), self.end - self.start);
        let (share, sum) = share_and_sum(*loss, output.clone(), targets, *divisor)?;
        // Where no image has a weight, none moves anything.
        let gradient = if *divisor == 0.0 { None } else { tape.backward(share)?.get(&output).cloned() };
        // By its images: those of the whole batch have the whole divisor.
        let divisor = divisor * images as f64 / batch.len() as f64;
        let metrics = Metrics { loss: sum, divisor, correct, images };
        let gradient = gradient.unwrap_or_else(|| Tensor::zeros_in(context.pool(), output.shape()));
        Ok((self.bound.turn(run, gradient), metrics))
    }
}

/// What images are of their batch's mean loss, whose divisor this is, and the sum of their losses. With a divisor of 0, where no
/// image has a weight, there is no mean, and the share is that sum.
pub(super) fn share_and_sum<'t>(
    loss: &dyn Loss<f32>,
    output: Var<'t, f32>,
    targets: Tensor<f32>,
    divisor: f64,
) -> Result<(Var<'t, f32>, f64), TrainError> {
    let divisor = if divisor == 0.0 { 1.0 } else { divisor };
    let targets = output.tape().constant(targets_for(output.value().shape(), targets));
    let share = loss.share(output, targets, divisor).map_err(TrainError::Autograd)?;
    let shape = share.value().shape();
    if shape.elements() != 1 {
        let message = format!("expected one number, found {shape}: end it with a mean or a sum");
        return Err(ShapeError::new("loss", message).into());
    }
    let sum = f64::from(share.value().item()) * divisor;
    Ok((share, sum))
}

/// The targets of some images as the loss gets them: dense ones, N x K, in the output's shape, if that has as many values for
/// each image; any others as they are.
fn targets_for(output: Shape, targets: Tensor<f32>) -> Tensor<f32> {
    let is_dense = targets.shape().len() > 1 && output.first() == targets.shape().first();
    if is_dense && output.elements() == targets.len() {
        targets.reshape(output).expect("the elements are as many")
    } else {
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Model, Network};

    #[test]
    fn a_micro_batch_has_more_images_where_weights_outweigh_values() {
        let images = |model, size, batch| {
            let network = Network::new(model, [1, size, size], 10).build().unwrap();
            let context = Context::training(BufferPool::new());
            micro_batch_images(&network, &context, Shape::new(&[batch, 1, size, size])).unwrap().unwrap()
        };
        assert_eq!(images(Model::Nin, 224, 128), 2);
        assert_eq!(images(Model::Nin, 224, 1), 2);
        assert_eq!(images(Model::NinD2l, 224, 128), 4, "3.2 images have as many values");
        assert_eq!(images(Model::NinCifar, 28, 32), 4);
        assert_eq!(images(Model::ResNet18Cifar, 28, 128), 4);
        assert_eq!(images(Model::Nin, 64, 32), 4);
        assert_eq!([32, 128, 256].map(|batch| images(Model::AlexNet, 224, batch)), [4, 4, 8]);
    }
}
