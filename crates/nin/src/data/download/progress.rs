//! How a download's progress is shown on standard error.

use std::cell::Cell;
use std::io::IsTerminal;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Not at all.
    #[default]
    Silent,
    /// A bar with sizes, speed and time left, for a terminal.
    Bar,
    /// A plain line at the beginning, at each quarter and at the end, for a log.
    Lines,
}

impl Progress {
    /// A bar if standard error is a terminal, else lines.
    pub fn for_stderr() -> Progress {
        if std::io::stderr().is_terminal() { Progress::Bar } else { Progress::Lines }
    }

    /// Begins to show the download of `size` bytes of which `done` are there.
    pub(super) fn start(self, name: &str, size: u64, done: u64) -> Meter {
        let bar = (self == Progress::Bar).then(|| {
            let bar = ProgressBar::new(size).with_position(done).with_message(name.to_owned());
            let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.reset_eta();
            bar
        });
        let lines = self == Progress::Lines;
        if lines {
            let from = if done > 0 { format!(", going on from {}", HumanBytes(done)) } else { String::new() };
            eprintln!("downloading {name} ({}{from})", HumanBytes(size));
        }
        Meter { name: name.to_owned(), size, bar, lines, quarters: Cell::new(4 * done / size.max(1)) }
    }
}

/// One download's display.
pub(super) struct Meter {
    name: String,
    size: u64,
    bar: Option<ProgressBar>,
    lines: bool,
    /// Quarters of the file that a line has been written for.
    quarters: Cell<u64>,
}

impl Meter {
    /// Shows that `done` bytes are there.
    pub(super) fn at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
        let quarters = 4 * done / self.size.max(1);
        if self.lines && quarters > self.quarters.get() && quarters < 4 {
            eprintln!("{}: {} of {}", self.name, HumanBytes(done), HumanBytes(self.size));
        }
        self.quarters.set(quarters);
    }

    /// Shows that all is there.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
        if self.lines {
            eprintln!("{}: done, {}", self.name, HumanBytes(self.size));
        }
    }
}
