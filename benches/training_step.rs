//! A whole training step of `nin`, as the trainer makes it: 32 images of the bundled data set cut into groups and micro-batches,
//! forward, backward, the sum of the gradients, clipping and SGD. On as many threads as the machine has cores.
//!
//! Throughput is in images: criterion's "elem/s" are images/s. What that is in GFLOP/s of direct convolution is printed first, as
//! the work of one image: multiply the two.
#![allow(clippy::print_stdout, reason = "a bench has a reader")]
#![allow(missing_docs, reason = "criterion's macro makes a public function without any")]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use nin::data::{DataLoader, DataSources, DatasetKind, LoaderOptions, Normalization, Subset, load};
use nin::summary::{Work, layers};
use nin::train::{Recipe, Settings, Trainer};

const BATCH: usize = 32;

fn training_step(c: &mut Criterion) {
    let mut group = c.benchmark_group("training_step");
    group.throughput(Throughput::Elements(BATCH as u64));
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for image_size in [64, 224] {
        let splits = load(DatasetKind::FashionMnistMini, &DataSources::new(None))
            .expect("the images are part of the repository");
        let options = LoaderOptions {
            batch_size: BATCH,
            image_size: Some((image_size, image_size)),
            normalization: Some(Normalization::of(&splits.train).expect("they are in memory")),
            ..LoaderOptions::default()
        };
        let loader =
            DataLoader::new(Arc::new(Subset::new(Arc::new(splits.train.clone()), 0..BATCH)), options)
                .expect("the options fit");
        let batch = loader.epoch(0).next().expect("there is a batch").expect("it can be made");
        let config = Settings { image_size, batch_size: BATCH, ..Settings::of(Recipe::Default) };
        let mut trainer = Trainer::new(config, splits.into(), threads).expect("the settings fit");
        let all = layers(trainer.model(), trainer.input_shape()).expect("the images fit");
        let work = Work::of(&all).training;
        println!("nin at {image_size} pixels: {:.3} GFLOP a training image", work as f64 / 1e9);
        group.bench_function(BenchmarkId::new("nin", format!("{image_size}_pixels")), |b| {
            b.iter(|| trainer.step(&batch).expect("the batch fits"));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(6)).sample_size(10);
    targets = training_step
}
criterion_main!(benches);
