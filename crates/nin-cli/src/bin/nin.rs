//! `nin`: what there is to do with networks. See `nin --help`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    nin_cli::nin()
}
