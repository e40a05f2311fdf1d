//! A trained network that answers: the user's, or the program's own.

use std::path::Path;

use nin::Classifier;
use nin::train::TrainError;

use super::flags::weights_file;

/// The program's own network (crates/nin-cli/model).
const OWN: &[u8] = include_bytes!("../../model/nin-cifar.safetensors");

/// The network of a file of weights or of a run's folder; without either the program's own.
///
/// # Errors
/// As [`Classifier::load`] and [`Classifier::with_threads`].
pub(super) fn trained(weights: Option<&Path>, threads: usize) -> Result<Classifier, TrainError> {
    let classifier = match weights {
        Some(path) => Classifier::load(&weights_file(path))?,
        None => Classifier::from_bytes(OWN, Path::new("the program's own network"))?,
    };
    classifier.with_threads(threads)
}
