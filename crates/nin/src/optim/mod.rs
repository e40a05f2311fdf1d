//! Optimizers, groups of parameters, and learning-rate schedules.

mod adamw;
mod group;
mod optimizer;
mod schedule;
mod sgd;

pub use adamw::AdamW;
pub use group::Group;
pub(crate) use group::matches;
pub use optimizer::{Gradients, Optimizer, OptimizerError, State};
pub use schedule::{Schedule, Scheduler};
pub use sgd::Sgd;
