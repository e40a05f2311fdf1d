//! `train`: see `train --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use nin_cli::cli::{TrainArgs, fail, parse, train};

fn main() -> ExitCode {
    match parse::<TrainArgs>() {
        Ok(args) => train(&args, "train").unwrap_or_else(|error| fail(&error)),
        Err(code) => code,
    }
}
