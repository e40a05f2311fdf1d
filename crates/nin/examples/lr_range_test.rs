//! A learning-rate range test (Smith 2017, section 3.3): the rate grows with every step, and the loss tells which rates learn.
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::sync::Arc;

use nin::data::{DataLoader, DataSources, Dataset, DatasetKind, LoaderOptions, Normalization, Subset, load};
use nin::loss::CrossEntropy;
use nin::nn::{Conv2d, Flatten, Linear, MaxPool2d, Planned, Relu, Sequential, initialize};
use nin::optim::{Optimizer, Sgd};
use nin::tensor::init::Init;
use nin::train::{StepSettings, Workers};

/// The rates of the test: from the first to the last in equal factors.
const RATES: [f64; 2] = [1e-4, 10.0];
const STEPS: i32 = 100;

type Losses = Vec<f64>;

/// The mean loss of each step of a fresh network at these learning rates, until it is no number.
fn losses(data: &Arc<dyn Dataset>, rates: impl Iterator<Item = f64>) -> Result<Losses, Box<dyn Error>> {
    let normalization = Some(Normalization::of(&**data)?);
    let options =
        LoaderOptions { batch_size: 32, shuffle: true, seed: 2, normalization, ..LoaderOptions::default() };
    let batches = DataLoader::new(data.clone(), options)?;
    let mut net = Sequential::new().with(Conv2d::new(1, 12, 5, 2, 2)).with(Relu).with(MaxPool2d::new(2, 2));
    net = net.with(Flatten).with(Linear::new(12 * 7 * 7, 64)).with(Relu).with(Linear::new(64, 10));
    initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 2);
    let (mut net, mut workers, loss) = (Planned::new(net), Workers::new(2)?, CrossEntropy::default());
    let mut sgd = Sgd::new(RATES[0]).momentum(0.9);
    let mut losses = Vec::new();
    for (batch, rate) in (0..).flat_map(|epoch| batches.epoch(epoch)).zip(rates) {
        let sums = workers.step(&net, &batch?, &loss, StepSettings { seed: 2, epoch: 0 })?;
        if !sums.loss.is_finite() {
            break;
        }
        losses.push(sums.mean_loss());
        sgd.set_learning_rate(rate);
        workers.gradients(|gradients| sgd.step(&mut net, gradients.into()))?;
    }
    Ok(losses)
}

/// Answers the losses of the test, the rate that it suggests, and the losses at that rate.
pub(crate) fn run() -> Result<(Losses, f64, Losses), Box<dyn Error>> {
    let data = load(DatasetKind::FashionMnistMini, &DataSources::new(None))?.train;
    let data: Arc<dyn Dataset> = Arc::new(Subset::new(Arc::new(data), 0..3200));
    let rate = |step: i32| RATES[0] * (RATES[1] / RATES[0]).powf(f64::from(step) / f64::from(STEPS - 1));
    let test = losses(&data, (0..STEPS).map(rate))?;
    // A running mean takes the noise of single batches away; where it is smallest, the rate is already too large to be held.
    let (mut mean, mut least) = (test[0], (test[0], RATES[0]));
    for (step, loss) in (0..).zip(&test) {
        mean += 0.2 * (loss - mean);
        if mean < least.0 {
            least = (mean, rate(step));
        }
        if step % 10 == 0 {
            println!("rate {:9.5}: loss {mean:.3}", rate(step));
        }
    }
    let suggested = least.1 / 10.0;
    let trained = losses(&data, std::iter::repeat_n(suggested, 100))?;
    let last: f64 = trained.iter().rev().take(10).sum::<f64>() / 10.0;
    println!("the loss is least at a rate of {:.4}: begin with {suggested:.4}, a tenth of it", least.1);
    println!("100 steps at that rate bring the loss from {:.3} to {last:.3}", trained[0]);
    Ok((test, suggested, trained))
}

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}
