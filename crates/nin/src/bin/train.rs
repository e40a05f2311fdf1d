//! `train`: see `train --help`.

use std::process::ExitCode;

use nin::cli::{TrainArgs, fail, parse, show_warnings, train};

fn main() -> ExitCode {
    show_warnings();
    match parse::<TrainArgs>() {
        Ok(args) => train(&args).unwrap_or_else(|error| fail(&error)),
        Err(code) => code,
    }
}
