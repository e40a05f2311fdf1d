//! Training: a batch is cut into groups and micro-batches ([`workers`]), the loop walks the epochs ([`Trainer`]), and the run
//! folder ([`RunDir`]) keeps what came of it.

mod accumulation;
mod epochs;
mod error;
mod evaluation;
mod health;
mod metrics;
mod micro_batch;
mod run_dir;
mod settings;
mod start;
#[cfg(test)]
mod tests;
mod trainer;
pub mod workers;

pub use epochs::Event;
pub use error::TrainError;
pub use evaluation::{Metrics, Prediction, argmax};
pub(crate) use evaluation::{refuse_no_numbers, softmax};
pub use health::{HealthCounts, HealthMonitor, Warning};
pub use metrics::{EpochMetrics, MetricsLine, RunMetrics, Score, StepMetrics};
pub use micro_batch::micro_batch_images;
pub use run_dir::{Begun, Best, Checkpoint, Position, RunDir};
pub use settings::{InitialWeights, Overrides, Recipe, Settings, is_of_a_command};
pub use trainer::{Outcome, Trainer};
pub use workers::{StepSettings, Workers};
