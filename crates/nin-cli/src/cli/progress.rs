//! The display of a run that goes on: a bar on a terminal, plain lines elsewhere.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use nin::train::{Begun, EpochMetrics, Event, RunDir, Settings, TrainError, Trainer};

use super::advice::advice;
use super::curves::write_curves;
use super::report::Report;
use super::tell;
use super::tensorboard::Board;

/// Seconds between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// What is shown of a run beside its progress.
#[derive(Debug, Clone, Copy, Args)]
pub struct DisplayArgs {
    /// Write events for TensorBoard to the run folder: losses, rates, accuracies, class maps of test images, the graph
    #[arg(long)]
    pub tensorboard: bool,
}

/// Shows a run: its progress and its warnings on standard error, its curves in the run folder.
#[derive(Debug)]
pub(super) struct Display {
    settings: Settings,
    folder: PathBuf,
    report: Report,
    /// A beginning of each line that tells this run from another of the same command, such as "seed 3, ".
    name: String,
    /// The epoch that goes on, such as "epoch 1".
    title: String,
    progress: Option<Progress>,
    board: Option<Board>,
}

impl Display {
    /// Shows this run, whose folder is `folder`.
    ///
    /// # Errors
    /// [`TrainError`] if its network does not fit its images, or test images that are to be shown cannot be read.
    pub(super) fn new(
        trainer: &Trainer,
        folder: &Path,
        name: &str,
        args: DisplayArgs,
    ) -> Result<Self, TrainError> {
        let (settings, report) = (trainer.settings().clone(), Report::of(trainer, folder)?);
        let (folder, name) = (folder.to_path_buf(), name.to_owned());
        let board = args.tensorboard.then(|| Board::new(trainer, &folder)).transpose()?;
        Ok(Self { settings, folder, report, name, title: String::new(), progress: None, board })
    }

    /// Adds what a run that is over answers to its test images to its page.
    ///
    /// # Errors
    /// [`TrainError`] if the page cannot be written.
    pub(super) fn finish(&self, trainer: &Trainer, threads: usize) -> Result<(), TrainError> {
        self.report.write_last(trainer, threads)
    }

    /// Shows what happened. The figures of an epoch that is over go to `report` when its curves are drawn.
    ///
    /// # Errors
    /// [`TrainError`] if the curves or the events cannot be written.
    pub(super) fn show(
        &mut self,
        event: Event<'_>,
        report: impl FnOnce(&EpochMetrics),
    ) -> Result<(), TrainError> {
        if let Some(board) = &mut self.board {
            board.show(event)?;
        }
        match (event, &mut self.progress) {
            (Event::Begun(Begun { lost, .. }), _) => {
                if let Some(epoch) = lost {
                    let name = &self.name;
                    tell(&format!(
                        "warning: {name}best.safetensors is missing or damaged: the weights of epoch {epoch} are lost"
                    ));
                }
                self.draw()?;
            }
            (Event::EpochStarted { epoch, images }, progress) => {
                self.title = format!("{}epoch {epoch}", self.name);
                let title = format!("{}/{}", self.title, self.settings.epochs);
                *progress = Some(Progress::new(title, images));
            }
            (Event::Stepped { images, loss, rest, .. }, Some(progress)) => progress.step(images, loss, rest),
            (Event::Warned(warning), Some(progress)) => {
                let advice = advice(warning, &self.settings);
                progress.warn(&format!("{}, {warning}; {advice}", self.title));
            }
            (Event::Stepped { .. } | Event::Warned(_), None) => {}
            (Event::StepsOver, progress) => *progress = None,
            (Event::EpochFinished(metrics), _) => {
                self.draw()?;
                report(metrics);
            }
        }
        Ok(())
    }

    /// Draws the curves of the epochs so far, and the page.
    fn draw(&self) -> Result<(), TrainError> {
        let title = format!("{}, {}", self.settings.model, self.settings.dataset);
        let epochs = RunDir::read_epochs(&self.folder)?;
        write_curves(&self.folder.join("curves.svg"), &title, &epochs)?;
        self.report.write()
    }
}

