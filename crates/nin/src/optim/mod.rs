//! The optimiser and its learning-rate schedules.

mod schedule;
mod sgd;

pub use schedule::Schedule;
pub use sgd::{Sgd, clip_scale};
