//! Optimizers, groups of parameters, and learning-rate schedules.

mod group;
mod optimizer;
mod rules;
mod schedule;

pub(crate) use group::matches;
pub use group::{Group, Patterns, RateFactors};
pub(crate) use optimizer::{AT_LEAST_0, Bounds, FRACTION};
pub use optimizer::{ByRule, Gradients, Moved, Optimizer, OptimizerError, Rule, State, StateTensor};
pub use rules::*;
pub use schedule::{Schedule, Scheduler};
