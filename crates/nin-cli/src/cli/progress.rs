//! The display of a run that goes on: a bar on a terminal, plain lines elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::Args;
use console::Term;
use indicatif::{
    ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressState, ProgressStyle, WeakProgressBar,
};
use nin::tensor::lock;
use nin::train::{Begun, EpochMetrics, Event, Outcome, RunDir, Settings, TrainError, Trainer};

use super::curves::write_curves;
use super::diagnostics::suggestion;
use super::live::Live;
use super::log;
use super::report::Report;
use super::tensorboard::Board;

/// Seconds between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// The text that the page of a run has in the place of its answers while it goes on.
const GOES_ON: &str =
    "The run goes on, or was stopped: its answers are added when it ends, or by nin report.";

/// Flags for all that is shown of a run beside its progress.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct DisplayArgs {
    /// Draw the loss now, train acc and test acc on the terminal as the run goes on; nothing where standard error is none
    #[arg(long)]
    plot: bool,
    /// Write events for TensorBoard to the run folder: losses, rates, accuracies, class maps of test images, the graph
    #[arg(long)]
    tensorboard: bool,
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
    /// The plot, if it was asked for and there is a terminal for it.
    live: Option<Live>,
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
        let has_room = args.plot && !dumb_terminal() && io::stderr().is_terminal();
        let classes = trainer.judged_by().class_names().len();
        let live = has_room.then(|| Live::new(settings.epochs, trainer.image_counts()[0], classes));
        Ok(Self { settings, folder, report, name, title: String::new(), progress: None, live, board })
    }

    /// Trains the run on, to its end or until it is interrupted, and shows it. The figures of an epoch go to `report` when its
    /// curves are drawn. What is reported after it stands below the last of it.
    ///
    /// # Errors
    /// As [`Trainer::run`]; [`TrainError`] if the curves or the events cannot be written.
    pub(super) fn train(
        mut self,
        trainer: &mut Trainer,
        run: &mut RunDir,
        interrupt: &AtomicBool,
        threads: usize,
        report: impl Fn(&EpochMetrics),
    ) -> Result<Outcome, TrainError> {
        let ending = trainer.run(run, interrupt, |event| self.show(event, &report));
        self.finish(&ending, trainer, threads);
        ending
    }

    /// Says on the run's page how the run ended: what it answers to its test images, or what went wrong.
    fn finish(&mut self, ending: &Result<Outcome, TrainError>, trainer: &Trainer, threads: usize) {
        match ending {
            Ok(Outcome::Finished(_)) => self.report.write_last(trainer, threads),
            Ok(_) => {}
            Err(error) => {
                let epochs = RunDir::read_epochs(&self.folder).unwrap_or_default();
                self.report.write(&epochs, &format!("The run failed: {error}."));
            }
        }
    }

    /// Shows what happened.
    fn show(&mut self, event: Event<'_>, report: &impl Fn(&EpochMetrics)) -> Result<(), TrainError> {
        if let Some(board) = &mut self.board {
            board.show(event)?;
        }
        match (event, &mut self.progress) {
            (Event::Begun(Begun { lost, .. }), _) => {
                if let Some(epoch) = lost {
                    let name = &self.name;
                    log(&format!(
                        "warning: {name}best.safetensors is missing or damaged: the weights of epoch {epoch} are lost"
                    ));
                }
                self.draw()?;
                if let Some(live) = &mut self.live {
                    live.begin(&RunDir::read_metrics(&self.folder)?.lines, self.settings.batch_size);
                }
            }
            (Event::EpochStarted { epoch, images }, progress) => {
                self.title = format!("{}epoch {epoch}", self.name);
                let title = format!("{}/{}", self.title, self.settings.epochs);
                // One that is still there is that of the epoch before.
                *progress = None;
                let progress = progress.insert(Progress::new(title, images));
                if let Some(live) = &mut self.live {
                    live.begin_epoch(epoch, images);
                    progress.show(live);
                }
            }
            (Event::Stepped { images, loss, rest, .. }, Some(progress)) => {
                if let Some(live) = &mut self.live
                    && live.step(images as f64, loss)
                {
                    progress.show(live);
                }
                progress.step(images, loss, rest, size()[0]);
            }
            (Event::Warned(warning), Some(_)) => {
                let suggestion = suggestion(warning, &self.settings);
                log(&format!("warning: {}, {warning}; {suggestion}", self.title));
            }
            (Event::Stepped { .. } | Event::Warned(_), None) => {}
            // A plot stays while the network is tested, and with it the bar below.
            (Event::StepsOver, Some(progress)) if self.live.is_some() => progress.test(),
            (Event::StepsOver, progress) => *progress = None,
            (Event::EpochFinished(metrics), _) => {
                let epochs = self.draw()?;
                // Not before: a run that is over keeps its page when somebody goes on with it.
                self.report.write(&epochs, GOES_ON);
                if let Some(live) = &mut self.live {
                    live.finished = epochs;
                    if let Some(progress) = &self.progress {
                        progress.show(live);
                    }
                }
                report(metrics);
            }
        }
        Ok(())
    }

    /// Draws the curves of the epochs so far, which it answers.
    fn draw(&self) -> Result<Vec<EpochMetrics>, TrainError> {
        let title = format!("{}, {}", self.settings.model, self.settings.dataset);
        let epochs = RunDir::read_epochs(&self.folder)?;
        write_curves(&self.folder.join("curves.svg"), &title, &epochs)?;
        Ok(epochs)
    }
}

