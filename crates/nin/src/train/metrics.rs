//! Figures of an epoch and of a step, as they are written down.

use serde::{Deserialize, Serialize};

/// The figures of one epoch: a line of `metrics.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// The mean loss of the training images, each measured in training mode when its batch came.
    pub train_loss: f64,
    /// The share of training images classified correctly, 0 to 1, measured likewise.
    pub train_acc: f64,
    /// The share of test images classified correctly after the epoch, 0 to 1.
    pub test_acc: f64,
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