/// Tells a terminal that only prints: it can neither go back in a line nor draw in color.
pub(super) fn dumb_terminal() -> bool {
    std::env::var_os("TERM").map_or(cfg!(unix), |term| term.is_empty() || term == "dumb")
}

/// A bar and its message on standard error, in one line: what does not fit the terminal is cut off. Where that is no terminal, or one
/// that cannot go back in a line, the bar is hidden and only counts.
pub(super) fn bar(length: u64) -> ProgressBar {
    let target =
        if dumb_terminal() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(8) };
    let style = ProgressStyle::with_template("{bar:10} {wide_msg}").expect("the template is a constant");
    ProgressBar::with_draw_target(Some(length), target).with_style(style)
}

/// The progress of one epoch, written to standard error. The bar goes when it is dropped.
#[derive(Debug)]
struct Progress {
    bar: ProgressBar,
    last_line: Instant,
}

impl Progress {
    /// Shows an epoch by its title, such as "epoch 1/9", with this many images left to go in it.
    fn new(title: String, images: u64) -> Self {
        let bar = bar(images).with_finish(ProgressFinish::AndClear).with_message(title.clone());
        let bar = bar.with_prefix(title);
        Self { bar, last_line: Instant::now() }
    }

    /// Counts a step of `images` with this loss. `rest` is how many images the whole run still has after this epoch.
    fn step(&mut self, images: u64, loss: f64, rest: u64) {
        self.bar.inc(images);
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let rate = done as f64 / self.bar.elapsed().as_secs_f64();
        let left = Duration::from_secs_f64((rest + all.saturating_sub(done)) as f64 / rate);
        let (title, left) = (self.bar.prefix(), clock(left));
        if !self.bar.is_hidden() {
            // What matters most stands first.
            let epoch = clock(self.bar.eta());
            self.bar.set_message(format!(
                "{title}: {done}/{all}, {left} left, loss {loss:.4}, {rate:.1} images/s, {epoch} left in the epoch"
            ));
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            tell(&format!(
                "{title}: {done}/{all} images, {rate:.1} images/s, loss {loss:.4}, {left} left in all"
            ));
        }
    }

    /// Writes a line of warning that stays.
    fn warn(&self, text: &str) {
        self.bar.suspend(|| tell(&format!("warning: {text}")));
    }
}

/// A duration as `1:02:03` or `2:03`.
pub(super) fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// A terminal that remembers what was written to it.
    #[derive(Debug, Clone)]
    struct Screen {
        width: u16,
        written: Arc<Mutex<Vec<String>>>,
    }

    impl Screen {
        fn write(&self, text: &str) -> io::Result<()> {
            self.written.lock().unwrap().push(text.to_owned());
            Ok(())
        }
    }

    impl TermLike for Screen {
        fn width(&self) -> u16 {
            self.width
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, line: &str) -> io::Result<()> {
            self.write(line)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.write(text)
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_bar_is_one_line_on_any_terminal() {
        let seen = |width, name: &str| {
            let screen = Screen { width, written: Arc::default() };
            let mut progress = Progress::new(format!("{name}epoch 10/10"), 60_000);
            progress.bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
            for _ in 0..3 {
                progress.step(20_000, 0.123_456, 5_000_000_000);
            }
            let mut written = screen.written.lock().unwrap().clone();
            written.retain(|text| !text.trim().is_empty());
            let widest = written.iter().map(|text| text.chars().count()).max();
            assert!(widest <= Some(width.into()), "{width}: {written:?}");
            written.pop().unwrap()
        };
        for name in ["", "seed 3, "] {
            for (width, all) in [
                (40, &["█", "epoch 10/10: "] as &[&str]),
                (80, &["█", "epoch 10/10: 60000/60000, ", " left, loss 0.1235, "]),
                (200, &["60000/60000", " left, loss 0.1235, ", " images/s, ", " left in the epoch"]),
            ] {
                let line = seen(width, name);
                assert!(all.iter().all(|part| line.contains(part)), "{width}: {line}");
            }
        }
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_secs(3725)), "1:02:05");
    }
}