impl Drop for Display {
    /// The plot stays when the run is over.
    fn drop(&mut self) {
        self.progress = None;
        if let Some(text) = self.live.as_ref().and_then(|live| live.text(size(), in_color())) {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

/// The bar that is on the terminal.
static SHOWN: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

/// Writes something while no bar is in its way: the bar is drawn again below it.
pub(super) fn beside_the_bar<R>(write: impl FnOnce() -> R) -> R {
    let shown = lock(&SHOWN).clone();
    match shown.and_then(|bar| bar.upgrade()) {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Columns and rows of the terminal.
fn size() -> [usize; 2] {
    let (rows, columns) = Term::stderr().size();
    [columns, rows].map(usize::from)
}

/// Tells whether colors are wanted (<https://no-color.org>).
fn in_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Tells a terminal that only prints: it can neither go back in a line nor draw in color.
pub(super) fn dumb_terminal() -> bool {
    std::env::var_os("TERM").map_or(cfg!(unix), |term| term.is_empty() || term == "dumb")
}

/// A bar and its message on standard error, in one line: what does not fit the terminal is cut off. Where that is no terminal, or
/// one that cannot go back in a line, the bar is hidden and only counts.
pub(super) fn bar(length: u64) -> ProgressBar {
    let target =
        if dumb_terminal() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(8) };
    let bar = ProgressBar::with_draw_target(Some(length), target).with_style(style(BAR));
    *lock(&SHOWN) = Some(bar.downgrade());
    bar
}

/// A bar and its message.
const BAR: &str = "{bar:10} {wide_msg}";

/// The columns of [`BAR`] before the message.
const BEFORE_MESSAGE: usize = 11;

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("templates are constants")
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
    fn step(&mut self, images: u64, loss: f64, rest: u64, columns: usize) {
        self.bar.inc(images);
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let rate = done as f64 / self.bar.elapsed().as_secs_f64();
        let title = self.bar.prefix();
        if !self.bar.is_hidden() {
            let room = columns.saturating_sub(BEFORE_MESSAGE);
            self.bar.set_message(message(&title, [done, all, rest], rate, loss, room));
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            let left = time_for(rest + all.saturating_sub(done), rate);
            log(&format!(
                "{title}: {done}/{all} images, {rate:.1} images/s, loss {loss:.4}, {left} left in all"
            ));
        }
    }

    /// The steps are over, and the network is tested.
    fn test(&self) {
        self.bar.set_message(format!("{}: testing", self.bar.prefix()));
    }

    /// Draws the plot above the bar, if there is room.
    fn show(&self, live: &Live) {
        let style = if live.text(size(), in_color()).is_some() {
            // The terminal may be another size whenever it is drawn.
            let live = live.clone();
            let plot = move |_: &ProgressState, to: &mut dyn fmt::Write| {
                let _ = to.write_str(&live.text(size(), in_color()).unwrap_or_default());
            };
            style(&format!("{{plot}}\n{BAR}")).with_key("plot", plot)
        } else {
            style(BAR)
        };
        self.bar.set_style(style);
        self.bar.tick();
    }
}

/// The text beside a bar: images that are done, all of the epoch, and those of later epochs, at so many a second. What matters
/// most stands first, and what does not fit into so many columns is left out, so that no number is cut.
fn message(title: &str, [done, all, rest]: [u64; 3], rate: f64, loss: f64, columns: usize) -> String {
    let left = all.saturating_sub(done);
    let decimals = usize::from(rate < 100.0);
    let parts = [
        format!(": {done}/{all}"),
        format!(" at {rate:.decimals$}/s"),
        format!(", {} left", time_for(rest + left, rate)),
        format!(", loss {loss:.4}"),
        format!(", {} left in the epoch", time_for(left, rate)),
    ];
    let mut line = title.to_owned();
    for part in parts {
        if line.chars().count() + part.chars().count() > columns {
            break;
        }
        line += &part;
    }
    line
}

/// The time that so many images take.
fn time_for(images: u64, rate: f64) -> String {
    clock(Duration::try_from_secs_f64(images as f64 / rate).unwrap_or_default())
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
                progress.step(20_000, 0.123_456, 5_000_000_000, width.into());
            }
            let mut written = screen.written.lock().unwrap().clone();
            written.retain(|text| !text.trim().is_empty());
            let widest = written.iter().map(|text| text.chars().count()).max();
            assert!(widest <= Some(width.into()), "{width}: {written:?}");
            written.pop().unwrap()
        };
        for name in ["", "seed 3, "] {
            for (width, all) in [
                (40, &["█", "epoch 10/10"] as &[&str]),
                (80, &["█", "epoch 10/10: 60000/60000 at ", "/s"]),
                (200, &["60000/60000 at ", " left, loss 0.1235, ", " left in the epoch"]),
            ] {
                let line = seen(width, name);
                assert!(all.iter().all(|part| line.contains(part)), "{width}: {line}");
            }
        }
    }

