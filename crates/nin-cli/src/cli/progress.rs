//! The display of a run that goes on: a bar on a terminal, plain lines elsewhere.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use nin::train::{EpochMetrics, Event, RunDir, Settings, TrainError, Trainer};

use super::advice::advice;
use super::curves::write_curves;
use super::tell;

/// Seconds between two plain lines.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// Shows a run: its progress and its warnings on standard error, its curves in the run folder.
#[derive(Debug)]
pub(super) struct Display {
    settings: Settings,
    folder: PathBuf,
    /// A beginning of each line that tells this run from another of the same command, such as "seed 3, ".
    name: String,
    /// The epoch that goes on, such as "epoch 1".
    title: String,
    progress: Option<Progress>,
}

impl Display {
    /// Shows this run, whose folder is `folder`.
    pub(super) fn new(trainer: &Trainer, folder: &Path, name: &str) -> Self {
        let (settings, folder) = (trainer.settings().clone(), folder.to_path_buf());
        Self { settings, folder, name: name.to_owned(), title: String::new(), progress: None }
    }

    /// Shows what happened. The figures of an epoch that is over go to `report` when its curves are drawn.
    ///
    /// # Errors
    /// [`TrainError`] if the curves cannot be written.
    pub(super) fn show(
        &mut self,
        event: Event<'_>,
        report: impl FnOnce(&EpochMetrics),
    ) -> Result<(), TrainError> {
        match (event, &mut self.progress) {
            (Event::Begun, _) => self.draw()?,
            (Event::EpochStarted { epoch, images }, progress) => {
                self.title = format!("{}epoch {epoch}", self.name);
                let title = format!("{}/{}", self.title, self.settings.epochs);
                *progress = Some(Progress::new(title, images));
            }
            (Event::Stepped { images, loss, rest }, Some(progress)) => progress.step(images, loss, rest),
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

    /// Draws the curves of the epochs so far.
    fn draw(&self) -> Result<(), TrainError> {
        let title = format!("{}, {}", self.settings.model, self.settings.dataset);
        let epochs = RunDir::read_epochs(&self.folder)?;
        write_curves(&self.folder.join("curves.svg"), &title, &epochs)
    }
}

/// A bar on standard error. Where that is no terminal, the bar is hidden and only counts.
pub(super) fn bar(length: u64, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).expect("the template is a constant");
    ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(8)).with_style(style)
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
        let bar = bar(images, "{prefix} {bar:30} {pos}/{len} images, {msg}, {eta} left in the epoch");
        let bar = bar.with_finish(ProgressFinish::AndClear).with_prefix(title);
        Self { bar, last_line: Instant::now() }
    }

    /// Counts a step of `images` with this loss. `rest` is how many images the whole run still has after this epoch.
    fn step(&mut self, images: u64, loss: f64, rest: u64) {
        self.bar.inc(images);
        let (done, all) = (self.bar.position(), self.bar.length().unwrap_or_default());
        let rate = done as f64 / self.bar.elapsed().as_secs_f64();
        let left = Duration::from_secs_f64((rest + all.saturating_sub(done)) as f64 / rate);
        let message = format!("{rate:.1} images/s, loss {loss:.4}, {} left in all", clock(left));
        if !self.bar.is_hidden() {
            self.bar.set_message(message);
        } else if self.last_line.elapsed() >= PLAIN_INTERVAL {
            self.last_line = Instant::now();
            tell(&format!("{}: {done}/{all} images, {message}", self.bar.prefix()));
        }
    }

    /// Writes a line of warning that stays.
    fn warn(&self, text: &str) {
        self.bar.suspend(|| tell(&format!("warning: {text}")));
    }
}

/// A duration as `1:02:03` or `2:03`.
fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks() {
        assert_eq!(clock(Duration::from_secs(65)), "1:05");
        assert_eq!(clock(Duration::from_secs(3725)), "1:02:05");
    }
}
