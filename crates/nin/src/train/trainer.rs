//! A run and its single step; the loop over the epochs is in `epochs.rs`.

use std::path::Path;
use std::sync::Arc;

use tensor::{BufferPool, Shape};

use super::error::TrainError;
use super::evaluation::Evaluation;
use super::lanes::{Lanes, StepSettings};
use super::metrics::EpochMetrics;
use super::run_dir::{Checkpoint, Position};
use super::settings::{InitialWeights, Settings};
use super::start::{class_map_bias, scale_head, standardise};
use super::watch::{Warning, Watch};
use crate::checkpoint::load_parameters;
use crate::data::{Augmentation, Batch, DataLoader, LabeledImages, LoaderOptions, Normalization, Splits};
use crate::inspect::{Signal, inspect};
use crate::loss::CrossEntropy;
use crate::nn::{Planned, Sequential, initialise, parameters, parameters_mut};
use crate::optim::{Gradients, Optimizer, Schedule, Scheduler, Sgd};

/// Images that the data-dependent start looks at: enough for each channel's mean and deviation where maps are one pixel, and few
/// enough for their maps in the largest layer to need less memory than training does.
const STANDARDISED_ON: usize = 64;

/// Images of a test batch: enough to keep all threads busy, few enough to take less memory than a step. No result depends on it.
const TEST_BATCH: usize = 64;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// All epochs were trained; the figures of the last.
    Finished(EpochMetrics),
    /// `max_steps` were made.
    StepsDone,
    /// The interrupt flag was raised; everything is saved.
    Interrupted,
}

/// A run: the network, the data, the optimizer and where they stand.
#[derive(Debug)]
pub struct Trainer {
    pub(super) settings: Settings,
    schedule: Schedule,
    pub(super) model: Planned<f32, Sequential<f32>>,
    pub(super) train: DataLoader,
    test: DataLoader,
    lanes: Lanes,
    pub(super) optimizer: Box<dyn Optimizer>,
    pub(super) position: Position,
    pub(super) watch: Watch,
    /// The number of the class maps' bias among the parameters.
    class_map_bias: Option<usize>,
    /// What a step found that was not told yet.
    pub(super) warnings: Vec<Warning>,
}

impl Trainer {
    /// A run from the beginning, with freshly initialised weights.
    ///
    /// # Errors
    /// [`TrainError`] if a setting cannot work or the network does not fit the data set's images.
    pub fn new(settings: Settings, splits: Splits, threads: usize) -> Result<Self, TrainError> {
        settings.validate()?;
        let splits = settings.split(splits)?;
        let mut model = network(&settings, &splits)?;
        let side = settings.image_size;
        let (weights, biases) = settings.init.weights_and_biases();
        initialise(&mut model, weights, biases, settings.seed);
        let lanes = Lanes::new(threads)?.with_conv(settings.conv);
        let normalization = settings.normalize.then(|| Normalization::of(&splits.train));
        let options = LoaderOptions {
            batch_size: settings.batch_size,
            image_size: Some((side, side)),
            shuffle: settings.shuffle,
            seed: settings.seed,
            normalization,
            augmentation: settings.augment,
            ..LoaderOptions::default()
        };
        let test_options = LoaderOptions {
            shuffle: false,
            batch_size: TEST_BATCH,
            augmentation: Augmentation::default(),
            ..options.clone()
        };
        let (counts, class_map_bias) = (splits.train.class_counts(), class_map_bias(&model, &settings));
        let train = DataLoader::new(Arc::new(splits.train), options)?;
        if settings.init == InitialWeights::DataDependent
            && let Some(batch) = some_images(&train, STANDARDISED_ON)?
        {
            standardise(&mut model, batch.images_in(&BufferPool::new()), &lanes)?;
        }
        scale_head(&mut model, &settings);
        let optimizer = Sgd::new(settings.lr)
            .momentum(settings.momentum)
            .nesterov(settings.nesterov)
            .weight_decay(settings.weight_decay);
        let watch = Watch::new(&counts, train.batches_per_epoch() as u64);
        Ok(Self {
            schedule: settings.schedule,
            model: Planned::new(model),
            train,
            test: DataLoader::new(Arc::new(splits.test), test_options)?,
            lanes,
            optimizer: Box::new(optimizer),
            position: Position::default(),
            watch,
            class_map_bias,
            warnings: Vec::new(),
            settings,
        })
    }

