//! The command line: `train`, and `nin` with its subcommands.

/// Prints a line of news. A run goes on if nobody reads it: standard output may be a closed pipe or a file on a full disk.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

mod advice;
mod bench;
mod compare;
mod curves;
mod data;
mod downloads;
mod eval;
mod inspect;
mod network;
mod plot;
mod progress;
mod run_name;
mod runs;
mod seeds;
mod settings;
mod signals;
mod summary;
mod table;
mod train;
mod usage;

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

pub use bench::{BenchArgs, bench};
pub use compare::{CompareArgs, compare};
pub use eval::{EvalArgs, evaluate};
pub use inspect::{InspectArgs, inspect};
pub use network::NetworkArgs;
pub use plot::{PlotArgs, plot};
pub use summary::{SummaryArgs, summarize};
pub use train::{TrainArgs, train};
pub use usage::parse;

use clap::Args;
use nin::data::DataError;
use nin::disk::{FileError, atomic_write, make_folder};
use nin::train::TrainError;
use nin::train::workers::check_threads;

/// Writes an error as one line and turns it into an exit code: 2 if what was asked for cannot work, 1 if something failed on
/// the way.
pub fn fail(error: &TrainError) -> ExitCode {
    let text = error.to_string();
    let line: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Of a standard error that cannot be written, the exit code still tells.
    tell(&format!("error: {}", line.join(": ")));
    ExitCode::from(match error {
        TrainError::Config(_)
        | TrainError::Shape(_)
        | TrainError::Data(DataError::Options(_))
        | TrainError::File(FileError::Busy { .. }) => 2,
        _ => 1,
    })
}

/// The number of threads: an argument of most commands.
#[derive(Debug, Args)]
pub struct ThreadArgs {
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<usize>,
}

impl ThreadArgs {
    /// The number that was asked for, or as many as the machine has cores.
    ///
    /// # Errors
    /// [`TrainError::Config`] of a number that cannot be.
    pub fn read(&self) -> Result<usize, TrainError> {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = self.threads.unwrap_or_else(cores);
        check_threads(threads)?;
        Ok(threads)
    }
}

/// Writes a file whole or not at all ([`atomic_write`]), in a folder that is made if there is none.
pub(crate) fn write_file(path: &Path, text: &str) -> Result<(), TrainError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    Ok(atomic_write(path, text.as_bytes())?)
}

/// Writes a line of news to standard error; nothing is lost if nobody reads it.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints what a command was asked for. A reader that has seen enough (a closed pipe) is no error.
fn print(text: &str) -> Result<(), TrainError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(TrainError::io(Path::new("standard output"), "write")),
    }
}
