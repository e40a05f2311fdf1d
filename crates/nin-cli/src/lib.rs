//! The command line of Network in Network: `train`, and `nin` with its subcommands. What they do is in the library `nin`; here
//! are flags, reports, progress, pictures and measurements.
#![forbid(unsafe_code)]

mod bench;
mod chart;
mod cli;
mod process;
mod signal;

pub use cli::{nin, parse_seeds, train};
