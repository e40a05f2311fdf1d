//! Regression with the mean squared error: where in the image is the spot? By a loop of one's own, then by a `Trainer`, which
//! keeps a run folder and goes on with a run that was stopped.
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nin::data::{ArrayDataset, DataError, DataLoader, LoaderOptions};
use nin::loss::Mse;
use nin::nn::{Conv2d, Flatten, Linear, MaxPool2d, Relu, Sequential, initialize};
use nin::optim::{AdamW, Optimizer, Schedule};
use nin::tensor::init::Init;
use nin::tensor::{Purpose, RandomStream};
use nin::train::{Event, Metrics, RunDir, Settings, StepSettings, Trainer, Workers};

/// Pixels along each side.
const SIDE: usize = 12;

const EPOCHS: u64 = 8;

/// The learning rate at the beginning.
const RATE: f64 = 3e-3;

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

/// Spots to learn from, in a new order every epoch, and spots to be judged by.
fn loaders() -> Result<(DataLoader, DataLoader), DataError> {
    let options = LoaderOptions { batch_size: 32, seed: 1, ..LoaderOptions::default() };
    let shuffled = LoaderOptions { shuffle: true, ..options.clone() };
    Ok((
        DataLoader::new(Arc::new(spots(1024, 1)?), shuffled)?,
        DataLoader::new(Arc::new(spots(256, 2)?), options)?,
    ))
}

fn network() -> Sequential<f32> {
    let mut net = Sequential::new().with(Conv2d::new(1, 8, 3, 1, 1)).with(Relu).with(MaxPool2d::new(2, 2));
    net = net.with(Conv2d::new(8, 16, 3, 1, 1)).with(Relu).with(MaxPool2d::new(2, 2));
    net = net.with(Flatten).with(Linear::new(16 * 3 * 3, 2));
    initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 1);
    net
}

fn optimizer() -> AdamW {
    AdamW::new(RATE).weight_decay(1e-4)
}

/// The root of a mean squared error, in pixels.
fn pixels(mean: f64) -> f64 {
    mean.sqrt() * (SIDE - 1) as f64 / 2.0
}

/// A loop of one's own. Answers how far off the network is on spots that it did not learn from, in pixels, before training and
/// after.
pub(crate) fn run() -> Result<(f64, f64), Box<dyn Error>> {
    let ((train, test), mut net, mut optimizer) = (loaders()?, network(), optimizer());
    let mut workers = Workers::new(2)?;
    let error = |workers: &Workers, net: &Sequential<f32>| -> Result<f64, Box<dyn Error>> {
        let mut sums = Metrics::default();
        for batch in test.epoch(0) {
            sums.add(workers.evaluate(net, &batch?, &Mse)?);
        }
        Ok(pixels(sums.mean_loss()))
    };
    let before = error(&workers, &net)?;
    let schedule = Schedule::Cosine.over(EPOCHS * train.batches_per_epoch() as u64);
    let mut steps = 0..;
    for epoch in 0..EPOCHS {
        for batch in train.epoch(epoch) {
            workers.step(&net, &batch?, &Mse, StepSettings { seed: 1, epoch })?;
            optimizer.set_learning_rate(RATE * schedule.factor(steps.next().unwrap_or(0)));
            workers.gradients(|gradients| optimizer.step(&mut net, gradients.into()))?;
        }
        println!("epoch {epoch}: off by {:.3} pixels", error(&workers, &net)?);
    }
    let after = error(&workers, &net)?;
    println!("the spot is found to within {after:.3} pixels, before training {before:.3}");
    Ok((before, after))
}

/// The same parts in a `Trainer`, whose cosine is that of the settings. They have clipped gradients and a warm-up, too, if
/// nothing else is said.
fn trainer(max_steps: Option<u64>) -> Result<Trainer, Box<dyn Error>> {
    let settings = Settings {
        epochs: EPOCHS,
        max_steps,
        seed: 1,
        warmup_epochs: 0.0,
        clip_norm: 0.0,
        ..Settings::default()
    };
    let (train, test) = loaders()?;
    let trainer = Trainer::of_parts(settings, network(), train, test, 2)?;
    Ok(trainer.with_optimizer(optimizer())?.with_loss(Mse)?)
}

/// A run with a folder, which has its metrics, its best weights and a checkpoint. It is stopped inside of the fourth epoch, and
/// another trainer goes on with it, as another process would, to the bits of [`run`]. Answers how far off that is.
pub(crate) fn run_in(folder: &Path) -> Result<f64, Box<dyn Error>> {
    let interrupt = AtomicBool::new(false); // true, set by any thread, stops it, too, after its step
    let show = |event: Event<'_>| {
        if let Event::EpochFinished(epoch) = event {
            println!("epoch {}: train loss {:.5}, {}", epoch.epoch, epoch.train_loss, epoch.score());
        }
        Ok(())
    };
    let mut begun = trainer(Some(100))?;
    let mut run = RunDir::create(folder, &begun.to_toml())?;
    let outcome = begun.run(&mut run, &interrupt, show)?;
    println!("{outcome:?} after step {}", begun.position().step);
    drop(run); // a folder has one owner

    let (mut run, checkpoint) = RunDir::open(folder)?;
    let mut resumed = trainer(None)?;
    resumed.restore(checkpoint, folder)?;
    resumed.run(&mut run, &interrupt, show)?;
    let after = pixels(resumed.test()?.mean_loss());
    println!("found to within {after:.3} pixels; the run is in {}", folder.display());
    Ok(after)
}

fn main() -> Result<(), Box<dyn Error>> {
    run()?;
    run_in(&std::env::temp_dir().join(format!("nin-regression-{}", std::process::id())))?;
    Ok(())
}
