//! `train --tensorboard`: a run's log in files of events.

use std::path::{Path, PathBuf};

use nin::data::Picture;
use nin::disk::make_new_folder;
use nin::tensorboard::{EventFile, graph_def};
use nin::train::{EpochMetrics, Event, MetricsLine, RunDir, TrainError, Trainer};
use nin::{ClassMaps, Classifier};

use super::predict::{first_of_each, over};

/// The most classes of which an image is shown.
const IMAGES: usize = 10;

/// The events of a run, below its folder.
#[derive(Debug)]
pub(super) struct Board {
    /// The run's folder.
    run: PathBuf,
    graph: Vec<u8>,
    images: Vec<Sample>,
    /// `None` until the run goes on.
    file: Option<EventFile>,
    /// The step made last.
    step: u64,
}

/// A test image with its class.
#[derive(Debug)]
struct Sample {
    tag: String,
    class: usize,
    picture: Picture,
}

impl Board {
    /// For this run, whose folder is `run`.
    ///
    /// # Errors
    /// [`TrainError`] if test images cannot be read.
    pub(super) fn new(trainer: &Trainer, run: &Path) -> Result<Self, TrainError> {
        let set = &**trainer.judged_by();
        let maps = ClassMaps::are_made_by(trainer.model(), trainer.input_shape(), set.class_names().len())?;
        let images = if maps { first_of_each(set, IMAGES, 1)? } else { Vec::new() };
        // Names of classes may be equal where they are shown, and a tag has one image.
        let tag = |class: usize| format!("class maps/{class} {}", set.class_names()[class]);
        let images = images.into_iter().map(|(class, picture)| Sample { tag: tag(class), class, picture });
        Ok(Self {
            run: run.to_path_buf(),
            graph: graph_def(trainer.model(), trainer.input_shape())?,
            images: images.collect(),
            file: None,
            step: 0,
        })
    }

    /// Writes down what happened.
    ///
    /// # Errors
    /// [`TrainError::File`] if it cannot be written, or the weights of an epoch cannot be read.
    pub(super) fn show(&mut self, event: Event<'_>) -> Result<(), TrainError> {
        match (event, &mut self.file) {
            (Event::Begun(begun), file) => {
                let lines = RunDir::read_metrics(&self.run)?.lines;
                // Where an epoch has just ended, a process may have died before it wrote it down: its last step is written anew.
                let over = matches!(lines.last(), Some(MetricsLine::Epoch(_)));
                let first = begun.step + u64::from(!over);
                // Earlier files have what was before.
                let folder = self.run.join("events");
                let from = if make_new_folder(&folder)? { 0 } else { first };
                let file = file.insert(EventFile::create(&folder, first)?);
                // In each file, since the one before may have ended too early.
                file.graph(&self.graph)?;
                for line in &lines {
                    match line {
                        MetricsLine::Step(own) => {
                            self.step = own.step;
                            if self.step >= from {
                                file.scalars(self.step, &[("step/loss", own.loss)])?;
                            }
                        }
                        MetricsLine::Epoch(metrics) if self.step >= from => {
                            // The rates of the other steps are not written down.
                            if let Some(lr) = metrics.lr {
                                file.scalars(self.step, &[("step/lr", lr)])?;
                            }
                            log_epoch(file, self.step, metrics)?;
                        }
                        MetricsLine::Epoch(_) => {}
                    }
                }
                self.step = begun.step;
                if over {
                    log_images(file, self.step, &self.run, &self.images)?;
                }
                file.sync()?;
            }
            (Event::Stepped { step, loss, lr, .. }, Some(file)) => {
                self.step = step;
                file.scalars(step, &[("step/loss", loss), ("step/lr", lr)])?;
            }
            (Event::EpochFinished(metrics), Some(file)) => {
                log_epoch(file, self.step, metrics)?;
                log_images(file, self.step, &self.run, &self.images)?;
                file.sync()?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Writes the figures of an epoch that ended with this step, by the names that they have in `metrics.jsonl`.
fn log_epoch(file: &mut EventFile, step: u64, metrics: &EpochMetrics) -> Result<(), TrainError> {
    let Ok(serde_json::Value::Object(all)) = serde_json::to_value(metrics) else { return Ok(()) };
    let figures = all.iter().filter(|(name, _)| *name != "epoch");
    let figures: Vec<_> =
        figures.filter_map(|(name, value)| Some((format!("epoch/{name}"), value.as_f64()?))).collect();
    let scalars: Vec<_> = figures.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
    Ok(file.scalars(step, &scalars)?)
}

/// Writes the class maps of images by the weights of a run, which are those after this step.
fn log_images(file: &mut EventFile, step: u64, run: &Path, images: &[Sample]) -> Result<(), TrainError> {
    if images.is_empty() {
        return Ok(());
    }
    let classifier = Classifier::load(&run.join("model.safetensors"))?;
    for Sample { tag, class, picture } in images {
        let maps = classifier.class_maps(picture)?;
        file.image(step, tag, &over(picture, *class, &maps)?)?;
    }
    Ok(())
}
