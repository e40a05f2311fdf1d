//! Regression with the mean squared error: where in the image is the spot?
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::sync::Arc;

use nin::data::{ArrayDataset, DataError, DataLoader, LoaderOptions};
use nin::loss::Mse;
use nin::nn::{Conv2d, Flatten, Linear, MaxPool2d, Relu, Sequential, initialize};
use nin::optim::{AdamW, Optimizer, Schedule};
use nin::tensor::init::Init;
use nin::tensor::{Purpose, RandomStream};
use nin::train::{Metrics, StepSettings, Workers};

/// Pixels along each side.
const SIDE: usize = 12;

/// Images of a spot each, 1 x 12 x 12, with the spot's row and column from -1 to 1.
fn spots(count: usize, seed: u64) -> Result<ArrayDataset, DataError> {
    let mut random = RandomStream::new(seed, 0, Purpose::Other(0), 0);
    let (mut pixels, mut places) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let [row, column] = [(); 2].map(|()| (1.6 * random.uniform() - 0.8) as f32);
        let place = |index: usize| 2.0 * index as f32 / (SIDE - 1) as f32 - 1.0;
        for index in 0..SIDE * SIDE {
            let (y, x) = (place(index / SIDE) - row, place(index % SIDE) - column);
            pixels.push((-8.0 * (x * x + y * y)).exp());
        }
        places.push([row, column]);
    }
    ArrayDataset::new([1, SIDE, SIDE], pixels, places)
}

/// Answers the root of the mean squared error on spots that were not learned from, in pixels, before training and after.
pub(crate) fn run() -> Result<(f64, f64), Box<dyn Error>> {
    let options = LoaderOptions { batch_size: 32, shuffle: true, seed: 1, ..LoaderOptions::default() };
    let train = DataLoader::new(Arc::new(spots(1024, 1)?), options.clone())?;
    let test = DataLoader::new(Arc::new(spots(256, 2)?), options)?;

    let mut net = Sequential::new().with(Conv2d::new(1, 8, 3, 1, 1)).with(Relu).with(MaxPool2d::new(2, 2));
    net = net.with(Conv2d::new(8, 16, 3, 1, 1)).with(Relu).with(MaxPool2d::new(2, 2));
    net = net.with(Flatten).with(Linear::new(16 * 3 * 3, 2));
    initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 1);
    let (mut workers, rate, epochs) = (Workers::new(2)?, 3e-3, 8);
    let mut optimizer = AdamW::new(rate).weight_decay(1e-4);

    let error = |workers: &Workers, net: &Sequential<f32>| -> Result<f64, Box<dyn Error>> {
        let mut sums = Metrics::default();
        for batch in test.epoch(0) {
            sums.add(workers.evaluate(net, &batch?, &Mse)?);
        }
        Ok(sums.mean_loss().sqrt() * (SIDE - 1) as f64 / 2.0)
    };
    let before = error(&workers, &net)?;
    let schedule = Schedule::Cosine.over(epochs * train.batches_per_epoch() as u64);
    let mut steps = 0..;
    for epoch in 0..epochs {
        for batch in train.epoch(epoch) {
            workers.step(&net, &batch?, &Mse, StepSettings { seed: 1, epoch })?;
            optimizer.set_learning_rate(rate * schedule.factor(steps.next().unwrap_or(0)));
            workers.gradients(|gradients| optimizer.step(&mut net, gradients.into()))?;
        }
        println!("epoch {epoch}: off by {:.3} pixels", error(&workers, &net)?);
    }
    let after = error(&workers, &net)?;
    println!("the spot is found to within {after:.3} pixels, before training {before:.3}");
    Ok((before, after))
}

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}
