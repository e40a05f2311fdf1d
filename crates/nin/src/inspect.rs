//! What a batch of images is inside of a network: how large the signal is after each layer, how much of it tells the images
//! apart, which units are silent, and how large the gradients of the weights are.

mod spectral;

use std::sync::Arc;

use autograd::{Context, Tape};
use serde::Serialize;
use tensor::Tensor;

use crate::data::Batch;
use crate::loss::Loss;
use crate::nn::{Module, parameters};
use crate::summary::leaves;
use crate::train::lanes::StepSettings;
use crate::train::{Lanes, TrainError};
use spectral::spectral_norm;

/// Images that are in a layer at once.
const TOGETHER: usize = 16;

/// A convolution or a fully connected layer, with the ReLU after it if there is one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerSignal {
    /// Where the layer is: `0.2`.
    pub path: String,
    /// Its kind and settings, and `+ ReLU` if one follows.
    pub kind: String,
    /// The root of the mean square of the output.
    pub rms: f64,
    /// The root of the mean variance of a unit over the images: the part of `rms` that tells one image from another. Rows and
    /// columns of a map are units of their own.
    pub between_images: f64,
    /// The share of the output that is exactly 0.
    pub zeros: f64,
    /// The share of the channels that are 0 at every pixel of every image.
    pub dead_channels: f64,
    /// The root of the mean square of the weights.
    pub weight_rms: f64,
    /// The largest singular value of the weights, a row for each output channel: the most that they stretch a patch.
    pub spectral_norm: f64,
    /// The Euclidean norm of the weights' gradient, of the batch's mean loss in training (with dropout).
    pub gradient_norm: f64,
}

/// The whole network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Signal {
    /// Its layers with weights.
    pub layers: Vec<LayerSignal>,
    /// Classes whose last channel is 0 at every pixel of every image, where the last layer with weights has one for each class
    /// and a ReLU.
    pub dead_classes: Vec<usize>,
    /// The mean logit.
    pub logit_mean: f64,
    /// The root of the mean variance of an image's logits: how far apart the classes are.
    pub between_classes: f64,
    /// The root of the mean variance of a logit over the images: how far apart the images are.
    pub between_images: f64,
    /// The mean loss in training (with dropout).
    pub loss: f64,
}

/// Sums over the images that a layer has seen.
struct Sums {
    /// Of each unit's values.
    unit: Vec<f64>,
    squares: f64,
    zeros: usize,
    values: usize,
    /// Whether a channel was ever anything but 0.
    alive: Vec<bool>,
}