    /// Images, rate, time and loss beside a bar of 80 columns, and whole parts of them beside a shorter one.
    #[test]
    fn what_stands_beside_a_bar() {
        let at = |title, columns, rate| message(title, [60_000, 60_000, 3_000_000], rate, 0.123_456, columns);
        let room = 80 - BEFORE_MESSAGE;
        assert_eq!(
            at("epoch 10/10", room, 617.3),
            "epoch 10/10: 60000/60000 at 617/s, 1:20:59 left, loss 0.1235"
        );
        assert_eq!(
            at("seed 12, epoch 10/10", room, 617.3),
            "seed 12, epoch 10/10: 60000/60000 at 617/s, 1:20:59 left, loss 0.1235"
        );
        assert_eq!(at("epoch 10/10", 40 - BEFORE_MESSAGE, 617.3), "epoch 10/10: 60000/60000");
        assert_eq!(at("epoch 10/10", 33, 617.3), "epoch 10/10: 60000/60000 at 617/s");
        assert_eq!(at("epoch 10/10", 40, 9.96), "epoch 10/10: 60000/60000 at 10.0/s");
        let halfway = message("epoch 1/2", [500, 1000, 1000], 100.0, 1.0, 200);
        assert_eq!(halfway, "epoch 1/2: 500/1000 at 100/s, 0:15 left, loss 1.0000, 0:05 left in the epoch");
        // Before the first image has taken any time.
        for rate in [0.0, f64::NAN, f64::INFINITY] {
            assert!(message("epoch 1/2", [0, 1000, 0], rate, 1.0, 80).contains(", 0:00 left"), "{rate}");
        }
    }

    #[test]
    fn a_plot_stands_above_the_bar() {
        let screen = Screen { width: 80, written: Arc::default() };
        let progress = Progress::new("epoch 1/2".to_owned(), 40);
        progress.bar.set_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
        let mut live = Live::new(2, 40, 10);
        live.begin_epoch(1, 40);
        assert!(live.step(40.0, 2.0));
        progress.show(&live);
        let lines = |text: &str| text.lines().count();
        let text = live.text(size(), false).unwrap();
        let written = screen.written.lock().unwrap().clone();
        // Each line, and blanks to the end of it.
        assert_eq!(
            written.iter().filter(|text| !text.trim().is_empty()).count(),
            lines(&text) + 1,
            "{written:?}"
        );
        assert!(written.iter().any(|text| text.starts_with("   2 │")), "{written:?}");
        assert!(written.last_chunk::<2>().unwrap()[0].contains("epoch 1/2"), "{written:?}");
    }

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_secs(3725)), "1:02:05");
    }
}
