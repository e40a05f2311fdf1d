//! The crates as a library: build a network, train it on the bundled images, save it, load it, use it.

use std::sync::Arc;

use nin::checkpoint::{load_parameters, save_parameters};
use nin::data::{DataLoader, DataSources, DatasetKind, LoaderOptions, Normalization, load};
use nin::loss::CrossEntropy;
use nin::models::nin_block;
use nin::nn::{AdaptiveAvgPool2d, Dropout, Flatten, MaxPool2d, Sequential, initialise, parameters_mut};
use nin::optim::{Optimizer, Sgd};
use nin::train::{Lanes, lanes::StepSettings};
use tensor::init::Init;

fn network() -> Sequential<f32> {
    Sequential::new()
        .with(nin_block(1, 32, 5, 1, 2))
        .with(MaxPool2d::new(3, 2))
        .with(Dropout { p: 0.1 })
        .with(nin_block(32, 10, 3, 1, 1))
        .with(AdaptiveAvgPool2d::GLOBAL)
        .with(Flatten)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = load(DatasetKind::FashionMnistMini, &DataSources::new(None))?;
    let normalization = Some(Normalization::of(&data.train));
    let options =
        LoaderOptions { batch_size: 32, shuffle: true, seed: 7, normalization, ..LoaderOptions::default() };
    let batches = DataLoader::new(Arc::new(data.train.head(4000)), options)?;

    let mut net = network();
    initialise(&mut net, Init::HeNormal, Init::Constant(0.0), 7);
    // The last ReLU can close a class for good: begin with small weights and an open bias.
    if let [.., weight, bias] = &mut parameters_mut(&mut net)[..] {
        weight.1.value.data_mut().iter_mut().for_each(|w| *w *= 0.3);
        bias.1.value.data_mut().fill(1.0);
    }
    let (lanes, mut sgd) = (Lanes::new(2)?, Sgd::new(0.01).momentum(0.9).weight_decay(5e-4));
    for (step, batch) in batches.epoch(0).enumerate() {
        let sums = lanes.step(
            &net,
            &batch?,
            &CrossEntropy::default(),
            StepSettings { seed: 7, ..StepSettings::default() },
        )?;
        lanes.gradients(|gradients| sgd.step(&mut net, gradients.into()))?;
        if step % 20 == 0 {
            println!("step {step}: loss {:.4}", sums.mean_loss());
        }
    }

    let path = std::env::temp_dir().join("small-nin.safetensors");
    save_parameters(&path, &net)?;
    let mut loaded = network();
    load_parameters(&path, &mut loaded)?;
    let images = DataLoader::new(Arc::new(data.test.head(8)), LoaderOptions::default())?;
    for batch in images.epoch(0) {
        println!("logits: {}", lanes.predict_batch(&loaded, &batch?)?.shape());
    }
    Ok(())
}
