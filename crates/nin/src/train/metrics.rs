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
pub(super) struct StepMetrics {
    /// The step of the run, counted from 1.
    pub step: u64,
    /// The mean loss of the step's batch.
    pub loss: f64,
}