    /// The network.
    #[must_use]
    pub fn model(&self) -> &Sequential<f32> {
        self.model.get()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The shape of one image as the network sees it, 1 x C x H x W.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        let [c, h, w] = self.train.image_shape();
        Shape::from([1, c, h, w])
    }

    /// What `images` training images are inside of the network, and the gradients of their loss: see [`Signal`].
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images.
    pub fn inspect(&self, images: usize) -> Result<Signal, TrainError> {
        let Some(batch) = some_images(&self.train, images)? else {
            return Err(TrainError::Config("there are no training images to inspect".to_owned()));
        };
        inspect(&self.model, &batch, &self.lanes, &self.loss(), self.step_settings())
    }

    /// What the random numbers of a step depend on.
    fn step_settings(&self) -> StepSettings {
        StepSettings { seed: self.settings.seed, epoch: self.position.epoch }
    }

    /// The training loss.
    fn loss(&self) -> CrossEntropy {
        CrossEntropy { label_smoothing: self.settings.label_smoothing, weights: None }
    }

    /// Where the run stands.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Begins with the weights of a safetensors file instead of random ones.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] if the file is not one of this network's for the data set's channels and classes.
    pub fn init_from(&mut self, path: &Path) -> Result<(), TrainError> {
        Ok(load_parameters(path, &mut self.model)?)
    }

    /// Goes on from a checkpoint.
    ///
    /// # Errors
    /// [`TrainError::Config`] if its weights are not those of this network, its state is not this optimizer's, or its place in the
    /// epoch cannot be with batches of this size.
    pub fn restore(&mut self, checkpoint: Checkpoint, path: &Path) -> Result<(), TrainError> {
        let refuse = |message: String| {
            let file = path.join("checkpoint.safetensors");
            Err(TrainError::Config(format!("{}: {message}", file.display())))
        };
        let own = parameters(&self.model);
        let (found, expected) = (checkpoint.weights.len(), own.len());
        if found != expected {
            return refuse(format!("a checkpoint of another network: {found} tensors, expected {expected}"));
        }
        for ((name, parameter), (other, tensor)) in own.iter().zip(&checkpoint.weights) {
            let (shape, expected) = (tensor.shape(), parameter.value.shape());
            if name != other || shape != expected {
                return refuse(format!(
                    "a checkpoint of another network: tensor {other} is {shape}, expected {name} of {expected}"
                ));
            }
        }
        let Position { batch, sums, .. } = checkpoint.position;
        if (batch * self.settings.batch_size as u64) != sums.images as u64 {
            return refuse(format!(
                "made with another batch size: {} images in {batch} batches, expected batches of {}",
                sums.images, self.settings.batch_size
            ));
        }
        if let Err(error) = self.optimizer.load_state(&self.model, checkpoint.optimizer) {
            return refuse(error.to_string());
        }
        for ((_, parameter), (_, tensor)) in
            parameters_mut(&mut self.model).into_iter().zip(checkpoint.weights)
        {
            parameter.value = tensor;
        }
        self.position = checkpoint.position;
        Ok(())
    }

    /// Steps of the whole run, if it is not cut short.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.settings.epochs * self.train.batches_per_epoch() as u64
    }

    /// One step: gradients of the batch, clipped, and the optimizer's update. The weights stay as they are if the loss is not a
    /// number. [`Trainer::run`] also moves the position on and writes down what came of it.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the labels.
    pub fn step(&mut self, batch: &Batch) -> Result<Evaluation, TrainError> {
        let sums = self.lanes.step(&self.model, batch, &self.loss(), self.step_settings())?;
        if !sums.loss.is_finite() {
            return Ok(sums);
        }
        let per_epoch = self.train.batches_per_epoch() as u64;
        let warmup = (self.settings.warmup_epochs * per_epoch as f64).round() as u64;
        let scheduler = Scheduler { schedule: self.schedule, steps: self.total_steps(), warmup, per_epoch };
        self.optimizer.set_learning_rate(self.settings.lr * scheduler.factor(self.position.step));
        let limit = self.settings.clip_norm;
        let (model, optimizer, watch) = (&mut self.model, &mut self.optimizer, &mut self.watch);
        let (epoch, step, bias) = (self.position.epoch, self.position.step + 1, self.class_map_bias);
        let warning = self.lanes.gradients(|gradients| {
            let all = Gradients::new(gradients);
            optimizer.step(model, if limit > 0.0 { all.clip_norm(limit) } else { all })?;
            let warning =
                bias.and_then(|bias| watch.class_maps(epoch, step, batch.labels(), &gradients[bias]));
            Ok::<_, TrainError>(warning)
        })?;
        self.warnings.extend(warning);
        Ok(sums)
    }

    /// Loss and accuracy over the test images.
    ///
    /// # Errors
    /// [`TrainError`] if a batch cannot be made.
    pub fn test(&self) -> Result<Evaluation, TrainError> {
        let mut sums = Evaluation::default();
        for batch in self.test.epoch(0) {
            sums.add(self.lanes.evaluate(&self.model, &batch?, &CrossEntropy::default())?);
        }
        Ok(sums)
    }
}

