//! A module of one's own: a residual block with batch normalization, trained on the bundled images.
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::sync::Arc;

use nin::autograd::{AutogradError, Var};
use nin::data::{DataLoader, DataSources, DatasetKind, LoaderOptions, Normalization, Subset, load};
use nin::loss::CrossEntropy;
use nin::nn::{
    AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, Module, Planned, Relu, Sequential, initialize,
};
use nin::optim::{AdamW, Optimizer, Schedule};
use nin::tensor::init::Init;
use nin::train::{Metrics, StepSettings, Workers};

/// relu(x + bn2(conv2(relu(bn1(conv1(x)))))): N x C x H x W to the same.
#[derive(Debug)]
struct Residual {
    conv1: Conv2d<f32>,
    bn1: BatchNorm2d<f32>,
    conv2: Conv2d<f32>,
    bn2: BatchNorm2d<f32>,
}

impl Residual {
    fn new(channels: usize) -> Self {
        let conv = || Conv2d::new(channels, channels, 3, 1, 1).without_bias();
        let bn = || BatchNorm2d::new(channels);
        Self { conv1: conv(), bn1: bn(), conv2: conv(), bn2: bn() }
    }
}

impl Module<f32> for Residual {
    fn forward<'t>(&self, x: Var<'t, f32>) -> Result<Var<'t, f32>, AutogradError> {
        let y = self.bn1.forward(self.conv1.forward(x.clone())?)?.relu()?;
        self.bn2.forward(self.conv2.forward(y)?)?.add(x)?.relu()
    }

    nin::visit_fields!(f32: conv1, bn1, conv2, bn2);
}

/// Answers the mean training loss of the first epoch and of the last, and the share of test images that are classified correctly.
pub(crate) fn run() -> Result<(f64, f64, f64), Box<dyn Error>> {
    let data = load(DatasetKind::FashionMnistMini, &DataSources::new(None))?;
    let normalization = Some(Normalization::of(&data.train)?);
    let options = LoaderOptions { batch_size: 32, normalization, ..LoaderOptions::default() };
    let train = LoaderOptions { shuffle: true, seed: 7, ..options.clone() };
    let train = DataLoader::new(Arc::new(Subset::new(Arc::new(data.train), 0..2000)), train)?;
    let test = DataLoader::new(Arc::new(Subset::new(Arc::new(data.test), 0..1000)), options)?;

    let net = Sequential::new().with(Conv2d::new(1, 16, 5, 2, 2)).with(Relu).with(Residual::new(16));
    let net = net.with(Conv2d::new(16, 32, 3, 2, 1)).with(Relu).with(Residual::new(32));
    // Planned: the network is traced once, not in every step.
    let mut net = Planned::new(net.with(AdaptiveAvgPool2d::GLOBAL).with(Flatten).with(Linear::new(32, 10)));
    initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 7);
    let (loss, mut optimizer, mut workers) = (CrossEntropy::default(), AdamW::new(1e-2), Workers::new(2)?);
    let schedule = Schedule::OneCycle { rise: 0.3 }.over(3 * train.batches_per_epoch() as u64);
    let (mut losses, mut steps) = (Vec::new(), 0..);
    for epoch in 0..3 {
        let mut sums = Metrics::default();
        for batch in train.epoch(epoch) {
            sums.add(workers.step(&net, &batch?, &loss, StepSettings { seed: 7, epoch })?);
            optimizer.set_learning_rate(1e-2 * schedule.factor(steps.next().unwrap_or(0)));
            workers.gradients(|gradients| optimizer.step(&mut net, gradients.into()))?;
        }
        println!("epoch {epoch}: loss {:.4}, accuracy {:.3}", sums.mean_loss(), sums.accuracy());
        losses.push(sums.mean_loss());
    }
    let mut sums = Metrics::default();
    for batch in test.epoch(0) {
        sums.add(workers.evaluate(&net, &batch?, &loss)?);
    }
    println!("test accuracy after 3 epochs of 2,000 images: {:.3}", sums.accuracy());
    Ok((losses[0], losses[2], sums.accuracy()))
}

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}
