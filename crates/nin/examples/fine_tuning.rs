//! Fine-tuning: the layers of a trained network from a file, frozen, under a new last layer for another question.
#![allow(clippy::print_stdout, reason = "an example has a reader")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use nin::checkpoint::{load_fitting, save_parameters};
use nin::data::{ArrayDataset, DataLoader, DataSources, Dataset, DatasetKind, LoaderOptions, Subset, load};
use nin::loss::CrossEntropy;
use nin::models::nin_block;
use nin::nn::{
    AdaptiveAvgPool2d, Flatten, Linear, MaxPool2d, Planned, Sequential, freeze, initialize, parameters,
};
use nin::optim::{AdamW, Optimizer};
use nin::tensor::init::Init;
use nin::train::{Metrics, StepSettings, Workers};

pub(crate) type Net = Planned<f32, Sequential<f32>>;

/// Features under the names `features.*` and a last layer, `head.*`, with fresh weights.
fn network(classes: usize) -> Net {
    let features = Sequential::new().with(nin_block(1, 24, 5, 2, 2)).with(MaxPool2d::new(3, 2));
    let features = features.with(nin_block(24, 48, 3, 1, 1)).with(AdaptiveAvgPool2d::GLOBAL).with(Flatten);
    let mut net = Sequential::new().named("features", features).named("head", Linear::new(48, classes));
    initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 3);
    Planned::new(net)
}

/// Trains what is not frozen; the accuracy in the last epoch.
fn train(net: &mut Net, data: Arc<dyn Dataset>, epochs: u64) -> Result<f64, Box<dyn Error>> {
    let options = LoaderOptions { batch_size: 32, shuffle: true, seed: 3, ..LoaderOptions::default() };
    let (batches, mut workers, mut optimizer) =
        (DataLoader::new(data, options)?, Workers::new(2)?, AdamW::new(3e-3));
    let mut sums = Metrics::default();
    for epoch in 0..epochs {
        sums = Metrics::default();
        for batch in batches.epoch(epoch) {
            let settings = StepSettings { seed: 3, epoch };
            sums.add(workers.step(&*net, &batch?, &CrossEntropy::default(), settings)?);
            workers.gradients(|gradients| optimizer.step(net, gradients.into()))?;
        }
    }
    Ok(sums.accuracy())
}

/// The same images with another question: are these shoes?
fn shoes(images: ArrayDataset) -> Result<ArrayDataset, Box<dyn Error>> {
    let classes: Vec<usize> =
        images.labels().iter().map(|label| usize::from([5, 7, 9].contains(label))).collect();
    Ok(images.with_targets(classes)?)
}

/// Keeps the trained weights in `file`. Answers the tuned network, and its accuracy on 500 images not learned from, before and
/// after.
pub(crate) fn run(file: &Path) -> Result<(Net, f64, f64), Box<dyn Error>> {
    let data = load(DatasetKind::FashionMnistMini, &DataSources::new(None))?;
    let mut trained = network(10);
    let accuracy = train(&mut trained, Arc::new(Subset::new(Arc::new(data.train.clone()), 0..2000)), 3)?;
    println!("ten classes, 2,000 images, every layer: {accuracy:.3} of the training images");
    save_parameters(file, &trained)?;

    let mut tuned = network(2);
    let fit = load_fitting(file, &mut tuned)?;
    let frozen = freeze(&mut tuned, "features.*");
    println!("{fit}; {frozen} of {} frozen", parameters(&tuned).len());
    let options = LoaderOptions { batch_size: 500, ..LoaderOptions::default() };
    let test = DataLoader::new(Arc::new(Subset::new(Arc::new(shoes(data.test)?), 0..500)), options)?;
    let workers = Workers::new(2)?;
    let accuracy = |net: &Net| -> Result<f64, Box<dyn Error>> {
        let batch = test.epoch(0).next().ok_or("no test images")??;
        Ok(workers.evaluate(net, &batch, &CrossEntropy::default())?.accuracy())
    };
    let before = accuracy(&tuned)?;
    train(&mut tuned, Arc::new(Subset::new(Arc::new(shoes(data.train)?), 9800..10_000)), 30)?;
    let after = accuracy(&tuned)?;
    println!("shoes or not, 200 images, the last layer: test accuracy {after:.3}, before {before:.3}");
    Ok((tuned, before, after))
}

fn main() -> Result<(), Box<dyn Error>> {
    run(&std::env::temp_dir().join("nin-fine-tuning.safetensors")).map(drop)
}
