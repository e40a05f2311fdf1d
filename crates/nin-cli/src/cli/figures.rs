//! The figures of an epoch, by the names that every command has for them. Of data without classes there are no accuracies, and in
//! lines of earlier versions neither test losses nor learning rates.

use nin::train::EpochMetrics;

use crate::chart::Line;

/// A figure of an epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) of: fn(&EpochMetrics) -> Option<f64>,
}

pub(super) const TRAIN_LOSS: Figure = Figure { name: "train loss", of: |epoch| Some(epoch.train_loss) };
pub(super) const TRAIN_ACC: Figure = Figure { name: "train acc", of: |epoch| epoch.train_acc };
pub(super) const TEST_ACC: Figure = Figure { name: "test acc", of: |epoch| epoch.test_acc };
pub(super) const TEST_LOSS: Figure = Figure { name: "test loss", of: |epoch| epoch.test_loss };
pub(super) const RATE: Figure = Figure { name: "learning rate", of: |epoch| epoch.lr };
pub(super) const SPEED: Figure = Figure { name: "images/s", of: |epoch| Some(epoch.images_per_s) };

impl Figure {
    /// Its value with four decimals; nothing where there is none.
    pub(super) fn text(self, epoch: &EpochMetrics) -> String {
        four((self.of)(epoch))
    }

    /// Its values over the epochs.
    pub(super) fn curve(self, epochs: &[EpochMetrics]) -> Line {
        epochs.iter().filter_map(|own| Some((own.epoch as f64, (self.of)(own)?))).collect()
    }
}

/// A number with four decimals; nothing where there is none.
pub(super) fn four(number: Option<f64>) -> String {
    number.map_or_else(String::new, |number| format!("{number:.4}"))
}

/// Figures in a line, each behind its name, without those that there are not.
pub(super) fn named(figures: &[Figure], epoch: &EpochMetrics) -> String {
    let named = |figure: &Figure| Some(format!("{} {:.4}", figure.name, (figure.of)(epoch)?));
    figures.iter().filter_map(named).collect::<Vec<_>>().join(", ")
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
    fn a_figure_that_is_not_there_has_no_name_in_a_line() {
        let own = epoch(1, 0.25, 0);
        assert_eq!(
            named(&[TRAIN_LOSS, TRAIN_ACC, TEST_ACC], &own),
            "train loss 0.5000, train acc 0.7500, test acc 0.2500"
        );
        let dense = EpochMetrics { train_acc: None, ..own };
        assert_eq!(named(&[TRAIN_LOSS, TRAIN_ACC], &dense), "train loss 0.5000");
        assert_eq!(
            (TRAIN_ACC.text(&dense), TRAIN_ACC.curve(&[own, dense])),
            (String::new(), vec![(1.0, 0.75)])
        );
    }
}
