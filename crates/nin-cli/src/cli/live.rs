//! `train --plot`: the curves of a run on the terminal while it goes on, as the d2l book's `Animator` draws them.

use nin::train::{EpochMetrics, MetricsLine};

use super::braille::{Curve, plot};
use super::figures::{Figure, TEST_ACC, TRAIN_ACC};

/// Points of the training loss in an epoch, if it has as many steps.
const POINTS: f64 = 20.0;

/// The most columns and rows of characters, without the axis and the names below them.
const LARGEST: [usize; 2] = [79, 12];

/// The fewest columns and rows of a terminal on which there is a plot.
const SMALLEST: [usize; 2] = [40, 12];

/// The curves of a run so far.
#[derive(Debug, Clone)]
pub(super) struct Live {
    /// Epochs of the whole run.
    epochs: f64,
    /// Training images of an epoch.
    images: f64,
    /// The highest loss that is drawn as high as it is.
    highest: f64,
    /// Epochs that are over.
    pub(super) finished: Vec<EpochMetrics>,
    /// Epochs that were trained when it was, and the mean training loss since the point before.
    losses: Vec<(f64, f64)>,
    /// The place in the run, in epochs.
    at: f64,
    /// The images since the last point, and the sum of their losses.
    since: (f64, f64),
}

impl Live {
    /// Of a run of so many epochs of so many images, of so many classes.
    pub(super) fn new(epochs: u64, images: usize, classes: usize) -> Self {
        Self {
            epochs: epochs as f64,
            images: images.max(1) as f64,
            // One that is much above that of guessing would press the other curves flat.
            highest: 3.0 * (classes.max(2) as f64).ln(),
            finished: Vec::new(),
            losses: Vec::new(),
            at: 0.0,
            since: (0.0, 0.0),
        }
    }

    /// The run begins, or goes on after what is written down of it; `batch` images are a step of an epoch that is not over.
    pub(super) fn begin(&mut self, lines: &[MetricsLine], batch: usize) {
        (self.at, self.since) = (0.0, (0.0, 0.0));
        (self.finished, self.losses) = (Vec::new(), Vec::new());
        let mut steps = Vec::new();
        for line in lines {
            match line {
                MetricsLine::Step(step) => steps.push(step.loss),
                MetricsLine::Epoch(epoch) => {
                    self.at = epoch.epoch.saturating_sub(1) as f64;
                    // A last batch may be smaller: as if all were of one size.
                    let images = self.images / steps.len().max(1) as f64;
                    for loss in steps.drain(..) {
                        self.step(images, loss);
                    }
                    (self.at, self.since) = (epoch.epoch as f64, (0.0, 0.0));
                    self.finished.push(*epoch);
                }
            }
        }
        for loss in steps {
            self.step(batch as f64, loss);
        }
    }

    /// An epoch, counted from 1, begins with so many images left.
    pub(super) fn begin_epoch(&mut self, epoch: u64, left: u64) {
        // What belongs to no point of the epoch before, since `drop_last` left images out; not where this one goes on.
        if self.at <= epoch as f64 - 1.0 {
            self.since = (0.0, 0.0);
        }
        self.at = epoch as f64 - left as f64 / self.images;
    }

    /// So many images were trained with this mean loss; tells whether there is a new point.
    pub(super) fn step(&mut self, images: f64, loss: f64) -> bool {
        let before = self.at;
        self.at += images / self.images;
        self.since = (self.since.0 + images, self.since.1 + images * loss);
        // A last step may miss the end of its epoch by the last bits of a sum.
        let part = |at: f64| (at * POINTS + 1e-6).floor();
        let new = part(self.at) > part(before);
        if new {
            self.losses.push((self.at, self.since.1 / self.since.0));
            self.since = (0.0, 0.0);
        }
        new
    }

