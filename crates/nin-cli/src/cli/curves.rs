//! `curves.svg`: train loss, train acc and test acc over the epochs.

use std::path::Path;

use nin::train::{EpochMetrics, TrainError};

use crate::chart::{Panel, write_panels};

/// Draws the curves as in the d2l book: loss and both accuracies over the epochs. Writes nothing before there is an epoch.
///
/// # Errors
/// [`TrainError`] if the file cannot be written.
pub(super) fn write_curves(path: &Path, title: &str, epochs: &[EpochMetrics]) -> Result<(), TrainError> {
    type Figure = fn(&EpochMetrics) -> Option<f64>;
    let Some(last) = epochs.last() else { return Ok(()) };
    let curves: [(&str, Figure); 3] = [
        ("train loss", |epoch| Some(epoch.train_loss)),
        ("train acc", |epoch| epoch.train_acc),
        ("test acc", |epoch| epoch.test_acc),
    ];
    let curves: Vec<_> = curves.iter().filter_map(|own| Some((own.0, own.1, own.1(last)?))).collect();
    let names: Vec<_> = curves.iter().map(|(name, _, last)| format!("{name} {last:.3}")).collect();
    let line = |figure: Figure| {
        epochs.iter().filter_map(|epoch| Some((epoch.epoch as f64, figure(epoch)?))).collect()
    };
    let highest = epochs.iter().map(|epoch| epoch.train_loss).fold(1.0, f64::max);
    let panel = Panel {
        title: title.to_owned(),
        across: "epoch".to_owned(),
        range: Some((0.0, 1.05 * highest)),
        groups: curves.iter().map(|(_, figure, _)| vec![line(*figure)]).collect(),
        called: curves.iter().map(|(name, ..)| (*name).to_owned()).collect(),
        ..Panel::default()
    };
    write_panels(path, &names, &[panel])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Figures of an epoch.
    pub(in crate::cli) fn epoch(epoch: u64, test_acc: f64, dead_maps: usize) -> EpochMetrics {
        EpochMetrics {
            epoch,
            train_loss: 0.5,
            train_acc: Some(0.75),
            test_acc: Some(test_acc),
            test_loss: Some(0.6),
            lr: Some(0.1),
            images_per_s: 9.0,
            data_wait: 0.0,
            dead_maps,
        }
    }

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
