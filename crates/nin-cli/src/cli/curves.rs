//! `curves.svg`: train loss, train acc and test acc over the epochs.

use std::path::Path;

use nin::train::{EpochMetrics, TrainError};

use super::figures::{TEST_ACC, TRAIN_ACC, TRAIN_LOSS};
use crate::chart::{Panel, write_panels};

/// Draws the curves as in the d2l book: loss and both accuracies over the epochs. Writes nothing before there is an epoch.
///
/// # Errors
/// [`TrainError`] if the file cannot be written.
pub(super) fn write_curves(path: &Path, title: &str, epochs: &[EpochMetrics]) -> Result<(), TrainError> {
    let Some(last) = epochs.last() else { return Ok(()) };
    let curves = [TRAIN_LOSS, TRAIN_ACC, TEST_ACC];
    let curves: Vec<_> = curves.into_iter().filter_map(|figure| Some((figure, (figure.of)(last)?))).collect();
    let names: Vec<_> = curves.iter().map(|(figure, last)| format!("{} {last:.3}", figure.name)).collect();
    let highest = epochs.iter().map(|epoch| epoch.train_loss).fold(1.0, f64::max);
    let panel = Panel {
        title: title.to_owned(),
        across: "epoch".to_owned(),
        range: Some((0.0, 1.05 * highest)),
        groups: curves.iter().map(|(figure, _)| vec![figure.curve(epochs)]).collect(),
        called: curves.iter().map(|(figure, _)| figure.name.to_owned()).collect(),
        ..Panel::default()
    };
    write_panels(path, &names, &[panel])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::figures::tests::epoch;

    #[test]
    fn the_picture_names_every_curve_with_its_last_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.svg");
        write_curves(&path, "nin", &[epoch(1, 0.7, 0), epoch(2, 0.875, 0)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in ["train loss 0.500", "train acc 0.750", "test acc 0.875", "epoch"] {
            assert!(svg.contains(text), "no {text:?} in the picture");
        }
    }
}