    /// The lines of the plot for a terminal of so many columns and rows; `None` if that has no room, or there is nothing yet.
    pub(super) fn text(&self, size: [usize; 2], color: bool) -> Option<String> {
        if size[0] < SMALLEST[0] || size[1] < SMALLEST[1] || self.losses.is_empty() {
            return None;
        }
        let curve = |figure: Figure, dashes, color| Curve {
            name: figure.name,
            dashes,
            color,
            points: figure.curve(&self.finished),
        };
        let curves = [
            // That of a part of an epoch, other than the figure that is called train loss.
            Curve { name: "loss now", dashes: [1, 0], color: 34, points: self.losses.clone() },
            curve(TRAIN_ACC, [4, 2], 35),
            curve(TEST_ACC, [1, 2], 32),
        ];
        let losses = self.losses.iter().map(|(_, loss)| *loss).filter(|loss| loss.is_finite());
        let highest = losses.fold(1.0, f64::max).min(self.highest);
        let ends = [self.epochs, (10.0 * highest).ceil() / 10.0];
        // The last column stays free: what is written there wraps on some terminals.
        let room = [(size[0] - 1).min(LARGEST[0]), (size[1] / 2).min(LARGEST[1])];
        Some(plot(&curves, "epoch", ends, room, color).join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use nin::train::StepMetrics;

    use super::*;
    use crate::cli::figures::tests::epoch;

    #[test]
    fn a_point_is_the_mean_of_a_part_of_an_epoch() {
        // Three steps for each point.
        let mut live = Live::new(2, 60 * 32, 10);
        live.begin_epoch(1, 60 * 32);
        let new: Vec<bool> = (0..60).map(|step| live.step(32.0, f64::from(step))).collect();
        let expected: Vec<bool> = (0..60).map(|step| step % 3 == 2).collect();
        assert_eq!(new, expected);
        assert_eq!(live.losses.iter().map(|(_, loss)| *loss).collect::<Vec<_>>()[..3], [1.0, 4.0, 7.0]);
        assert!((live.losses[19].0 - 1.0).abs() < 1e-9, "the last is at the end of the epoch");
        // Of few steps, each.
        let mut live = Live::new(2, 40, 10);
        live.begin_epoch(1, 40);
        assert!((0..5).all(|_| live.step(8.0, 1.0)));
    }

    /// The lines of an epoch of which each step has this loss.
    fn lines(steps: u64, loss: f64, over: Option<EpochMetrics>) -> impl Iterator<Item = MetricsLine> {
        let steps = (1..=steps).map(move |step| MetricsLine::Step(StepMetrics { step, loss }));
        steps.chain(over.map(MetricsLine::Epoch))
    }

    /// The curves are those that an uninterrupted run has.
    #[test]
    fn a_run_that_goes_on_has_the_curves_of_what_was() {
        let mut live = Live::new(4, 40, 10);
        assert_eq!(live.text([80, 24], false), None, "nothing yet");
        let before = lines(2, 1.0, Some(epoch(1, 0.25, 0))).chain(lines(4, 0.5, Some(epoch(2, 0.5, 0))));
        // Two images make a point, of which the run had the first before it was stopped.
        live.begin(&before.chain(lines(3, 0.375, None)).collect::<Vec<_>>(), 1);
        live.begin_epoch(3, 37);
        live.step(1.0, 0.125);
        let places = [0.5, 1.0, 1.25, 1.5, 1.75, 2.0, 2.05, 2.1];
        let losses = [1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.375, 0.25];
        assert_eq!(live.losses.iter().map(|(_, loss)| *loss).collect::<Vec<_>>(), losses);
        assert!(live.losses.iter().zip(places).all(|((at, _), place)| (at - place).abs() < 1e-9), "{live:?}");
        let text = live.text([80, 24], false).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 14, "{text}");
        assert_eq!(lines[13], "⠤⠤⠤ loss now 0.25  ⠤⠤  train acc 0.75  ⠄⠠  test acc 0.5");
        assert!(lines[12].ends_with(" 4") && lines[0].starts_with("   1 │"), "{text}");
    }

    #[test]
    fn a_plot_fits_its_terminal_or_is_left_out() {
        let mut live = Live::new(10, 40, 10);
        let finished: Vec<_> = (1..=10).flat_map(|own| lines(1, 0.5, Some(epoch(own, 0.5, 0)))).collect();
        for (loss, top) in [
            (0.5, "   1 │"),
            (1e4, "   7 │"),
            (1e30, "   7 │"),
            (f64::NAN, "   1 │"),
            (f64::INFINITY, "   1 │"),
        ] {
            live.begin(&finished, 40);
            live.losses.insert(4, (4.5, loss));
            live.losses.push((10.0, loss));
            for size in [[40, 12], [40, 24], [57, 24], [80, 24], [200, 60]] {
                let text = live.text(size, false).unwrap();
                let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
                // A line for the bar, and one for what is written next.
                assert!(
                    widest < size[0] && widest <= 79 && text.lines().count() + 2 <= size[1],
                    "{size:?}:\n{text}"
                );
                let axis: Vec<_> =
                    text.lines().filter_map(|line| line.chars().position(|c| c == '│')).collect();
                assert!(
                    axis.len() >= 6 && axis.iter().all(|&column| column == 5),
                    "{loss}, {size:?}:\n{text}"
                );
                assert!(
                    text.starts_with(top) && !text.contains("NaN") && !text.contains("inf"),
                    "{loss}:\n{text}"
                );
            }
        }
        assert_eq!((live.text([39, 24], false), live.text([80, 11], false)), (None, None));
    }
}
