//! The commands `train` and `nin` as a user runs them.

mod bad_input;
mod bench;
mod commands;
mod common;
mod compare;
mod conv_path;
mod determinism;
mod failing_runs;
mod inspect;
mod names;
mod runs;
mod permissions;
mod seeds;
mod signals;
mod torture;
mod terminal;
mod warnings;
