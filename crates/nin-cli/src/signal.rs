//! The signal of a batch of images inside of a network: how large the signal is after each layer, how much of it tells the images
//! apart, which units are silent, and how large the gradients of the weights are.

mod spectral;

use std::sync::Arc;

use autograd::{Context, Graph, Plan};
use nin::ClassMaps;
use nin::data::Batch;
use nin::loss::Loss;
use nin::nn::{Module, bound, parameters};
use nin::train::{StepSettings, TrainError, Workers};
use serde::Serialize;
use tensor::{BufferPool, Tensor, ops};

use spectral::spectral_norm;

/// Images that are in a layer at once.
const TOGETHER: usize = 16;

/// A layer with a weight, such as a convolution or a normalization, with the ReLU after it if there is one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct LayerSignal {
    /// The place of the layer: `0.2`.
    pub(crate) path: String,
    /// Its kind and settings, and `+ ReLU` if one follows.
    pub(crate) kind: String,
    /// The root of the mean square of the output.
    pub(crate) rms: f64,
    /// The root of the mean variance of a unit over the images: the part of `rms` that tells one image from another. Rows and
    /// columns of a map are units of their own.
    pub(crate) between_images: f64,
    /// The share of the output that is exactly 0.
    pub(crate) zeros: f64,
    /// The share of the channels that are 0 at every pixel of every image.
    pub(crate) dead_channels: f64,
    /// The root of the mean square of the weights.
    pub(crate) weight_rms: f64,
    /// The largest singular value of the weights, a row for each output channel: the most that they stretch a patch.
    pub(crate) spectral_norm: f64,
    /// The Euclidean norm of the weights' gradient, of the batch's mean loss in training (with dropout).
    pub(crate) gradient_norm: f64,
}

/// The whole network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Signal {
    /// Its layers with weights.
    pub(crate) layers: Vec<LayerSignal>,
    /// Classes whose map is 0 at every pixel of every image; `None` where logits are not the means of maps, one for each class,
    /// that a ReLU ends.
    pub(crate) dead_classes: Option<Vec<usize>>,
    /// The mean logit.
    pub(crate) logit_mean: f64,
    /// The root of the mean variance of an image's logits: how far apart the classes are.
    pub(crate) between_classes: f64,
    /// The root of the mean variance of a logit over the images: how far apart the images are.
    pub(crate) between_images: f64,
    /// The mean loss in training (with dropout).
    pub(crate) loss: f64,
}

/// Sums over the images that a layer has seen.
struct UnitSums {
    /// Of each unit's values.
    unit: Vec<f64>,
    squares: f64,
    zeros: usize,
    values: usize,
    /// Tells of each channel whether it was ever anything but 0.
    alive: Vec<bool>,
}

/// A layer with weights, and what it has given out.
struct Seen {
    path: String,
    kind: String,
    /// The number of its weight among the parameters.
    weight: usize,
    sums: UnitSums,
}

impl UnitSums {
    fn new(units: usize, channels: usize) -> Self {
        Self { unit: vec![0.0; units], squares: 0.0, zeros: 0, values: 0, alive: vec![false; channels] }
    }

    /// Over rows of so many units.
    fn of(rows: &[f32], units: usize) -> Self {
        let mut sums = Self::new(units, 1);
        sums.add(rows);
        sums
    }

    fn add(&mut self, output: &[f32]) {
        let per_channel = self.unit.len() / self.alive.len();
        for image in output.chunks(self.unit.len()) {
            for (index, (&value, sum)) in image.iter().zip(&mut self.unit).enumerate() {
                *sum += f64::from(value);
                self.squares += f64::from(value).powi(2);
                if value == 0.0 {
                    self.zeros += 1;
                } else {
                    self.alive[index / per_channel] = true;
                }
            }
        }
        self.values += output.len();
    }

    /// The mean square, and the mean variance of a unit.
    fn moments(&self) -> (f64, f64) {
        let images = (self.values / self.unit.len()).max(1) as f64;
        let square = self.squares / self.values.max(1) as f64;
        let of_means =
            self.unit.iter().map(|sum| (sum / images).powi(2)).sum::<f64>() / self.unit.len() as f64;
        (square, (square - of_means).max(0.0))
    }
}

