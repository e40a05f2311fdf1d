//! Training: a batch is cut into lanes and shards ([`lanes`]), the loop walks the epochs ([`Trainer`]), and the run folder
//! ([`RunDir`]) keeps what came of it.

mod epochs;
mod error;
mod evaluation;
mod lane;
pub mod lanes;
mod metrics;
mod run_dir;
mod settings;
mod shard;
mod start;
mod trainer;
mod watch;

pub use epochs::Event;
pub use error::TrainError;
pub use evaluation::{Evaluation, argmax};
pub use lanes::{Lanes, StepSettings};
pub use metrics::EpochMetrics;
pub use run_dir::{Checkpoint, Position, RunDir};
pub use settings::{InitialWeights, Kind, Overrides, Recipe, Setting, Settings};
pub use trainer::{Outcome, Trainer};
pub use watch::{Warning, Watch};
