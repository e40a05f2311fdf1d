//! The commands `train` and `nin` as a user runs them.

mod bad_input;
mod bench;
mod commands;
mod common;
mod compare;
mod conv_path;
mod determinism;
mod failing_runs;
mod hostile;
mod import;
mod inspect;
mod names;
mod outputs;
mod own_images;
mod permissions;
mod predict;
mod report;
mod runs;
mod seeds;
mod serve;
mod shell;
mod signals;
mod tensorboard;
mod terminal;
mod torture;
mod warnings;
