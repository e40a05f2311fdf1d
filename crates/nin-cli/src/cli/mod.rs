//! The command line: `train`, and `nin` with its subcommands.

/// Prints a line. A run goes on if nobody reads it: standard output may be a closed pipe or a file on a full disk.
macro_rules! print_line {
    ($($text:tt)*) => {{
        use std::io::Write;
        let text = nin::names::shown(&format!($($text)*));
        let _ = $crate::cli::progress::beside_the_bar(|| writeln!(std::io::stdout(), "{text}"));
    }};
}

mod bench;
mod braille;
mod commands;
mod compare;
mod curves;
mod data;
mod diagnostics;
mod downloads;
mod eval;
mod export;
mod figures;
mod flags;
mod import;
mod inspect;
mod live;
mod network;
mod plot;
mod predict;
mod progress;
mod report;
mod run_name;
mod runs;
mod seeds;
mod serve;
mod settings;
mod shell;
mod signals;
mod summary;
mod table;
mod tensorboard;
mod train;
mod trained;
mod usage;

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

pub use commands::{nin, train};
pub use seeds::parse as parse_seeds;

pub(crate) use bench::BenchArgs;
pub(crate) use network::NetworkArgs;

use flags::{FolderArgs, JsonArgs, PictureArgs, SecondsArgs, ThreadArgs, WeightsArgs};
use seeds::SeedsArgs;

use nin::data::DataError;
use nin::disk::{FileError, atomic_write, check_write, make_folder};
use nin::names::{shown, unprintable};
use nin::train::TrainError;

/// Writes an error as one line and turns it into an exit code: 2 if what was asked for cannot be, with these arguments and these
/// files, however often one asks; 1 if something failed on the way. The only place where that is decided.
fn fail(error: &TrainError) -> ExitCode {
    // Of a standard error that cannot be written, the exit code still tells.
    log(&format!("error: {error}"));
    ExitCode::from(if cannot_be(error) { 2 } else { 1 })
}

/// Tells whether arguments, settings or files are to blame, which are not there or do not hold what they should: not the system,
/// which had no permission, room or connection, nor a run that diverged.
fn cannot_be(error: &TrainError) -> bool {
    match error {
        TrainError::Config(_) | TrainError::Shape(_) => true,
        TrainError::Data(DataError::Options(_) | DataError::NotFound { .. } | DataError::Samples { .. }) => {
            true
        }
        TrainError::File(file) | TrainError::Data(DataError::File(file)) => match file {
            FileError::Io { source, .. } => matches!(
                source.kind(),
                ErrorKind::NotFound
                    | ErrorKind::AlreadyExists
                    | ErrorKind::NotADirectory
                    | ErrorKind::IsADirectory
                    | ErrorKind::InvalidFilename
                    | ErrorKind::InvalidInput
                    | ErrorKind::InvalidData
            ),
            _ => true,
        },
        _ => false,
    }
}

/// Writes a file whole or not at all ([`atomic_write`]), in a folder that is made if there is none.
pub(crate) fn write_file(path: &Path, contents: &(impl AsRef<[u8]> + ?Sized)) -> Result<(), TrainError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    Ok(atomic_write(path, contents.as_ref())?)
}

/// Checks that [`write_file`] can write to a path, before the work whose result goes there. Makes its folder, changes nothing
/// else.
fn check_file(path: &Path) -> Result<(), TrainError> {
    if let Some(folder) = path.parent() {
        make_folder(folder)?;
    }
    Ok(check_write(path)?)
}

/// Writes a line to standard error; nothing is lost if nobody reads it.
fn log(text: &str) {
    let _ = progress::beside_the_bar(|| writeln!(io::stderr(), "{}", shown(text)));
}

/// Prints a line of JSON, in which no name can have a character that a terminal obeys.
fn print_json(value: &serde_json::Value) -> Result<(), TrainError> {
    let mut line = String::new();
    for c in value.to_string().chars() {
        if unprintable(c) { line += &format!("\\u{:04x}", u32::from(c)) } else { line.push(c) }
    }
    print(&(line + "\n"))
}

/// Prints what a command was asked for. A reader that has seen enough (a closed pipe) is no error.
fn print(text: &str) -> Result<(), TrainError> {
    let mut stdout = io::stdout().lock();
    printed(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn printed(result: io::Result<()>) -> Result<(), TrainError> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(TrainError::io(Path::new("standard output"), "write")),
    }
}