/// At most so many training images, as the first epoch has them first but without random variations.
fn some_images(train: &DataLoader, images: usize) -> Result<Option<Batch>, TrainError> {
    let options = LoaderOptions {
        batch_size: images.min(train.dataset().len()),
        augmentation: Augmentation::default(),
        ..train.options().clone()
    };
    Ok(DataLoader::new(Arc::clone(train.dataset()), options)?.epoch(0).next().transpose()?)
}

/// The network for a data set.
fn network(settings: &Settings, splits: &Splits) -> Result<Sequential<f32>, TrainError> {
    let (train, test) = (&splits.train, &splits.test);
    let of = |set: &LabeledImages| (set.channels(), set.classes());
    if of(train) != of(test) {
        return Err(TrainError::Config(format!(
            "{} does not fit the data: the {} images have {} channels and {} classes, the {} images {} and {}",
            settings.model,
            train.name(),
            train.channels(),
            train.classes(),
            test.name(),
            test.channels(),
            test.classes()
        )));
    }
    if train.classes() < 2 {
        let message = format!("{} has 1 class, a network needs at least 2 to tell apart", train.name());
        return Err(TrainError::Config(message));
    }
    settings.network(train.channels(), train.classes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DatasetInfo;
    use crate::models::{Head, Model};
    use crate::train::Recipe;

    fn set(channels: usize, classes: usize) -> LabeledImages {
        let info = DatasetInfo {
            name: format!("toy of {channels} channels"),
            channels,
            height: 28,
            width: 28,
            class_names: (0..classes).map(|class| class.to_string()).collect(),
        };
        LabeledImages::new(vec![7; 4 * channels * 28 * 28], vec![0; 4], info).unwrap()
    }

    fn trainer(
        model: Model,
        head: Option<Head>,
        train: LabeledImages,
        test: LabeledImages,
    ) -> Result<Trainer, TrainError> {
        let settings = Settings { head, image_size: 28, ..Settings::for_model(Recipe::Default, model) };
        Trainer::new(settings, Splits { train, test }, 1)
    }

    #[test]
    fn data_that_do_not_fit_are_refused() {
        let refused = |train, test| trainer(Model::LeNet, None, train, test).unwrap_err().to_string();
        assert_eq!(
            refused(set(1, 10), set(3, 10)),
            "lenet does not fit the data: the toy of 1 channels images have 1 channels and 10 classes, \
             the toy of 3 channels images 3 and 10"
        );
        assert!(refused(set(1, 10), set(1, 7)).ends_with("the toy of 1 channels images 1 and 7"));
        assert!(refused(set(1, 1), set(1, 1)).contains("has 1 class"));
        trainer(Model::LeNet, None, set(3, 7), set(3, 7)).unwrap();
    }

    #[test]
    fn only_the_convolution_of_the_class_maps_begins_open() {
        let biases = |model, head| {
            let trainer = trainer(model, head, set(1, 10), set(1, 10)).unwrap();
            let ones = parameters(trainer.model()).into_iter();
            let ones = ones.filter(|(_, own)| own.value.data().iter().all(|&value| value == 1.0));
            ones.map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(biases(Model::NinCifar, None), ["6.4.bias"]);
        assert_eq!(biases(Model::NinCifar, Some(Head::Fc)), ["6.4.bias"]);
        assert!(biases(Model::LeNet, None).is_empty());
    }
}
