//! The training loop: epochs of steps, an evaluation after each, a checkpoint after each, by time, and when it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tensor::Tensor;

use super::error::TrainError;
use super::health::Warning;
use super::metrics::{EpochMetrics, StepMetrics};
use super::run_dir::{Begun, Best, Position, RunDir, Saved};
use super::settings::Settings;
use super::trainer::{Outcome, Trainer};
use crate::nn::parameters;

/// Events of a run while it goes on, for whoever shows them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event<'a> {
    /// The run begins or goes on, and every file of its folder agrees with where it stands.
    Begun(Begun),
    /// The steps of an epoch begin, or go on after a checkpoint inside of it.
    EpochStarted {
        /// The epoch, counted from 1.
        epoch: u64,
        /// Training images that it still has; those that `drop_last` leaves out are not among them.
        images: u64,
    },
    /// A step was made.
    Stepped {
        /// The step of the run, counted from 1.
        step: u64,
        /// N: images of its batch.
        images: u64,
        /// The mean loss of its batch.
        loss: f64,
        /// Its learning rate.
        lr: f64,
        /// Training images of the epochs after this one.
        rest: u64,
    },
    /// The step made last gives reason to warn.
    Warned(&'a Warning),
    /// No further step is made in this epoch: it is over, or the run ends inside of it.
    StepsOver,
    /// An epoch is over, tested and saved.
    EpochFinished(&'a EpochMetrics),
}

impl Trainer {
    /// Trains until the epochs are over, or the test accuracy, or the test loss where test images have no classes, has not become
    /// better for `patience` of them, `max_steps` are made, `max_minutes` have gone by or `interrupt` is raised, writing to the
    /// run folder as it goes. Events go to `report`, whose error ends the run.
    ///
    /// # Errors
    /// [`TrainError`]; the last checkpoint stays as it was.
    ///
    /// # Panics
    /// As [`Trainer::step`].
    pub fn run(
        &mut self,
        run: &mut RunDir,
        interrupt: &AtomicBool,
        mut report: impl FnMut(Event<'_>) -> Result<(), TrainError>,
    ) -> Result<Outcome, TrainError> {
        let begun = (Instant::now(), self.position.step);
        report(Event::Begun(run.begin(&self.saved())?))?;
        let mut last = RunDir::read_epochs(run.path())?.last().copied();
        while !self.settings.is_over(self.position.epoch, self.position.best.map(|best| best.epoch)) {
            if self.is_stopped(begun) {
                return Ok(Outcome::Stopped);
            }
            let ended = self.train_epoch(run, interrupt, begun, &mut report);
            report(Event::StepsOver)?;
            let ended = ended?;
            self.refuse_broken_weights()?;
            if let Some(outcome) = ended {
                run.save(&self.saved())?;
                return Ok(outcome);
            }
            let tested = self.test()?;
            let Position { step, sums, .. } = self.position;
            let epoch = self.position.epoch + 1;
            let metrics = EpochMetrics {
                epoch,
                train_loss: sums.mean_loss(),
                train_acc: self.classes.train.then(|| sums.accuracy()),
                test_acc: self.classes.test.then(|| tested.accuracy()),
                test_loss: Some(tested.finite_loss("test loss", epoch, step)?),
                lr: Some(self.rate_of_step(step.saturating_sub(1))),
                images_per_s: sums.images as f64 / self.position.seconds.max(1e-9),
                data_wait: self.position.waited / self.position.seconds.max(1e-9),
                dead_maps: self.dead_maps(),
            };
            run.log(&metrics)?;
            let (score, test_acc) = (metrics.score(), metrics.test_acc);
            let best = self.position.best.filter(|best| !score.beats(best.score));
            let best = best.or(Some(Best { epoch, score }));
            self.position = Position { step, epoch, test_acc, best, ..Position::default() };
            run.save(&self.saved())?;
            report(Event::EpochFinished(&metrics))?;
            last = Some(metrics);
        }
        last.map(Outcome::Finished)
            .ok_or_else(|| TrainError::of(run.path(), "its metrics.jsonl has no epoch"))
    }

    /// The state that a save holds.
    fn saved(&self) -> Saved<'_> {
        Saved {
            model: &self.model,
            optimizer: self.optimizer.state(),
            position: &self.position,
            health: self.health.counts(),
            card: self.card.clone(),
            whitening: self.train.options().whitening.as_deref(),
        }
    }

    /// Tells whether a limit is reached, of a command that began then and at that step: time alone stops none before it has made
    /// one.
    fn is_stopped(&self, (started, first): (Instant, u64)) -> bool {
        let Settings { max_steps, max_minutes, .. } = self.settings;
        max_steps.is_some_and(|most| self.position.step >= most)
            || self.position.step > first
                && max_minutes.is_some_and(|most| started.elapsed().as_secs_f64() >= 60.0 * most)
    }

    /// Trains the rest of the epoch that goes on. `Some` if the run ends inside of it.
    fn train_epoch(
        &mut self,
        run: &mut RunDir,
        interrupt: &AtomicBool,
        begun: (Instant, u64),
        report: &mut impl FnMut(Event<'_>) -> Result<(), TrainError>,
    ) -> Result<Option<Outcome>, TrainError> {
        let epoch = self.position.epoch;
        self.change_for(epoch)?;
        let images = self.train.samples_per_epoch() as u64;
        let rest = (self.settings.epochs - epoch - 1) * images;
        let mut batches = self.train.epoch_from(epoch, self.position.batch as usize);
        let left = images - self.position.sums.images as u64;
        report(Event::EpochStarted { epoch: epoch + 1, images: left })?;
        let (seconds, waited) = (self.position.seconds, self.position.waited);
        let started = Instant::now();
        let (mut saved, between) = (started, 60.0 * self.settings.checkpoint_minutes);
        while let Some(batch) = batches.next() {
            let batch = batch?;
            let n = batch.len();
            let sums = self.step(&batch)?;
            drop(batch);
            let loss = sums.finite_loss("loss", epoch + 1, self.position.step + 1)?;
            self.position.step += 1;
            self.position.batch += 1;
            self.position.sums.add(sums);
            self.position.seconds = seconds + started.elapsed().as_secs_f64();
            self.position.waited = waited + batches.wait_time().as_secs_f64();
            let (step, lr) = (self.position.step, self.rate_of_step(self.position.step - 1));
            run.log(&StepMetrics { step, loss })?;
            report(Event::Stepped { step, images: n as u64, loss, lr, rest })?;
            self.warnings.extend(self.health.loss(self.position.step, loss));
            for warning in self.warnings.drain(..) {
                report(Event::Warned(&warning))?;
                run.log(&warning)?;
            }
            if batches.len() == 0 {
                break;
            }
            if interrupt.load(Ordering::Relaxed) {
                return Ok(Some(Outcome::Interrupted));
            }
            if self.is_stopped(begun) {
                return Ok(Some(Outcome::Stopped));
            }
            if between > 0.0 && saved.elapsed().as_secs_f64() >= between {
                self.refuse_broken_weights()?;
                run.save(&self.saved())?;
                saved = Instant::now();
            }
        }
        Ok(None)
    }

    /// A step whose loss was still finite can leave weights that are not: those are not to replace a good checkpoint.
    fn refuse_broken_weights(&self) -> Result<(), TrainError> {
        let finite = |tensor: &Tensor<f32>| tensor.data().iter().all(|x| x.is_finite());
        let weights = parameters(&self.model);
        if weights.iter().all(|(_, parameter)| finite(&parameter.value))
            && self.optimizer.state().values().all(finite)
        {
            return Ok(());
        }
        let (epoch, step) = (self.position.epoch + 1, self.position.step);
        let loss = self.position.sums.mean_loss();
        let reason = format!("weights are no longer finite (the mean loss of the epoch was {loss})");
        Err(TrainError::Diverged { epoch, step, reason })
    }
}
