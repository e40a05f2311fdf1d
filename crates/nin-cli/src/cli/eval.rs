//! `nin eval`: what a set of weights is worth.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use nin::checkpoint::load_parameters;
use nin::data::{DataLoader, Dataset, LoaderOptions, Normalization, Splits, Whitening};
use nin::nn::{Planned, Sequential};
use nin::train::{Overrides, Prediction, TrainError, Workers};
use serde_json::json;
use tensor::conv::ConvAlgorithm;

use super::data::{DataArgs, data_of_run};
use super::flags::{some_settings, weights_file};
use super::settings::{convolution, of_run};
use super::table::Table;
use super::{JsonArgs, ThreadArgs, WeightsArgs, print, print_json};

/// Accuracy and confusion matrix of a run's weights on the test images of its data set, or on those that the run held out.
///
/// --weights takes others in the place of the run's, --conv another algorithm in the place of the run's own.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// Run folder: its settings and its weights
    run: PathBuf,
    #[command(flatten)]
    weights: WeightsArgs,
    /// The images to evaluate on: test (the test images, or those that the run held out) or train (those that it was trained on,
    /// without variations and without dropout: beside the test images they show how far the network over-fits)
    #[arg(long, value_name = "SET", default_value = "test", value_parser = ["test", "train"])]
    on: String,
    #[command(flatten)]
    json: JsonArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    conv: ConvFlag,
}

some_settings! {
    /// The flag for the algorithm of convolutions.
    ConvFlag: "conv"
}

/// Runs `nin eval`.
pub(super) fn evaluate(args: &EvalArgs) -> Result<(), TrainError> {
    let conv = convolution(args.conv.0.conv)?;
    let threads = args.threads.read()?;
    let judged = OpenRun::new(&args.run, args.weights.file(), conv, &args.data, threads)?.judge(&args.on)?;
    let (names, confusion) = (judged.images.class_names(), judged.confusion());
    if !args.json.json {
        return print(&report(&args.on, names, &confusion));
    }
    let (correct, images) = counts(&confusion);
    print_json(
        &json!({ "on": args.on, "accuracy": accuracy(&confusion), "correct": correct, "images": images,
        "classes": names, "confusion": confusion }),
    )
}

/// A run with weights, its own or others, and its images.
#[derive(Debug)]
pub(super) struct OpenRun {
    weights: PathBuf,
    splits: Splits<Arc<dyn Dataset>>,
    model: Planned<f32, Sequential<f32>>,
    workers: Workers,
    options: LoaderOptions,
}

impl OpenRun {
    /// The run in a folder, with its own weights if there are no others.
    ///
    /// # Errors
    /// [`TrainError`] if there is no run, or its data or the weights are not there or are others.
    pub(super) fn new(
        run: &Path,
        weights: Option<PathBuf>,
        conv: Option<ConvAlgorithm>,
        data: &DataArgs,
        threads: usize,
    ) -> Result<Self, TrainError> {
        let settings = of_run(run, &Overrides { conv, ..Overrides::default() })?;
        let workers = Workers::new(threads)?.with_conv(settings.conv);
        let splits = settings.split(data_of_run(run, &settings, data, threads)?.0)?;
        let (channels, classes) = (splits.test.image_shape()[0], splits.test.class_names().len());
        let weights = weights.unwrap_or_else(|| weights_file(run));
        let mut model = Planned::new(settings.network(channels, classes)?);
        load_parameters(&weights, &mut model)?;
        let whitening = Whitening::load(settings.whiten, splits.test.image_shape(), &weights)?;
        let options = LoaderOptions {
            batch_size: 256,
            image_size: Some((settings.image_size, settings.image_size)),
            whitening: whitening.map(Arc::new),
            normalization: settings
                .normalize
                .then(|| workers.install(|| Normalization::of(&*splits.train)))
                .transpose()?,
            ..LoaderOptions::default()
        };
        Ok(Self { weights, splits, model, workers, options })
    }

    /// The answers of the weights to the test images or, if `on` says so, to those that the run was trained on.
    ///
    /// # Errors
    /// [`TrainError`] if an image cannot be read or an answer is none.
    pub(super) fn judge(&self, on: &str) -> Result<Judged, TrainError> {
        let images = Arc::clone(if on == "train" { &self.splits.train } else { &self.splits.test });
        let loader = DataLoader::new(Arc::clone(&images), self.options.clone())?;
        let predictions = self.workers.predictions(&self.model, &loader, &self.weights)?;
        Ok(Judged { images, predictions })
    }
}

/// Images, and what a run's weights answer to each.
#[derive(Debug)]
pub(super) struct Judged {
    /// The images.
    pub(super) images: Arc<dyn Dataset>,
    /// The answers, in the order of the images.
    pub(super) predictions: Vec<Prediction>,
}

impl Judged {
    /// The number of images of each class that the weights took for each: rows are the labels.
    pub(super) fn confusion(&self) -> Vec<Vec<usize>> {
        let classes = self.images.class_names().len();
        let mut confusion = vec![vec![0; classes]; classes];
        for prediction in &self.predictions {
            confusion[prediction.label][prediction.class] += 1;
        }
        confusion
    }
}

/// The share of the images that are on the diagonal.
pub(super) fn accuracy(confusion: &[Vec<usize>]) -> f64 {
    let (correct, images) = counts(confusion);
    correct as f64 / images.max(1) as f64
}

/// Images on the diagonal of a confusion matrix, and images in all.
pub(super) fn counts(confusion: &[Vec<usize>]) -> (usize, usize) {
    let correct = confusion.iter().enumerate().map(|(class, row)| row[class]).sum();
    (correct, confusion.iter().flatten().sum())
}

/// The share of a class's images that were found, if it has any, and how many it has.
pub(super) fn of_class(confusion: &[Vec<usize>], class: usize) -> (Option<f64>, usize) {
    let images: usize = confusion[class].iter().sum();
    ((images > 0).then(|| confusion[class][class] as f64 / images as f64), images)
}

/// The confusion matrix as text, rows the labels and columns the predictions, with the share of each class's images that were
/// found.
fn report(split: &str, names: &[String], confusion: &[Vec<usize>]) -> String {
    let classes = (0..names.len()).map(|class| class.to_string());
    let mut table =
        Table::new(["true \\ predicted".into()].into_iter().chain(classes).chain(["recall".into()]));
    for (class, (name, row)) in names.iter().zip(confusion).enumerate() {
        let recall = of_class(confusion, class).0.map_or_else(String::new, |share| format!("{share:.3}"));
        let counts = row.iter().map(usize::to_string);
        table.push([format!("{class} {name}")].into_iter().chain(counts).chain([recall]).collect());
    }
    let (correct, images) = counts(confusion);
    let accuracy = accuracy(confusion);
    format!("{}{split} acc {accuracy:.4} ({correct} of {images} images)\n", table.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_the_diagonal() {
        let names = ["shirt", "bag", "none"].map(str::to_owned);
        let text = report("test", &names, &[vec![3, 1, 0], vec![0, 4, 0], vec![0, 0, 0]]);
        let expected = "true \\ predicted  0  1  2  recall
0 shirt           3  1  0   0.750
1 bag             0  4  0   1.000
2 none            0  0  0
test acc 0.8750 (7 of 8 images)
";
        assert_eq!(text, expected, "no share of no images");
    }
}
