//! `nin eval`: what a set of weights is worth.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use nin::checkpoint::load_parameters;
use nin::data::{DataLoader, Dataset, LoaderOptions, Normalization, load};
use nin::nn::Planned;
use nin::train::{Overrides, TrainError, Workers, argmax};
use serde_json::json;
use tensor::conv::ConvAlgorithm;

use super::downloads::sources;
use super::settings::{convolution, of_run};
use super::{ThreadArgs, print};

/// Accuracy and confusion matrix of a run's weights on the test images of its data set, or on those that the run held out.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Run folder: its settings and its weights
    pub run: PathBuf,
    /// Weights to use instead of the run's model.safetensors
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// The images to evaluate on: the training images show, beside the test images, how far the network over-fits
    #[arg(long, value_name = "SET", default_value = "test")]
    pub on: SplitName,
    /// One line of JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// Folder of the data set's IDX files
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Threads.
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Convolution algorithm: auto (the fastest for each layer), direct, winograd, im2col or naive; wins over the
    /// environment variable NIN_CONV, and that over the run's own
    #[arg(long, value_name = "NAME")]
    pub conv: Option<ConvAlgorithm>,
}

/// A half of the data set by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitName {
    /// The test images, or those that the run held out
    Test,
    /// The images that the run was trained on, without variations and without dropout
    Train,
}

impl SplitName {
    fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Train => "train",
        }
    }
}

/// Runs `nin eval`.
///
/// # Errors
/// [`TrainError`] for the binary to print.
pub fn evaluate(args: &EvalArgs) -> Result<(), TrainError> {
    let flags = Overrides { conv: convolution(args.conv)?, ..Overrides::default() };
    let settings = of_run(&args.run, &flags)?;
    let workers = Workers::new(args.threads.read()?)?.with_conv(settings.conv);
    let splits = settings.split(load(settings.dataset, &sources(args.data_dir.clone()))?)?;
    let (channels, classes) = (splits.test.image_shape()[0], splits.test.classes());
    let mut model = Planned::new(settings.network(channels, classes)?);
    let weights = args.weights.clone().unwrap_or_else(|| args.run.join("model.safetensors"));
    load_parameters(&weights, &mut model)?;
    let names = splits.test.class_names().to_vec();
    let options = LoaderOptions {
        batch_size: 256,
        image_size: Some((settings.image_size, settings.image_size)),
        normalization: settings.normalize.then(|| Normalization::of(&splits.train)),
        ..LoaderOptions::default()
    };
    let images = match args.on {
        SplitName::Test => splits.test,
        SplitName::Train => splits.train,
    };
    let loader = DataLoader::new(Arc::new(images), options)?;
    let mut confusion = vec![vec![0usize; classes]; classes];
    for batch in loader.epoch(0) {
        let batch = batch?;
        let logits = workers.predict_batch(&model, &batch)?;
        for (row, &label) in logits.data().chunks_exact(classes).zip(batch.labels()) {
            confusion[label][argmax(row)] += 1;
        }
    }
    let text = if args.json {
        let (correct, images) = counts(&confusion);
        let accuracy = correct as f64 / images.max(1) as f64;
        let line = json!({ "on": args.on.name(), "accuracy": accuracy, "correct": correct, "images": images,
            "classes": names, "confusion": confusion });
        format!("{line}\n")
    } else {
        report(args.on.name(), &names, &confusion)
    };
    print(&text)
}

/// Images on the diagonal of a confusion matrix, and images in all.
fn counts(confusion: &[Vec<usize>]) -> (usize, usize) {
    let correct = confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
    (correct, confusion.iter().flatten().sum())
}

/// The confusion matrix as text, rows the labels and columns the predictions, with each class's share of correct images.
fn report(split: &str, names: &[String], confusion: &[Vec<usize>]) -> String {
    let (correct, images) = counts(confusion);
    let mut text = format!("{:<14}", "label \\ said");
    text.extend((0..names.len()).map(|class| format!("{class:>6}")));
    text += &format!("{:>8}\n", "acc");
    for (class, (name, row)) in names.iter().zip(confusion).enumerate() {
        text += &format!("{class} {name:<12}");
        text.extend(row.iter().map(|count| format!("{count:>6}")));
        let share = row[class] as f64 / row.iter().sum::<usize>().max(1) as f64;
        text += &format!("{share:>8.3}\n");
    }
    let accuracy = correct as f64 / images.max(1) as f64;
    text + &format!("{split} acc {accuracy:.4} ({correct} of {images} images)\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_the_diagonal() {
        let names = ["shirt".to_owned(), "bag".to_owned()];
        let text = report("test", &names, &[vec![3, 1], vec![0, 4]]);
        assert!(text.contains("test acc 0.8750 (7 of 8 images)"), "{text}");
        assert!(text.contains("0 shirt            3     1   0.750"), "{text}");
    }
}
