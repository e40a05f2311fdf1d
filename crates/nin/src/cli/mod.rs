//! The command line: `train`, and `nin` with its subcommands.

mod eval;
mod train;

use std::process::ExitCode;

pub use eval::{EvalArgs, SummaryArgs, evaluate, summarise};
pub use train::{TrainArgs, train};

use crate::train::TrainError;

/// Writes an error as one line and turns it into an exit code: 2 if what was asked for cannot work, 1 if something failed on
/// the way.
pub fn fail(error: &TrainError) -> ExitCode {
    let text = error.to_string();
    let line: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    eprintln!("error: {}", line.join(": "));
    ExitCode::from(match error {
        TrainError::Config(_) | TrainError::Shape(_) => 2,
        _ => 1,
    })
}

/// The threads to use when none are asked for: as many as the machine has cores.
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
