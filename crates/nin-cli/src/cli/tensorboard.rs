//! `train --tensorboard`: what a run tells, in files of events.

use std::path::{Path, PathBuf};

use nin::Classifier;
use nin::data::{Dataset, Picture, Target};
use nin::disk::make_new_folder;
use nin::tensorboard::{EventFile, graph_def};
use nin::train::{EpochMetrics, Event, TrainError, Trainer};
use serde_json::Value;

use super::predict::{over, picture};

/// The most classes of which an image is shown.
const IMAGES: usize = 10;

/// The events of a run, below its folder.
#[derive(Debug)]
pub(super) struct Board {
    folder: PathBuf,
    weights: PathBuf,
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
        let maps = trainer.settings().model.has_class_maps();
        let images = if maps { first_of_each_class(&**trainer.judged_by())? } else { Vec::new() };
        Ok(Self {
            folder: run.join("events"),
            weights: run.join("model.safetensors"),
            graph: graph_def(trainer.model(), trainer.input_shape())?,
            images,
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
                self.step = begun.step;
                let new = make_new_folder(&self.folder)?;
                let file = file.insert(EventFile::create(&self.folder, begun.step + 1)?);
                // A run has one graph, in whichever of its files.
                if new {
                    file.graph(&self.graph)?;
                }
            }
            (Event::Stepped { step, loss, lr, .. }, Some(file)) => {
                self.step = step;
                file.scalars(step, &[("step/loss", loss), ("step/lr", lr)])?;
            }
            (Event::EpochFinished(metrics), Some(file)) => {
                let figures = figures(metrics);
                let scalars: Vec<_> = figures.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
                file.scalars(self.step, &scalars)?;
                if !self.images.is_empty() {
                    let classifier = Classifier::load(&self.weights)?;
                    for Sample { tag, class, picture } in &self.images {
                        let maps = classifier.class_maps(picture)?;
                        file.image(self.step, tag, &over(picture, *class, &maps)?)?;
                    }
                }
                file.sync()?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The figures of an epoch by the names that they have in `metrics.jsonl`.
fn figures(metrics: &EpochMetrics) -> Vec<(String, f64)> {
    let Ok(Value::Object(all)) = serde_json::to_value(metrics) else { return Vec::new() };
    let figures = all.iter().filter(|(name, _)| *name != "epoch");
    figures.filter_map(|(name, value)| Some((format!("epoch/{name}"), value.as_f64()?))).collect()
}

/// The first image of each class, of the first classes. None of numbers that are no picture.
fn first_of_each_class(set: &dyn Dataset) -> Result<Vec<Sample>, TrainError> {
    let names = set.class_names();
    let mut first = vec![None; names.len().min(IMAGES)];
    for index in 0..set.len() {
        if first.iter().all(Option::is_some) {
            break;
        }
        if let Target::Class(class) = set.target(index)?
            && let Some(place @ None) = first.get_mut(class)
        {
            *place = Some(index);
        }
    }
    let mut samples = Vec::new();
    for (class, index) in first.into_iter().enumerate() {
        if let Some(picture) = index.map(|index| picture(set, index)).transpose()?.flatten() {
            samples.push(Sample { tag: format!("class maps/{}", names[class]), class, picture });
        }
    }
    Ok(samples)
}
