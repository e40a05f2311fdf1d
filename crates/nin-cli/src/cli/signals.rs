//! Signals that ask a run to end.

use std::process::{ExitCode, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nin::train::TrainError;

use super::log;

/// Signals so soon after a first one are the same wish: `timeout` and a shell whose terminal is closed send theirs twice.
const SAME: Duration = Duration::from_millis(500);

/// The first signal that asked the process to end: 2 is that of Ctrl-C.
static FIRST: AtomicU8 = AtomicU8::new(2);

/// The exit code of a process that a signal ended, as shells have it: 128 and the signal's number.
fn code() -> u8 {
    128 + FIRST.load(Ordering::Relaxed)
}

/// The exit code of a run that a signal ended and that is saved.
pub(super) fn interrupted() -> ExitCode {
    ExitCode::from(code())
}

/// Raises the flag at the first signal that asks the process to end: Ctrl-C, a request to terminate, a terminal that is closed. A
/// later one ends the process at once.
///
/// # Errors
/// [`TrainError::Config`] if the system does not let signals be watched.
pub(super) fn watch(interrupt: &Arc<AtomicBool>) -> Result<(), TrainError> {
    let flag = Arc::clone(interrupt);
    at_first("finishing what is under way and saving", move || flag.store(true, Ordering::Relaxed))
}

/// Begins to end the process at the first such signal, which says that it is `doing` so. A later one ends the process at once.
///
/// # Errors
/// As [`watch`].
pub(super) fn at_first(doing: &'static str, end: impl Fn() + Send + 'static) -> Result<(), TrainError> {
    let mut first = None;
    let on_signal = move |signal: u8| match first {
        None => {
            first = Some(Instant::now());
            FIRST.store(signal, Ordering::Relaxed);
            // First, as a process that is about to end may end before a line is written.
            log(&format!("interrupted: {doing} (again to stop at once)"));
            end();
        }
        Some(first) if first.elapsed() < SAME => {}
        Some(_) => exit(code().into()),
    };
    on_signals(on_signal).map_err(|why| TrainError::Config(format!("cannot watch for Ctrl-C: {why}")))
}

/// Calls a function at each signal with its number, on a thread of its own. What was ignored when the process began stays
/// ignored, so that `nohup` and `trap ''` hold.
#[cfg(unix)]
fn on_signals(mut on_signal: impl FnMut(u8) + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;

    let ignored = crate::process::ignored_signals();
    let mut signals = Signals::new(
        [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0),
    )?;
    let wait = move || signals.forever().for_each(|signal| on_signal(signal as u8));
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

#[cfg(not(unix))]
fn on_signals(mut on_signal: impl FnMut(u8) + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(move || on_signal(2))
}
