//! The sources of data, and the display of a download: a bar on a terminal, plain lines elsewhere.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use indicatif::{HumanBytes, ProgressBar};

use nin::data::{DataEvent, DataSources, Observer};
use nin::tensor::lock;

use super::log;
use super::progress::{bar, clock};

/// The sources of a command, whose events are logged on standard error.
pub(super) fn sources(data_dir: Option<PathBuf>) -> DataSources {
    let (meter, decoded) = (Mutex::new(None::<Meter>), Decoded::default());
    let observer: Observer = Arc::new(move |event| match event {
        DataEvent::Incomplete { dir, kind } => log(&format!(
            "warning: {}: not all four files of {kind} are here; looking in the cache",
            dir.display()
        )),
        DataEvent::LeftOut { error } => log(&format!("warning: {error}; left out")),
        DataEvent::Decoded { done, all } => decoded.at(done, all),
        DataEvent::Received { name, size, done } => {
            let mut meter = lock(&meter);
            let shown = meter.take().filter(|meter| meter.bar.prefix() == name);
            *meter = Some(shown.unwrap_or_else(|| Meter::new(name, size, done)).at(done));
        }
    });
    DataSources { observer, ..DataSources::new(data_dir) }
}

/// The display of image files that are decoded: a bar, on a terminal that can have one.
#[derive(Default)]
struct Decoded(Mutex<Option<ProgressBar>>);

impl Decoded {
    /// Shows that `done` of `all` files are decoded. Threads report in no order.
    fn at(&self, done: usize, all: usize) {
        let mut shown = lock(&self.0);
        let bar = shown.get_or_insert_with(|| bar(all as u64));
        bar.set_position(bar.position().max(done as u64));
        bar.set_message(format!("images: {} of {all} decoded, {} left", bar.position(), clock(bar.eta())));
        if done == all {
            // It stays, and is seen no more: a thread may still come with a smaller number.
            bar.finish_and_clear();
        }
    }
}

/// One file's display: a bar with sizes, speed and time left; or a line at the beginning, at each quarter and at the end.
struct Meter {
    bar: ProgressBar,
    /// Quarters of the file that a line has been written for.
    quarters: u64,
}

impl Meter {
    /// Begins to show the download of `size` bytes of which `done` are there.
    fn new(name: &str, size: u64, done: u64) -> Self {
        let bar = bar(size).with_position(done).with_prefix(name.to_owned());
        bar.reset_eta();
        if bar.is_hidden() {
            let from = if done > 0 { format!(", going on from {}", HumanBytes(done)) } else { String::new() };
            log(&format!("downloading {name} ({}{from})", HumanBytes(size)));
        }
        Self { bar, quarters: 4 * done.min(size.saturating_sub(1)) / size.max(1) }
    }

    /// Shows that `done` bytes are there.
    fn at(mut self, done: u64) -> Self {
        let (name, size) = (self.bar.prefix(), self.bar.length().unwrap_or_default());
        let quarters = 4 * done / size.max(1);
        if self.bar.is_hidden() && quarters > self.quarters {
            let end = if done >= size { "done, ".to_owned() } else { format!("{} of ", HumanBytes(done)) };
            log(&format!("{name}: {end}{}", HumanBytes(size)));
        }
        self.quarters = quarters;
        self.bar.set_position(done);
        let (left, rate) = (clock(self.bar.eta()), HumanBytes(self.bar.per_sec() as u64));
        let (done_of, all) = (HumanBytes(done), HumanBytes(size));
        self.bar.set_message(format!("{name}: {done_of}/{all}, {left} left, {rate}/s"));
        if done >= size {
            self.bar.finish();
        }
        self
    }
}
