//! A data set of one's own: implement `Dataset`, and the loader shuffles, varies, normalizes and prepares batches ahead.
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::sync::Arc;

use nin::data::{
    Augmentation, DataError, DataLoader, Dataset, Image, LoaderOptions, Normalization, Step, Target,
};
use nin::loss::CrossEntropy;
use nin::nn::{AdaptiveAvgPool2d, Conv2d, Flatten, Linear, MaxPool2d, Relu, Sequential, initialize};
use nin::optim::{Optimizer, Sgd};
use nin::tensor::init::Init;
use nin::tensor::{Purpose, RandomStream};
use nin::train::{Metrics, StepSettings, Workers};

/// A picture as one's own program might hold it, and what it shows: level stripes (0), upright ones (1) or slanted ones (2).
#[derive(Debug)]
struct Picture {
    pixels: [u8; 100],
    stripes: usize,
}

#[derive(Debug)]
struct Pictures(Vec<Picture>);

impl Dataset for Pictures {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn image_shape(&self) -> [usize; 3] {
        [1, 10, 10]
    }

    fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError> {
        let Picture { pixels, stripes } = &self.0[index];
        Ok((Image::Bytes(pixels[..].into()), Target::Class(*stripes)))
    }
}

/// Stripes of any brightness and place, under noise.
fn draw(count: u64, seed: u64) -> Pictures {
    let picture = |sample| {
        let mut random = RandomStream::new(seed, 0, Purpose::Other(0), sample);
        let [stripes, shift, light] = [3, 4, 96].map(|bound| random.below(bound) as usize);
        let pixels = std::array::from_fn(|index| {
            let (y, x) = (index / 10, index % 10);
            let along = [y, x, x + y][stripes] + shift;
            (if along % 4 < 2 { 60 + light } else { 0 }) as u8 + random.below(100) as u8
        });
        Picture { pixels, stripes }
    };
    Pictures((0..count).map(picture).collect())
}

/// Answers the share of new pictures that are classified correctly, before training and after.
pub(crate) fn run() -> Result<(f64, f64), Box<dyn Error>> {
    let (train, test) = (draw(600, 1), draw(300, 2));
    let normalization = Some(Normalization::of(&train)?);
    let options = LoaderOptions { batch_size: 30, seed: 5, normalization, ..LoaderOptions::default() };
    let test = DataLoader::new(Arc::new(test), options.clone())?;
    let augmentation = Augmentation { steps: vec![Step::Shift(1)] };
    let train = DataLoader::new(Arc::new(train), LoaderOptions { shuffle: true, augmentation, ..options })?;

    let mut net = Sequential::new().with(Conv2d::new(1, 12, 3, 1, 1)).with(Relu).with(MaxPool2d::new(2, 2));
    net = net.with(Conv2d::new(12, 24, 3, 1, 1)).with(Relu).with(AdaptiveAvgPool2d::GLOBAL);
    net = net.with(Flatten).with(Linear::new(24, 3));
    initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 5);
    let (loss, mut sgd, mut workers) =
        (CrossEntropy::default(), Sgd::new(0.05).momentum(0.9), Workers::new(2)?);
    let accuracy = |workers: &Workers, net: &Sequential<f32>| -> Result<f64, Box<dyn Error>> {
        let mut sums = Metrics::default();
        for batch in test.epoch(0) {
            sums.add(workers.evaluate(net, &batch?, &loss)?);
        }
        Ok(sums.accuracy())
    };
    let before = accuracy(&workers, &net)?;
    for epoch in 0..10 {
        for batch in train.epoch(epoch) {
            workers.step(&net, &batch?, &loss, StepSettings { seed: 5, epoch })?;
            workers.gradients(|gradients| sgd.step(&mut net, gradients.into()))?;
        }
    }
    let after = accuracy(&workers, &net)?;
    println!("level, upright or slanted stripes: test accuracy {after:.3}, before training {before:.3}");
    Ok((before, after))
}

fn main() -> Result<(), Box<dyn Error>> {
    run().map(drop)
}
