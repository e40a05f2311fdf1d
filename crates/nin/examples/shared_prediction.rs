//! Prediction from several threads that share one network: no copy of the weights, no lock but for looking up the network's plan,
//! and the same bits everywhere.
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::thread;

use nin::models::{Model, Network};
use nin::nn::{Planned, Sequential, initialize};
use nin::tensor::Tensor;
use nin::tensor::init::Init;
use nin::train::{TrainError, Workers};

/// The answers of each thread to the same images, each image's on its own.
pub(crate) fn run() -> Result<Vec<Vec<Tensor<f32>>>, Box<dyn Error>> {
    let mut net = Network::new(Model::NinCifar, [1, 28, 28], 10).build::<f32>()?;
    initialize(&mut net, Init::HeNormal, Init::Constant(0.1), 4);
    let net = Planned::new(net);
    let images: Vec<Tensor<f32>> = (0..6)
        .map(|image| Tensor::from_fn([1, 1, 28, 28], |i| (i * (image + 2) % 29) as f32 / 29.0))
        .collect();

    // Each thread computes in memory of its own: a worker each, and none waits for another.
    let answer = |net: &Planned<f32, Sequential<f32>>| -> Result<Vec<Tensor<f32>>, TrainError> {
        let worker = Workers::new(1)?;
        images.iter().map(|image| worker.predict(net, image)).collect()
    };
    let mut answers: Vec<Vec<Tensor<f32>>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| answer(&net))).collect();
        threads.into_iter().map(|own| own.join().expect("no thread panics")).collect::<Result<_, _>>()
    })?;

    // Or they share the workers as well: here, two for all images at once.
    let (workers, all) =
        (Workers::new(2)?, Tensor::from_fn([6, 1, 28, 28], |i| images[i / 784].data()[i % 784]));
    let together = thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(|| workers.predict(&net, &all))).collect();
        threads.into_iter().map(|own| own.join().expect("no thread panics")).collect::<Result<Vec<_>, _>>()
    })?;
    for logits in &together {
        answers
            .push(logits.data().chunks(10).map(|row| Tensor::from_fn([1, 10], |class| row[class])).collect());
    }
    let same = answers.iter().all(|own| own == &answers[0]);
    println!("{} threads, {} images each, the same bits: {same}", answers.len(), images.len());
    Ok(answers)
}

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}
