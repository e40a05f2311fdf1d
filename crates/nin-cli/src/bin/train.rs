//! `train`: see `train --help`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    nin_cli::train()
}