/// Sends a batch through a network, and its gradients back. The weights stay as they are.
///
/// # Errors
/// [`TrainError`] if the network does not fit the images or the labels.
pub(crate) fn inspect(
    network: &dyn Module<f32>,
    batch: &Batch,
    workers: &mut Workers,
    loss: &dyn Loss<f32>,
    settings: StepSettings,
) -> Result<Signal, TrainError> {
    let own = parameters(network);
    let weight_of = |identity| own.iter().position(|(_, parameter)| parameter.identity == identity);
    let (pool, mut seen) = (BufferPool::new(), Vec::<Seen>::new());
    let mut logits = Vec::new();
    for from in (0..batch.len()).step_by(TOGETHER) {
        let to = batch.len().min(from + TOGETHER);
        let x = batch.narrow_in(&pool, from, to);
        let context =
            Context { conv: workers.conv(), parallel: true, ..Context::evaluation(Arc::clone(&pool)) };
        let graph = Graph::trace(&context, x.shape(), |x| network.forward(x))?;
        let bound = bound(network, Arc::new(Plan::unfused(graph)), &context);
        let graph = bound.plan().graph();
        let (nodes, readers) = (graph.nodes(), graph.readers());
        let mut row = 0;
        let mut see = |index: usize, x: &Tensor<f32>| {
            // A layer is seen at its ReLU, if that is what reads it.
            let relu = nodes[index].op::<ops::Relu>().map(|_| nodes[index].inputs()[0]);
            let layer = relu.filter(|&layer| readers[layer] == [index]).unwrap_or(index);
            let next = if let [next] = readers[layer][..] { nodes.get(next) } else { None };
            let left = next.filter(|next| next.op::<ops::Relu>().is_some());
            let weight =
                nodes[layer].inputs().get(1).and_then(|&weight| weight_of(nodes[weight].parameter()?));
            let Some(weight) = weight else { return };
            if layer == index && left.is_some() {
                return;
            }
            if from == 0 {
                let sums = UnitSums::new(x.len() / (to - from), x.shape().get(1).copied().unwrap_or(1));
                let relu = if layer == index { "" } else { " + ReLU" };
                let (path, kind) = (nodes[layer].path().to_owned(), graph.describe(layer) + relu);
                seen.push(Seen { path, kind, weight, sums });
            }
            seen[row].sums.add(x.data());
            row += 1;
        };
        let run = workers.install(|| bound.visit(&context, x, |index, x| see(index, x)));
        logits.extend_from_slice(run.output().data());
    }
    let loss = workers.step(network, batch, loss, settings)?.mean_loss();
    let norms = workers.gradients(|gradients| gradients.iter().map(norm_of).collect::<Vec<_>>());
    let classes = logits.len() / batch.len();
    let maps = ClassMaps::are_made_by(network, batch.shape(), classes)?;
    let last = seen.last().filter(|last| maps && last.kind.ends_with("ReLU"));
    let dead_classes =
        last.map(|Seen { sums, .. }| (0..classes).filter(|&class| !sums.alive[class]).collect());
    let of_layer = |Seen { path, kind, weight, sums }: Seen| {
        let value = &own[weight].1.value;
        let (square, variance) = sums.moments();
        LayerSignal {
            path,
            kind,
            rms: square.sqrt(),
            between_images: variance.sqrt(),
            zeros: sums.zeros as f64 / sums.values.max(1) as f64,
            dead_channels: sums.alive.iter().filter(|&&alive| !alive).count() as f64
                / sums.alive.len() as f64,
            weight_rms: norm_of(value) / (value.len() as f64).sqrt(),
            spectral_norm: spectral_norm(value),
            gradient_norm: norms[weight],
        }
    };
    let layers = seen.into_iter().map(of_layer).collect();
    let by_class: Vec<f32> =
        (0..classes).flat_map(|class| logits.iter().skip(class).step_by(classes).copied()).collect();
    Ok(Signal {
        layers,
        dead_classes,
        logit_mean: logits.iter().map(|&logit| f64::from(logit)).sum::<f64>() / logits.len() as f64,
        between_classes: UnitSums::of(&by_class, batch.len()).moments().1.sqrt(),
        between_images: UnitSums::of(&logits, classes).moments().1.sqrt(),
        loss,
    })
}

/// The Euclidean norm.
fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value.powi(2)).sum::<f64>().sqrt()
}

fn norm_of(tensor: &Tensor<f32>) -> f64 {
    norm(tensor.data().iter().map(|&value| f64::from(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of two channels of one pixel each.
    #[test]
    fn moments_tell_size_from_difference() {
        let mut sums = UnitSums::new(2, 2);
        sums.add(&[3.0, 0.0]);
        sums.add(&[1.0, 0.0]);
        let (square, variance) = sums.moments();
        assert_eq!((square, variance), (2.5, 0.5));
        assert_eq!((sums.zeros, sums.values), (2, 4));
        assert_eq!(sums.alive, [true, false]);
        // The same images again change no mean.
        sums.add(&[3.0, 0.0, 1.0, 0.0]);
        assert_eq!(sums.moments(), (2.5, 0.5));
    }

    #[test]
    fn variances_are_those_of_units() {
        assert_eq!(UnitSums::of(&[1.0, 2.0, 3.0, 2.0], 2).moments().1, 0.5);
        assert_eq!(UnitSums::of(&[1.0, 5.0], 2).moments().1, 0.0);
    }
}