impl Sums {
    fn new(units: usize, channels: usize) -> Self {
        Self { unit: vec![0.0; units], squares: 0.0, zeros: 0, values: 0, alive: vec![false; channels] }
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
pub fn inspect(
    network: &dyn Module<f32>,
    batch: &Batch,
    lanes: &Lanes,
    loss: &dyn Loss<f32>,
    settings: StepSettings,
) -> Result<Signal, TrainError> {
    let leaves = leaves(network);
    let mut seen: Vec<(usize, String, Sums)> = Vec::new();
    let mut logits = Vec::new();
    for from in (0..batch.len()).step_by(TOGETHER) {
        let to = batch.len().min(from + TOGETHER);
        let mut x = batch.narrow_in(lanes.pool(), from, to);
        let mut row = 0;
        for (index, (_, layer)) in leaves.iter().enumerate() {
            x = apply(lanes, *layer, x)?;
            if parameters(*layer).is_empty() {
                continue;
            }
            let relu = leaves.get(index + 1).is_some_and(|(_, next)| next.is_relu());
            if from == 0 {
                let sums = Sums::new(x.len() / (to - from), x.shape().get(1).copied().unwrap_or(1));
                let kind = format!("{}{}", layer.kind(), if relu { " + ReLU" } else { "" });
                seen.push((index, kind, sums));
            }
            // The ReLU comes again as a layer of its own: it changes nothing then.
            if relu {
                x = apply(lanes, leaves[index + 1].1, x)?;
            }
            seen[row].2.add(x.data());
            row += 1;
        }
        logits.extend_from_slice(x.data());
    }
    let loss = lanes.step(network, batch, loss, settings)?.mean_loss();
    let norms = lanes.gradients(|gradients| gradients.iter().map(norm_of).collect::<Vec<_>>());
    let weights: Vec<(String, [f64; 3])> = parameters(network)
        .into_iter()
        .zip(norms)
        .filter_map(|((name, parameter), gradient)| {
            let (path, weight) = (name.strip_suffix(".weight")?.to_owned(), &parameter.value);
            Some((path, [norm_of(weight) / (weight.len() as f64).sqrt(), spectral_norm(weight), gradient]))
        })
        .collect();
    let last = seen.last();
    let relu_ends = last.is_some_and(|(_, kind, _)| kind.ends_with("ReLU"));
    let dead_classes = last.map_or(Vec::new(), |(_, _, sums)| {
        let per_class = relu_ends && sums.alive.len() * batch.len() == logits.len();
        (0..sums.alive.len()).filter(|&class| per_class && !sums.alive[class]).collect()
    });
    let layers = seen
        .iter()
        .map(|(index, kind, sums)| {
            let path = &leaves[*index].0;
            let own = weights.iter().find(|(name, _)| name == path);
            let [weight_rms, spectral_norm, gradient_norm] = own.map_or([0.0; 3], |own| own.1);
            let (square, variance) = sums.moments();
            LayerSignal {
                path: path.clone(),
                kind: kind.clone(),
                rms: square.sqrt(),
                between_images: variance.sqrt(),
                zeros: sums.zeros as f64 / sums.values.max(1) as f64,
                dead_channels: sums.alive.iter().filter(|&&alive| !alive).count() as f64
                    / sums.alive.len() as f64,
                weight_rms,
                spectral_norm,
                gradient_norm,
            }
        })
        .collect();
    let classes = logits.len() / batch.len();
    let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
    let rows: Vec<Vec<f64>> = logits.chunks(classes).map(<[f64]>::to_vec).collect();
    let columns: Vec<Vec<f64>> =
        (0..classes).map(|class| rows.iter().map(|row| row[class]).collect()).collect();
    Ok(Signal {
        layers,
        dead_classes,
        logit_mean: mean(&logits),
        between_classes: mean_variance(&rows).sqrt(),
        between_images: mean_variance(&columns).sqrt(),
        loss,
    })
}

/// One layer, without keeping anything for a backward pass.
fn apply(lanes: &Lanes, layer: &dyn Module<f32>, x: Tensor<f32>) -> Result<Tensor<f32>, TrainError> {
    let context =
        Context { conv: lanes.conv(), parallel: true, ..Context::evaluation(Arc::clone(lanes.pool())) };
    lanes.install(|| {
        let tape = Tape::new(context);
        Ok(layer.forward(tape.constant(x))?.into_value())
    })
}

/// The Euclidean norm.
fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|value| value.powi(2)).sum::<f64>().sqrt()
}

fn norm_of(tensor: &Tensor<f32>) -> f64 {
    norm(tensor.data().iter().map(|&value| f64::from(value)))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn mean_variance(all: &[Vec<f64>]) -> f64 {
    let variance = |values: &Vec<f64>| {
        let centre = mean(values);
        mean(&values.iter().map(|value| (value - centre).powi(2)).collect::<Vec<_>>())
    };
    mean(&all.iter().map(variance).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two images of two channels of one pixel each.
    #[test]
    fn moments_tell_size_from_difference() {
        let mut sums = Sums::new(2, 2);
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
    fn variances_are_those_of_rows_and_columns() {
        assert_eq!(mean_variance(&[vec![1.0, 3.0], vec![2.0, 2.0]]), 0.5);
        assert_eq!(mean_variance(&[vec![1.0], vec![5.0]]), 0.0);
    }
}
