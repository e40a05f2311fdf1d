//! `train`: see `train --help`.

use std::process::ExitCode;

use clap::Parser;
use nin::cli::{TrainArgs, fail, train};

fn main() -> ExitCode {
    train(&TrainArgs::parse()).unwrap_or_else(|error| fail(&error))
}
