//! Figures of an epoch and of a step, as they are written down.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The figures of one epoch: a line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The mean loss of the training images, each measured in training mode when its batch came.
    pub train_loss: f64,
    /// The share of training images classified correctly, 0 to 1, measured likewise; `None` if they have no classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_acc: Option<f64>,
    /// The share of test images classified correctly after the epoch, 0 to 1; `None` if they have no classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_acc: Option<f64>,
    /// The mean loss of the test images after the epoch; `None` in lines of version 0.1.
    #[serde(default)]
    pub test_loss: Option<f64>,
    /// The learning rate of the epoch's last step; `None` in lines of version 0.1.
    #[serde(default)]
    pub lr: Option<f64>,
    /// Training images per second, without the evaluation.
    pub images_per_s: f64,
    /// The share of the epoch's training time that the workers waited for data, 0 to 1.
    #[serde(default)]
    pub data_wait: f64,
    /// Class maps that were dead when the epoch ended: see [`HealthMonitor`](super::HealthMonitor).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dead_maps: usize,
}

impl EpochMetrics {
    /// The figure that this epoch is ranked by.
    #[must_use]
    pub fn score(&self) -> Score {
        let loss = || Score::Loss(self.test_loss.unwrap_or(f64::INFINITY));
        self.test_acc.map_or_else(loss, Score::Accuracy)
    }

    /// The best of these epochs, the first of equals.
    #[must_use]
    pub fn best(epochs: &[Self]) -> Option<&Self> {
        epochs.iter().reduce(|best, own| if own.score().beats(best.score()) { own } else { best })
    }
}

/// The figure of the test images that epochs are ranked by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Score {
    /// The share of them classified correctly, 0 to 1, if they have classes.
    Accuracy(f64),
    /// Their mean loss, if they have none.
    Loss(f64),
}

impl Score {
    /// Tells whether this is better than another: a higher accuracy, or a lower loss. A figure of another kind says nothing.
    #[must_use]
    pub fn beats(self, other: Self) -> bool {
        match (self, other) {
            (Self::Accuracy(own), Self::Accuracy(other)) => own > other,
            (Self::Loss(own), Self::Loss(other)) => own < other,
            _ => true,
        }
    }

    /// The name of the figure in texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Accuracy(_) => "test acc",
            Self::Loss(_) => "test loss",
        }
    }

    /// The figure.
    #[must_use]
    pub fn value(self) -> f64 {
        match self {
            Self::Accuracy(value) | Self::Loss(value) => value,
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:.4}", self.name(), self.value())
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A line of `metrics.jsonl` for one step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The step of the run, counted from 1.
    pub step: u64,
    /// The mean loss of the step's batch.
    pub loss: f64,
}

/// The contents of a run's `metrics.jsonl`, but for the warnings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunMetrics {
    /// Its lines, in order.
    pub lines: Vec<MetricsLine>,
    /// Lines that are no JSON, which say nothing.
    pub damaged: usize,
}

/// A line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricsLine {
    /// A step was made.
    Step(StepMetrics),
    /// The epoch that the step before ended.
    Epoch(EpochMetrics),
}

impl RunMetrics {
    /// Reads lines as they are written. Those of other programs, and of later versions, are left out.
    pub(super) fn of_text(text: &[u8]) -> Self {
        let mut all = Self::default();
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            // Nearly all are steps.
            if let Ok(step) = serde_json::from_slice(line) {
                all.lines.push(MetricsLine::Step(step));
            } else if let Ok(epoch) = serde_json::from_slice(line) {
                all.lines.push(MetricsLine::Epoch(epoch));
            } else if serde_json::from_slice::<serde_json::Value>(line).is_err() {
                all.damaged += 1;
            }
        }
        all
    }

    /// The epochs that are over.
    pub fn epochs(&self) -> impl Iterator<Item = &EpochMetrics> {
        self.lines.iter().filter_map(|line| match line {
            MetricsLine::Epoch(epoch) => Some(epoch),
            MetricsLine::Step(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_ranked_by_accuracy_or_where_there_is_none_by_loss() {
        let best = |figures: &[(Option<f64>, f64)]| {
            let epochs: Vec<_> = (1..)
                .zip(figures)
                .map(|(epoch, &(test_acc, test_loss))| EpochMetrics {
                    epoch,
                    train_loss: 0.0,
                    train_acc: test_acc,
                    test_acc,
                    test_loss: Some(test_loss),
                    lr: None,
                    images_per_s: 1.0,
                    data_wait: 0.0,
                    dead_maps: 0,
                })
                .collect();
            EpochMetrics::best(&epochs).map(|best| (best.epoch, best.score().to_string()))
        };
        assert_eq!(best(&[]), None);
        let of_classes = [(Some(0.5), 0.1), (Some(0.75), 0.3), (Some(0.75), 0.2), (Some(0.25), 0.0)];
        assert_eq!(best(&of_classes), Some((2, "test acc 0.7500".to_owned())));
        assert_eq!(
            best(&[(None, 6.5), (None, 0.5), (None, 0.5), (None, 1.5)]),
            Some((2, "test loss 0.5000".to_owned()))
        );
    }

    /// A step whose loss is no number has a line that is JSON, but says nothing.
    #[test]
    fn lines_are_steps_and_epochs_and_what_is_damaged_is_counted() {
        let epoch = r#"{"epoch":1,"train_loss":0.5,"train_acc":0.75,"test_acc":0.5,"images_per_s":100.0}"#;
        let text = format!(
            "{{\"step\":1,\"loss\":2.5}}\n{{\"step\":2,\"loss\":null}}\n{{\"warning\":\"x\"}}\n{epoch}\n{{\"step\":3,\"lo\n"
        );
        let all = RunMetrics::of_text(text.as_bytes());
        assert_eq!(all.lines.len(), 2);
        assert_eq!(all.lines[0], MetricsLine::Step(StepMetrics { step: 1, loss: 2.5 }));
        assert_eq!(all.epochs().map(|own| own.epoch).collect::<Vec<_>>(), [1]);
        assert_eq!(all.damaged, 1);
    }
}
