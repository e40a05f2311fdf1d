//! A run and its single step; the loop over the epochs is in `epochs.rs`.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tensor::{BufferPool, Shape};

use super::error::TrainError;
use super::evaluation::{Metrics, Prediction};
use super::health::{HealthMonitor, Warning};
use super::metrics::EpochMetrics;
use super::run_dir::{Checkpoint, Position};
use super::settings::{About, InitialWeights, Overrides, Settings};
use super::start::{
    are_classes, check_parts, choose_parameters, class_map_bias, images_to_initialize_on, initialize_by_data,
    loaders, network, scale_head, whitening,
};
use super::workers::{StepSettings, Workers};
use crate::card::ModelCard;
use crate::checkpoint::{Fit, load_fitting, replace_values};
use crate::classifier::ClassMaps;
use crate::data::dataset::class_counts;
use crate::data::whiten::{Whiten, Whitening};
use crate::data::{Augmentation, Batch, DataLoader, Dataset, LoaderOptions, Splits};
use crate::loss::{CrossEntropy, Loss};
use crate::nn::{Module, Planned, initialize, parameters};
use crate::optim::{Gradients, Optimizer, Scheduler};

/// The end of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Outcome {
    /// All epochs were trained; the figures of the last.
    Finished(EpochMetrics),
    /// `max_steps` were made, or `max_minutes` have gone by; everything is saved.
    Stopped,
    /// The interrupt flag was raised; everything is saved.
    Interrupted,
}

/// What is done to a network before an epoch, counted from 0.
type EachEpoch = dyn Fn(u64, &mut dyn Module<f32>) + Send + Sync;

/// A run: the network, the data, the loss, the optimizer and where they stand.
///
/// [`Trainer::new`] has all of it from the settings; [`Trainer::of_parts`] takes a network and loaders of one's own, and
/// [`Trainer::with_optimizer`], [`Trainer::with_loss`] and [`Trainer::with_schedule`] put others in the place of the settings'.
///
/// ```
/// use std::sync::{Arc, atomic::AtomicBool};
///
/// use nin::data::{ArrayDataset, DataLoader, LoaderOptions};
/// use nin::loss::Mse;
/// use nin::nn::{Flatten, Linear, Sequential};
/// use nin::optim::AdamW;
/// use nin::train::{Outcome, RunDir, Settings, Trainer};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let folder = place.path().join("run");
/// // Of 64 images of 2 x 2 pixels the first less the last.
/// let pixels: Vec<f32> = (0..64 * 4).map(|i| (i * 37 % 19) as f32 / 9.0 - 1.0).collect();
/// let numbers: Vec<[f32; 1]> = pixels.chunks(4).map(|image| [image[0] - image[3]]).collect();
/// let data = Arc::new(ArrayDataset::new([1, 2, 2], pixels, numbers)?);
/// let test = DataLoader::new(data.clone(), LoaderOptions::default())?;
/// let options = LoaderOptions { batch_size: 16, shuffle: true, ..LoaderOptions::default() };
/// let train = DataLoader::new(data, options)?; // `with_sampler` draws otherwise
///
/// let net = Sequential::new().with(Flatten).with(Linear::new(4, 1)); // or any `Module`
/// let settings = Settings { epochs: 20, patience: 5, ..Settings::default() };
/// let mut trainer =
///     Trainer::of_parts(settings, net, train, test, 2)?.with_optimizer(AdamW::new(0.1))?.with_loss(Mse)?;
/// let mut run = RunDir::create(&folder, &trainer.to_toml())?;
/// let outcome = trainer.run(&mut run, &AtomicBool::new(false), |_| Ok(()))?;
/// assert!(matches!(outcome, Outcome::Finished(epoch) if epoch.test_loss < Some(1e-3)));
/// // Another process goes on with it, if it was stopped, by `RunDir::open` and `Trainer::restore`.
/// # Ok(())
/// # }
/// ```
pub struct Trainer {
    pub(super) settings: Settings,
    pub(super) model: Planned<f32, Box<dyn Module<f32>>>,
    pub(super) train: DataLoader,
    test: DataLoader,
    /// Tells of which images the targets are classes.
    pub(super) classes: Splits<bool>,
    workers: Workers,
    loss: Arc<dyn Loss<f32>>,
    /// The loss that test images are judged by.
    test_loss: Arc<dyn Loss<f32>>,
    pub(super) optimizer: Box<dyn Optimizer>,
    /// The learning rate that the schedule's factors are on.
    rate: f64,
    /// The factor of each step, counted from 0.
    schedule: Box<dyn Fn(u64) -> f64 + Send + Sync>,
    pub(super) position: Position,
    pub(super) health: HealthMonitor,
    /// The number of the class maps' bias among the parameters; `None` where there are none.
    class_map_bias: Option<usize>,
    /// What a program of one's own does to the network before each epoch.
    pub(super) each_epoch: Option<Box<EachEpoch>>,
    /// Warnings of a step that were not reported yet.
    pub(super) warnings: Vec<Warning>,
    /// The card that files of the weights have; `None` of a network of one's own, which no name rebuilds.
    pub(super) card: Option<ModelCard>,
    /// The tensors that fitted, of the file that the run began with.
    fit: Option<Fit>,
    /// The answers of the last test.
    predictions: Vec<Prediction>,
    /// Settings that mean nothing, since the run has parts of one's own in their place.
    replaced: Vec<&'static str>,
}

impl fmt::Debug for Trainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trainer")
            .field("settings", &self.settings)
            .field("model", &self.model)
            .field("optimizer", &self.optimizer)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Trainer {
    /// A run from the beginning, with the network of the settings, and the weights of `init_from` as far as they fit; all others
    /// are new, as `init`, `head_scale` and `head_bias` say. Of a convolution that is by its weight.
    ///
    /// # Errors
    /// [`TrainError`] if a setting cannot work or the network does not fit the data set's images, [`TrainError::File`] if
    /// `init_from` is no file of such a network ([`load_fitting`]).
    pub fn new(
        settings: Settings,
        splits: Splits<Arc<dyn Dataset>>,
        threads: usize,
    ) -> Result<Self, TrainError> {
        let mut own = Self::begun(settings, splits, threads, true)?;
        let new = own.new_weights();
        if own.settings.init == InitialWeights::DataDependent
            && !new.is_empty()
            && let Some(batch) = own.some_images(images_to_initialize_on(own.model(), own.input_shape())?)?
        {
            initialize_by_data(own.model.get_mut(), batch.images_in(&BufferPool::new()), &own.workers, &new)?;
        }
        if own.head_is_new() {
            scale_head(own.model.get_mut(), &own.settings);
        }
        Ok(own)
    }

    /// A run that goes on from the checkpoint in a folder. What images are whitened with is the checkpoint's, too; the file that
    /// the run began with may be gone.
    ///
    /// # Errors
    /// As [`Trainer::new`] and [`Trainer::restore`].
    pub fn resumed(
        settings: Settings,
        splits: Splits<Arc<dyn Dataset>>,
        threads: usize,
        checkpoint: Checkpoint,
        folder: &Path,
    ) -> Result<Self, TrainError> {
        let mut own = Self::begun(settings, splits, threads, false)?;
        own.restore(checkpoint, folder)?;
        Ok(own)
    }

    /// A run without those parts of its start for which the network runs. One that is not new has its weights, and what images
    /// are whitened with, from its checkpoint.
    fn begun(
        settings: Settings,
        splits: Splits<Arc<dyn Dataset>>,
        threads: usize,
        is_new: bool,
    ) -> Result<Self, TrainError> {
        settings.validate()?;
        let workers = Workers::new(threads)?.with_conv(settings.conv);
        let images = settings.split(splits)?;
        let mut model = network(&settings, &*images.train, &*images.test)?;
        let (weights, biases) = settings.init.weights_and_biases();
        initialize(&mut model, weights, biases, settings.seed);
        let init_from = settings.init_from.as_ref().filter(|_| is_new);
        let fit = init_from.map(|file| load_fitting(file, &mut model)).transpose()?;
        let (counts, classes) = (class_counts(&*images.train)?, images.train.class_names().to_vec());
        let whitening = if is_new { workers.install(|| whitening(&settings, &*images.train))? } else { None };
        let loaders = loaders(&settings, images, whitening, &workers)?;
        let mut own = Self::assembled(settings, Box::new(model), loaders, workers)?;
        own.fit = fit;
        own.health = HealthMonitor::new(&counts, own.train.batches_per_epoch() as u64);
        // Before a fully connected layer no map is a class's.
        let maps = ClassMaps::are_made_by(own.model.get(), own.input_shape(), classes.len())?;
        own.class_map_bias = class_map_bias(own.model.get(), &own.settings).filter(|_| maps);
        own.card = Some(own.describe(classes));
        Ok(own)
    }

    /// The tensors of the file `init_from` that the run began with, and those that did not fit; `None` without a file.
    #[must_use]
    pub fn fit(&self) -> Option<&Fit> {
        self.fit.as_ref()
    }

    /// Refuses a flag about initial weights where all that it is about came from `init_from`.
    ///
    /// # Errors
    /// [`TrainError::Config`].
    pub fn check_start(&self, flags: &Overrides) -> Result<(), TrainError> {
        let Some(file) = &self.settings.init_from else { return Ok(()) };
        let some_new = self.fit.as_ref().is_none_or(Fit::leaves_some_new);
        let in_vain = |name: &str| match name {
            "init" => !some_new,
            "head_scale" | "head_bias" => !self.head_is_new(),
            _ => false,
        };
        let Some(name) = flags.names().find(|name| in_vain(name)) else { return Ok(()) };
        let found = format!("{}, which has them", file.display());
        Err(TrainError::setting(name, "new weights that it is about", found))
    }

    /// The identities of the weights of convolutions that are not from a file.
    fn new_weights(&self) -> Vec<u64> {
        let taken = |name: &String| self.fit.as_ref().is_some_and(|fit| fit.taken.contains(name));
        let all = parameters(&self.model).into_iter();
        let new = all.filter(|(name, own)| own.value.shape().len() == 4 && !taken(name));
        new.map(|(_, own)| own.identity).collect()
    }

    /// Tells whether the convolution of the class maps, if there is one, is not from a file.
    fn head_is_new(&self) -> bool {
        let bias = class_map_bias(self.model.get(), &self.settings);
        bias.is_some_and(|bias| self.new_weights().contains(&parameters(&self.model)[bias - 1].1.identity))
    }

    /// The card of the network of the settings.
    pub(super) fn describe(&self, classes: Vec<String>) -> ModelCard {
        let Settings { model, head, recipe, whiten, .. } = self.settings;
        ModelCard {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: model.to_string(),
            head: head.map(|head| head.to_string()),
            image: self.train.image_shape(),
            classes,
            normalization: self.train.options().normalization.clone(),
            whitening: (whiten != Whiten::None).then(|| whiten.to_string()),
            recipe: recipe.to_string(),
            data: None,
            epoch: None,
            test_acc: None,
            judged_by: Some(self.settings.judged_by()),
        }
    }

    /// A run from the beginning with a network and data of one's own: any module, as it is, and loaders of the images to learn
    /// from and of those to be judged by, with whatever sampler, size and variations they have. Those of a test have a fixed
    /// order, as a rule, and are neither varied nor left out.
    ///
    /// The settings that choose a network, its start, its data and their way mean nothing here, and [`Trainer::to_toml`] leaves
    /// them out. One that was set is refused: that is neither as `recipe` has it for `model`, which count for this alone, nor as
    /// the loader of the training images has it. The loaders' seed is theirs, dropout's is that of the settings.
    ///
    /// # Errors
    /// [`TrainError`] if a setting cannot work or means nothing, a loader has no batch, the network does not fit the images of
    /// both, the data cannot be read, a pattern of `freeze` or `lr_of` matches no parameter that learns, `freeze` leaves none,
    /// two parameters have one name, or all weights of several layers are zeros: every gradient of theirs would be, too.
    ///
    /// # Panics
    /// If the network's flow depends on values: it is traced on shapes alone.
    pub fn of_parts(
        settings: Settings,
        model: impl Module<f32> + 'static,
        train: DataLoader,
        test: DataLoader,
        threads: usize,
    ) -> Result<Self, TrainError> {
        settings.validate()?;
        let workers = Workers::new(threads)?.with_conv(settings.conv);
        let settings = settings.with_loader(&train)?;
        let mut own = Self::assembled(settings, Box::new(model), Splits { train, test }, workers)?;
        own.replaced.extend(About::Network.settings());
        Ok(own)
    }

    /// A run of these parts, at its beginning. The settings are valid.
    fn assembled(
        settings: Settings,
        mut model: Box<dyn Module<f32>>,
        loaders: Splits<DataLoader>,
        workers: Workers,
    ) -> Result<Self, TrainError> {
        check_parts(&model, &loaders)?;
        choose_parameters(&settings, &mut model)?;
        let classes = are_classes(&loaders)?;
        let Splits { train, test } = loaders;
        let per_epoch = train.batches_per_epoch() as u64;
        let scheduler = Scheduler {
            schedule: settings.schedule,
            steps: settings.epochs * per_epoch,
            warmup: (settings.warmup_epochs * per_epoch as f64).round() as u64,
            per_epoch,
        };
        Ok(Self {
            model: Planned::new(model),
            classes,
            train,
            test,
            workers,
            loss: Arc::new(CrossEntropy { label_smoothing: settings.label_smoothing, weights: None }),
            test_loss: Arc::new(CrossEntropy::default()),
            optimizer: settings.optimizer.build(&settings),
            rate: settings.lr,
            schedule: Box::new(move |step| scheduler.factor(step)),
            position: Position::default(),
            health: HealthMonitor::new(&[], per_epoch),
            class_map_bias: None,
            each_epoch: None,
            warnings: Vec::new(),
            card: None,
            fit: None,
            predictions: Vec::new(),
            replaced: Vec::new(),
            settings,
        })
    }

    /// The same run with another optimizer, with its groups, in the place of `optimizer`, `lr`, `momentum`, `nesterov`,
    /// `weight_decay` and `lr_of`. The schedule is of factors on its learning rate, and `clip_norm` counts. Before
    /// [`Trainer::restore`], which gives it its state.
    ///
    /// # Errors
    /// [`TrainError::Config`] if one of these settings was set: it would mean nothing.
    pub fn with_optimizer(mut self, optimizer: impl Optimizer + 'static) -> Result<Self, TrainError> {
        self.replace(About::Optimizer)?;
        Ok(Self { rate: optimizer.learning_rate(), optimizer: Box::new(optimizer), ..self })
    }

    /// The same run with another loss, in training and in tests, in the place of cross-entropy with `label_smoothing`.
    ///
    /// # Errors
    /// [`TrainError::Config`] if that was set: it would mean nothing.
    pub fn with_loss(mut self, loss: impl Loss<f32> + 'static) -> Result<Self, TrainError> {
        self.replace(About::Loss)?;
        let loss: Arc<dyn Loss<f32>> = Arc::new(loss);
        Ok(Self { test_loss: Arc::clone(&loss), loss, ..self })
    }

    /// The same run with another schedule in the place of `schedule` and `warmup_epochs`: the factor on the optimizer's learning
    /// rate at each step, counted from 0. It is a function of the step alone, since a run may go on at any.
    ///
    /// # Errors
    /// [`TrainError::Config`] if one of these settings was set: it would mean nothing.
    pub fn with_schedule(
        mut self,
        factor: impl Fn(u64) -> f64 + Send + Sync + 'static,
    ) -> Result<Self, TrainError> {
        self.replace(About::Schedule)?;
        Ok(Self { schedule: Box::new(factor), ..self })
    }

    /// The same run, in which `change` is called with the network before the first step of each epoch, counted from 0: to
    /// [`freeze`](crate::nn::freeze) and [`unfreeze`](crate::nn::unfreeze) while it goes on. Where a run goes on inside of an
    /// epoch it is called again, so that it is to be a function of the epoch alone; what `freeze` of the settings says is how the
    /// first epoch finds the network. The run is this program's: no command goes on with it. It ends with [`TrainError::Config`]
    /// where nothing is left to learn.
    #[must_use]
    pub fn with_each_epoch(
        mut self,
        change: impl Fn(u64, &mut dyn Module<f32>) + Send + Sync + 'static,
    ) -> Self {
        self.replaced.push("model");
        Self { each_epoch: Some(Box::new(change)), ..self }
    }

    /// Does to the network what this program does before an epoch.
    ///
    /// # Errors
    /// [`TrainError::Config`] if nothing is left to learn.
    pub(super) fn change_for(&mut self, epoch: u64) -> Result<(), TrainError> {
        let Some(change) = &self.each_epoch else { return Ok(()) };
        change(epoch, &mut self.model);
        if parameters(&self.model).iter().any(|(_, own)| own.requires_grad) {
            return Ok(());
        }
        let found = format!("none before epoch {}", epoch + 1);
        Err(TrainError::setting("each_epoch", "some parameter that is left to learn", found))
    }

    /// Puts a part of one's own in the place of the settings about it. Without a model no command takes the run for one that it
    /// could rebuild.
    fn replace(&mut self, part: About) -> Result<(), TrainError> {
        self.settings.refuse_set(part, None)?;
        self.replaced.extend(part.settings());
        self.replaced.push("model");
        Ok(())
    }

    /// The settings that count in this run, as TOML: what its `config.toml` is to have
    /// ([`RunDir::create`](super::RunDir::create)). Those are left out in whose place are parts of one's own, which a program has
    /// and no file; with any such part the model is, too, so that commands refuse to go on with the run.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.settings.to_toml_without(&self.replaced)
    }

    /// The network.
    #[must_use]
    pub fn model(&self) -> &dyn Module<f32> {
        self.model.get()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The number of images that are learned from, and of those that are judged by.
    #[must_use]
    pub fn image_counts(&self) -> [usize; 2] {
        [&self.train, &self.test].map(|loader| loader.dataset().len())
    }

    /// The shape of one image as the network sees it, 1 x C x H x W.
    #[must_use]
    pub fn input_shape(&self) -> Shape {
        let [c, h, w] = self.train.image_shape();
        Shape::from([1, c, h, w])
    }

    /// Class maps that are dead. A checkpoint of an earlier version may count some that are no classes'.
    pub(super) fn dead_maps(&self) -> usize {
        self.watched_bias().map_or(0, |_| self.health.dead())
    }

    /// The bias of the class maps if it learns: of a frozen one there is no gradient to look at.
    fn watched_bias(&self) -> Option<usize> {
        self.class_map_bias.filter(|&bias| parameters(&self.model)[bias].1.requires_grad)
    }

    /// At most so many training images, as the first epoch has them first but without random variations; `None` if there are
    /// none.
    ///
    /// # Errors
    /// [`TrainError`] if they cannot be read.
    pub fn some_images(&self, images: usize) -> Result<Option<Batch>, TrainError> {
        let options = LoaderOptions {
            batch_size: images.min(self.train.dataset().len()),
            augmentation: Augmentation::default(),
            drop_last: false,
            ..self.train.options().clone()
        };
        Ok(self.train.with_options(options)?.epoch(0).next().transpose()?)
    }

    /// The place at which the run stands.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Goes on from a checkpoint. What images are whitened with is the checkpoint's, too, where the settings made the loaders;
    /// those of one's own stay as they are.
    ///
    /// # Errors
    /// [`TrainError::Config`] if its weights are not those of this network, its state is not this optimizer's, its place in the
    /// epoch cannot be with batches of this size and as many training images, or a loader of one's own whitens the training
    /// images otherwise.
    pub fn restore(&mut self, checkpoint: Checkpoint, path: &Path) -> Result<(), TrainError> {
        let file = path.join("checkpoint.safetensors");
        let refuse = |message: String| Err(TrainError::of(&file, message));
        let own = parameters(&self.model);
        let (found, expected) = (checkpoint.weights.len(), own.len());
        if found != expected {
            return refuse(format!("a checkpoint of another network: {found} tensors, expected {expected}"));
        }
        if let Some(difference) = Fit::of(&own, &checkpoint.weights).difference() {
            return refuse(format!("a checkpoint of another network: {difference}"));
        }
        let Position { step, epoch, batch, sums, .. } = checkpoint.position;
        let batch_size = self.train.options().batch_size;
        if batch.checked_mul(batch_size as u64) != Some(sums.images as u64) {
            return refuse(format!(
                "made with another batch size: {} images in {batch} batches, expected batches of {batch_size}",
                sums.images
            ));
        }
        let images = self.train.samples_per_epoch();
        if sums.images > images {
            return refuse(format!(
                "made with more training images: {} in {batch} batches, expected at most {images}",
                sums.images
            ));
        }
        let per_epoch = self.train.batches_per_epoch() as u64;
        let expected = epoch.checked_mul(per_epoch).and_then(|steps| steps.checked_add(batch));
        if expected != Some(step) {
            return refuse(format!(
                "made with another number of training images: {step} steps after {epoch} epochs and {batch} batches, expected \
                 {per_epoch} an epoch"
            ));
        }
        let shape = self.train.dataset().image_shape();
        let whitening = match Whitening::of_tensors(self.settings.whiten, shape, checkpoint.whitening) {
            Ok(whitening) => whitening.map(Arc::new),
            Err(reason) => return refuse(reason),
        };
        let loaders = if self.card.is_some() {
            let whitened = |loader: &DataLoader| {
                let options = loader.options().clone();
                loader.with_options(LoaderOptions { whitening: whitening.clone(), ..options })
            };
            Some((whitened(&self.train)?, whitened(&self.test)?))
        } else if whitening == self.train.options().whitening {
            None
        } else {
            let kind = self.settings.whiten;
            return refuse(format!(
                "made with a {kind} of other images, expected that of the training images' loader"
            ));
        };
        // What changes something comes when all else is well.
        if checkpoint.health.is_some_and(|counts| !self.health.restore(counts)) {
            return refuse("made with other classes: its counts of class maps do not fit".to_owned());
        }
        if let Err(error) = self.optimizer.load_state(&self.model, checkpoint.optimizer) {
            return refuse(error.to_string());
        }
        replace_values(&mut self.model, checkpoint.weights);
        if let Some((train, test)) = loaders {
            (self.train, self.test) = (train, test);
        }
        self.position = checkpoint.position;
        Ok(())
    }

    /// The learning rate of a step of the run, counted from 0.
    pub(super) fn rate_of_step(&self, step: u64) -> f64 {
        self.rate * (self.schedule)(step)
    }

    /// One step: gradients of the batch, clipped, and the optimizer's update. The weights stay as they are if the loss is not a
    /// number. [`Trainer::run`] also moves the position on and writes down what came of it.
    ///
    /// # Errors
    /// [`TrainError`] if the network does not fit the images or the labels.
    ///
    /// # Panics
    /// As [`Workers::step`].
    pub fn step(&mut self, batch: &Batch) -> Result<Metrics, TrainError> {
        let settings = StepSettings { seed: self.settings.seed, epoch: self.position.epoch };
        let sums = self.workers.step(&self.model, batch, &*self.loss, settings)?;
        if !sums.loss.is_finite() {
            return Ok(sums);
        }
        self.optimizer.set_learning_rate(self.rate_of_step(self.position.step));
        let (limit, bias) = (self.settings.clip_norm, self.watched_bias());
        let (model, optimizer, health) = (&mut self.model, &mut self.optimizer, &mut self.health);
        let (epoch, step) = (self.position.epoch, self.position.step + 1);
        let warning = self.workers.gradients(|gradients| {
            let all = Gradients::new(gradients);
            optimizer.step(model, if limit > 0.0 { all.clip_norm(limit) } else { all })?;
            let warning =
                bias.and_then(|bias| health.class_maps(epoch, step, batch.labels(), &gradients[bias]));
            Ok::<_, TrainError>(warning)
        })?;
        self.warnings.extend(warning);
        Ok(sums)
    }

    /// The images that the run is judged by: the test images, or those that were held out.
    #[must_use]
    pub fn judged_by(&self) -> &Arc<dyn Dataset> {
        self.test.dataset()
    }

    /// The answers of the last [`Trainer::test`], in the order of the test loader, which need not be that of
    /// [`Trainer::judged_by`]; none before the first.
    #[must_use]
    pub fn predictions(&self) -> &[Prediction] {
        &self.predictions
    }

    /// Loss and accuracy over the test images.
    ///
    /// # Errors
    /// [`TrainError`] if a batch cannot be made, or the network or the loss does not fit it.
    ///
    /// # Panics
    /// As [`Workers::evaluate`].
    pub fn test(&mut self) -> Result<Metrics, TrainError> {
        let mut sums = Metrics::default();
        self.predictions.clear();
        for batch in self.test.epoch(0) {
            let (own, predictions) = self.workers.judge(&self.model, &batch?, &*self.test_loss)?;
            sums.add(own);
            self.predictions.extend(predictions);
        }
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tensor::Tensor;
    use tensor::init::Init;

    use super::*;
    use crate::Classifier;
    use crate::checkpoint::{load_tensors, save_parameters, save_tensors};
    use crate::data::sampler::WeightedRandomSampler;
    use crate::data::{ArrayDataset, Normalization, Picture, Whiten};
    use crate::loss::Mse;
    use crate::models::{Head, Model};
    use crate::nn::{Flatten, Linear, Sequential, freeze, unfreeze};
    use crate::optim::AdamW;
    use crate::testing::{self, images, linear, loader, place};
    use crate::train::{Event, Recipe, RunDir, Score};

    /// A number for each of 24 images of 2 x 2 pixels.
    fn numbers() -> ArrayDataset {
        let pixels = testing::numbers(24 * 4);
        let sums: Vec<[f32; 1]> = pixels.chunks(4).map(|image| [3.0 * image[0] - image[3]]).collect();
        ArrayDataset::new([1, 2, 2], pixels, sums).unwrap()
    }

    fn set(channels: usize, classes: usize) -> ArrayDataset {
        let (name, pixels) = (format!("toy of {channels} channels"), vec![7u8; 4 * channels * 28 * 28]);
        let names = vec!["a class"; classes];
        ArrayDataset::named(&name, &names, [channels, 28, 28], pixels, vec![0usize; 4]).unwrap()
    }

    fn trainer(
        model: Model,
        head: Option<Head>,
        train: ArrayDataset,
        test: ArrayDataset,
    ) -> Result<Trainer, TrainError> {
        let settings = Settings { head, image_size: 28, ..Settings::for_model(Recipe::Default, model) };
        Trainer::new(settings, Splits { train, test }.into(), 1)
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
        assert!(refused(set(1, 1), set(1, 1)).contains("has 1 named class, a network needs"));
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

    /// From ten classes to three, and from global average pooling to a fully connected head.
    #[test]
    fn a_run_begins_with_what_fits_of_a_file() {
        let (_folder, file) = place("model.safetensors");
        let start = |classes, head, from: Option<&Path>| {
            let settings = Settings {
                head,
                image_size: 12,
                init_from: from.map(Path::to_path_buf),
                ..Settings::for_model(Recipe::Default, Model::NinCifar)
            };
            Trainer::new(settings, Splits { train: set(1, classes), test: set(1, classes) }.into(), 1)
                .unwrap()
        };
        let first = start(10, None, None);
        save_parameters(&file, first.model()).unwrap();
        let begun = |classes, head| {
            let trainer = start(classes, head, Some(&file));
            let all = parameters(trainer.model()).into_iter().zip(parameters(first.model()));
            let kept =
                all.filter(|((name, own), (other, before))| name == other && own.value == before.value);
            assert_eq!(
                kept.map(|((name, _), _)| name).collect::<Vec<_>>(),
                trainer.fit().unwrap().taken,
                "what is taken is as in the file"
            );
            trainer
        };
        let names =
            |values: &[(String, Shape)]| values.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        let refused =
            |trainer: &Trainer, flags: Overrides| trainer.check_start(&flags).map_err(|e| e.to_string());
        let (init, maps) = (
            || Overrides { init: Some(InitialWeights::He), ..Overrides::default() },
            || Overrides { head_bias: Some(1.0), ..Overrides::default() },
        );

        let three = begun(3, None);
        let fit = three.fit().unwrap();
        assert_eq!((fit.taken.len(), fit.mismatched.len(), fit.missing.len()), (16, 2, 0), "{fit}");
        // The head begins as a new one does.
        let bias = &parameters(three.model())[17];
        assert_eq!((bias.0.as_str(), bias.1.value.data()), ("6.4.bias", &[1.0; 3][..]));
        assert_eq!((refused(&three, init()), refused(&three, maps())), (Ok(()), Ok(())));

        let connected = begun(10, Some(Head::Fc));
        let fit = connected.fit().unwrap();
        assert_eq!(names(&fit.missing), ["8.weight", "8.bias"]);
        assert!(parameters(connected.model())[18].1.value.data().iter().any(|&weight| weight != 0.0));
        assert_eq!(refused(&connected, init()), Ok(()));
        let expected = "head_bias: expected new weights that it is about, found ";
        assert!(refused(&connected, maps()).unwrap_err().starts_with(expected), "its class maps are not new");

        let same = begun(10, None);
        assert_eq!(same.fit().unwrap().difference(), None);
        assert!(refused(&same, init()).is_err() && refused(&same, maps()).is_err());
        assert_eq!(refused(&first, init()), Ok(()));
    }

    /// Both by patterns of names: bits that stay, and a tenth of the rate that is the step of a tenth of the rate.
    #[test]
    fn parameters_are_frozen_and_have_rates_by_their_names() {
        let data = || {
            let pixels: Vec<u8> = (0..4 * 28 * 28).map(|i| (i * 7919 % 251) as u8).collect();
            ArrayDataset::named("noise", &["a class"; 10], [1, 28, 28], pixels, vec![3usize, 1, 4, 9])
                .unwrap()
        };
        let start = |change: &dyn Fn(&mut Settings)| {
            let settings = Settings {
                image_size: 12,
                batch_size: 4,
                ..Settings::for_model(Recipe::Default, Model::NinCifar)
            };
            let mut settings = Settings { lr: 0.5, warmup_epochs: 0.0, clip_norm: 0.0, ..settings };
            change(&mut settings);
            Trainer::new(settings, Splits { train: data(), test: data() }.into(), 2)
        };
        let stepped = |change: &dyn Fn(&mut Settings)| {
            let mut trainer = start(change).unwrap();
            let batch = trainer.some_images(4).unwrap().unwrap();
            for _ in 0..2 {
                trainer.step(&batch).unwrap();
            }
            let all = parameters(trainer.model()).into_iter();
            all.map(|(name, own)| (name, own.value.clone())).collect::<Vec<_>>()
        };
        let set_lr_of = |s: &mut Settings, text: &str| s.lr_of = Some(text.parse().unwrap());
        let set_freeze = |s: &mut Settings, text: &str| s.freeze = Some(text.parse().unwrap());
        let first: Vec<_> = parameters(start(&|_| ()).unwrap().model())
            .into_iter()
            .map(|(_, own)| own.value.clone())
            .collect();
        let (whole, tenth) = (stepped(&|_| ()), stepped(&|s| set_lr_of(s, "*=0.1")));
        assert_eq!(tenth, stepped(&|s| s.lr = 0.05));
        assert_ne!(tenth, whole);
        let frozen = stepped(&|s| set_freeze(s, "0.*,3.2.weight"));
        let mut stay = Vec::new();
        for ((name, value), first) in frozen.iter().zip(&first) {
            if value == first {
                stay.push(name.as_str());
            }
        }
        assert_eq!(
            stay,
            ["0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias", "0.4.weight", "0.4.bias", "3.2.weight"]
        );

        let refused = |change: &dyn Fn(&mut Settings)| start(change).unwrap_err().to_string();
        let expected = "no parameter that learns matches \"9.*\"; there are: 0.0.weight, 0.0.bias, 0.2.weight, 0.2.bias, 0.4.weight, \
                        0.4.bias, 3.0.weight, 3.0.bias and 10 more";
        assert_eq!(refused(&|s| set_freeze(s, "0.*,9.*")), format!("freeze: {expected}"));
        assert_eq!(refused(&|s| set_lr_of(s, "0.*=2,9.*=2")), format!("lr_of: {expected}"));
        let hidden = "lr_of: all that matches \"0.0.*\" belongs to a pattern before it already";
        assert_eq!(refused(&|s| set_lr_of(s, "0.*=2,0.0.*=3")), hidden);
        let frozen = refused(&|s| (set_freeze(s, "0.*"), set_lr_of(s, "0.*=2")).0);
        assert!(
            frozen.starts_with("lr_of: no parameter that learns matches \"0.*\"; there are: 3.0.weight, "),
            "{frozen}"
        );
        assert_eq!(
            refused(&|s| set_freeze(s, "*.weight,*.bias")),
            "freeze: expected some parameter that is left to learn, found *.weight,*.bias"
        );
        // What is dead or not of class maps that do not learn is not reported.
        assert_eq!(start(&|s| set_freeze(s, "6.*")).unwrap().watched_bias(), None);
        let watched = |head| start(&|s| s.head = head).unwrap().watched_bias().is_some();
        assert_eq!([None, Some(Head::Gap), Some(Head::Fc)].map(watched), [true, true, false]);
    }

    #[test]
    fn a_network_of_zeros_is_refused_where_it_could_not_learn() {
        let data = images([1, 2, 2], [0, 1, 0, 1]);
        let trainer = |net: Sequential<f32>| {
            let (train, test) = (loader(&data, 2), loader(&data, 4));
            Trainer::of_parts(Settings::of(Recipe::Chapter), net, train, test, 1).map(drop)
        };
        let net = Sequential::new().with(Flatten).with(Linear::new(4, 2));
        assert!(trainer(net).is_ok(), "one layer learns from zeros, too");
        let layers = || Sequential::new().with(Flatten).with(Linear::new(4, 3)).with(Linear::new(3, 2));
        let error = trainer(layers()).unwrap_err().to_string();
        assert!(error.contains("all weights are zeros"), "{error}");
        let mut net = layers();
        initialize(&mut net, Init::HeNormal, Init::Constant(0.0), 1);
        assert!(trainer(net).is_ok());
    }

    /// Both before the first step, not after an epoch.
    #[test]
    fn loaders_that_do_not_fit_the_network_are_refused() {
        let begun = |train: ArrayDataset, test: ArrayDataset| {
            let (train, test) = (loader(&train, 2), loader(&test, 4));
            Trainer::of_parts(Settings::of(Recipe::Chapter), linear(4, 2), train, test, 1)
        };
        let images = |side| images([1, side, side], [0, 1, 0, 1]);
        for (train, test, which) in
            [(2, 3, "(test images of 1 x 3 x 3)"), (3, 2, "(training images of 1 x 3 x 3)")]
        {
            let error = begun(images(train), images(test)).map(drop).unwrap_err();
            assert!(matches!(error, TrainError::Shape(_)) && error.to_string().ends_with(which), "{error}");
        }
        let Splits { train, test } = begun(numbers(), images(2)).unwrap().classes;
        assert!(!train && test, "what learns from probabilities may be judged by classes");
    }

    /// A run over these images, two to a batch.
    fn of_images(count: usize, drop_last: bool) -> Trainer {
        let data = images([1, 2, 2], (0..count).map(|i| i % 2));
        let settings = Settings { epochs: 2, ..Settings::of(Recipe::Chapter) };
        let train = loader(&data, 2);
        let train = train.with_options(LoaderOptions { drop_last, ..train.options().clone() }).unwrap();
        Trainer::of_parts(settings, linear(4, 2), train, loader(&data, 2), 1).unwrap()
    }

    /// Trains to the end.
    fn run(mut trainer: Trainer, mut dir: RunDir) -> Trainer {
        trainer.run(&mut dir, &AtomicBool::new(false), |_| Ok(())).unwrap();
        trainer
    }

    fn create(path: &Path) -> RunDir {
        RunDir::create(path, "").unwrap()
    }

    #[test]
    fn a_run_does_not_go_on_with_fewer_images_than_it_has_seen() {
        let (_folder, path) = place("run");
        let mut trainer = of_images(8, false);
        trainer.settings.max_steps = Some(3);
        run(trainer, create(&path));
        let resumed = |images, drop_last| {
            let checkpoint = RunDir::open(&path).unwrap().1;
            of_images(images, drop_last).restore(checkpoint, &path)
        };
        resumed(6, true).unwrap();
        for (images, drop_last, left) in [(5, false, 5), (5, true, 4)] {
            let error = resumed(images, drop_last).unwrap_err().to_string();
            let expected = format!("made with more training images: 6 in 3 batches, expected at most {left}");
            assert!(error.ends_with(&expected), "{error}");
        }
    }

    /// A bar that counts what is left out would never be full.
    #[test]
    fn an_epoch_has_the_images_of_its_steps() {
        for (drop_last, images) in [(false, 7), (true, 6)] {
            let ((_folder, path), mut told) = (place("run"), [Vec::new(), Vec::new(), Vec::new()]);
            let report = |event: Event<'_>| {
                match event {
                    Event::EpochStarted { images, .. } => told[0].push(images),
                    Event::Stepped { images, rest, .. } => {
                        told[1].push(images);
                        told[2].push(rest);
                    }
                    _ => {}
                }
                Ok(())
            };
            of_images(7, drop_last).run(&mut create(&path), &AtomicBool::new(false), report).unwrap();
            let [started, stepped, rest] = told;
            assert_eq!(started, [images; 2], "drop_last {drop_last}");
            assert_eq!(stepped.iter().sum::<u64>(), 2 * images);
            assert_eq!((rest[0], rest.last()), (images, Some(&0)));
        }
    }

    /// Resumed with other training images, to which another whitening would fit, to see that none is fitted again.
    #[test]
    fn what_images_are_whitened_with_is_the_files() {
        let pixels = |salt: usize| {
            (0..12 * 784).map(|i| (i * i * 31 / 7 % (salt + i / 784)) as u8).collect::<Vec<_>>()
        };
        let set = |salt| {
            let labels: Vec<usize> = (0..12).map(|i| i % 3).collect();
            ArrayDataset::named("toy", &["a", "b", "c"], [1, 28, 28], pixels(salt), labels).unwrap()
        };
        let splits = |train, test| Splits { train: set(train), test: set(test) }.into();
        let settings = |max_steps| Settings {
            whiten: Whiten::GcnZca,
            normalize: false,
            batch_size: 4,
            epochs: 2,
            max_steps,
            ..Settings::for_model(Recipe::Default, Model::LeNet)
        };
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let start = |name: &str, max_steps| {
            let trainer = Trainer::new(settings(max_steps), splits(201, 251), 2).unwrap();
            run(trainer, create(&path(name)))
        };
        let whole = start("whole", None);
        drop(start("parts", Some(4)));
        let resumed = |settings, train| {
            let (dir, checkpoint) = RunDir::open(&path("parts")).unwrap();
            Trainer::resumed(settings, splits(train, 251), 2, checkpoint, &path("parts"))
                .map(|own| (own, dir))
        };
        let options = |trainer: &Trainer| trainer.train.options().whitening.clone().unwrap();
        let (other, dir) = resumed(settings(None), 97).unwrap();
        assert_eq!(options(&other), options(&whole));
        assert_ne!(options(&whole), Whitening::fit(Whiten::GcnZca, &set(97)).unwrap().map(Arc::new).unwrap());
        drop(dir);
        let (trainer, dir) = resumed(settings(None), 201).unwrap();
        run(trainer, dir);
        let file = |name: &str| path(name).join("model.safetensors");
        let bytes = |name: &str| std::fs::read(file(name)).unwrap();
        assert!(bytes("whole") == bytes("parts"));
        let plain =
            resumed(Settings { whiten: Whiten::None, ..settings(None) }, 201).unwrap_err().to_string();
        assert!(plain.ends_with("a tensor whitening.matrix, which none has not"), "{plain}");

        // The file alone gives the run's logits.
        let (batch, classifier) =
            (whole.test.epoch(0).next().unwrap().unwrap(), Classifier::load(&file("whole")).unwrap());
        let pictures: Vec<_> =
            pixels(251).chunks(784).map(|image| Picture::new([1, 28, 28], image.to_vec()).unwrap()).collect();
        let images = classifier.tensor(&pictures).unwrap();
        let logits = whole.workers.predict(classifier.network(), &images).unwrap();
        assert_eq!(logits, whole.workers.predict_batch(&whole.model, &batch).unwrap());
        // And a run that begins with it has it.
        let begun = Settings { init_from: Some(file("whole")), ..settings(None) };
        assert_eq!(options(&Trainer::new(begun.clone(), splits(97, 251), 1).unwrap()), options(&whole));
        let plain = Settings { whiten: Whiten::None, ..begun };
        let error = Trainer::new(plain, splits(97, 251), 1).unwrap_err().to_string();
        assert!(error.starts_with("whiten: expected gcn-zca, as the weights of "), "{error}");

        let (mut tensors, text) = load_tensors(&file("whole")).unwrap();
        tensors.remove("whitening.mean");
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        save_tensors(&file("whole"), &tensors, text).unwrap();
        let error = Classifier::load(&file("whole")).unwrap_err().to_string();
        assert!(error.ends_with("model.safetensors: no tensor whitening.mean, as gcn-zca has"), "{error}");
        let small = Settings { image_size: 20, ..settings(None) };
        let error = Trainer::new(small, splits(201, 251), 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "image_size: expected 28 x 28, the images' own size, at which they are whitened, found 20"
        );
    }

    /// A regression by AdamW on arrays: what no setting can say. Stopped and resumed, it ends in the same weights.
    #[test]
    fn a_run_of_parts_of_ones_own() {
        let start = |max_steps| {
            let settings = Settings { epochs: 20, max_steps, ..Settings::of(Recipe::Chapter) };
            // Twice as many samples as there are, and not as the set has them.
            let draws = WeightedRandomSampler::new(&[1.0; 24], 48, 5).unwrap();
            let (train, test) = (loader(&numbers(), 8).with_sampler(draws), loader(&numbers(), 24));
            let trainer = Trainer::of_parts(settings, linear(4, 1), train, test, 2).unwrap();
            let trainer = trainer.with_optimizer(AdamW::new(0.1)).unwrap().with_loss(Mse).unwrap();
            trainer.with_schedule(|step| if step < 60 { 1.0 } else { 0.1 }).unwrap()
        };
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| create(&folder.path().join(name));
        let before = start(None).test().unwrap();
        let mut whole = run(start(None), create("whole"));
        let after = whole.test().unwrap();
        assert!(after.mean_loss() < 0.05 * before.mean_loss(), "{before:?}, {after:?}");
        run(start(Some(25)), create("parts"));
        let rates = [0, 59, 60].map(|step| whole.rate_of_step(step));
        assert!(rates == [0.1, 0.1, 0.1 * 0.1], "{rates:?}");
        assert_eq!(whole.position().step, 120);
        let path = folder.path().join("parts");
        let (dir, checkpoint) = RunDir::open(&path).unwrap();
        let mut resumed = start(None);
        resumed.restore(checkpoint, &path).unwrap();
        assert_eq!(resumed.position().step, 25);
        let resumed = run(resumed, dir);
        for ((name, own), (_, other)) in parameters(whole.model()).iter().zip(parameters(resumed.model())) {
            assert_eq!(own.value, other.value, "{name}");
        }
    }

    /// The fully connected layer learns in the second epoch of three alone, however often the run is stopped.
    #[test]
    fn parameters_freeze_and_learn_from_epoch_to_epoch() {
        let start = |max_steps| {
            let settings = Settings { epochs: 3, max_steps, ..Settings::of(Recipe::Chapter) };
            let mut net = Sequential::new().with(Flatten).with(Linear::new(4, 3)).with(Linear::new(3, 1));
            initialize(&mut net, Init::HeNormal, Init::Constant(0.3), 1);
            let (train, test) = (loader(&numbers(), 8), loader(&numbers(), 24));
            let trainer = Trainer::of_parts(settings, net, train, test, 2).unwrap();
            let trainer = trainer.with_optimizer(AdamW::new(0.01)).unwrap().with_loss(Mse).unwrap();
            trainer.with_each_epoch(|epoch, net| {
                let count = if epoch == 1 { unfreeze(net, "1.*") } else { freeze(net, "1.*") };
                assert_eq!(count, 2);
            })
        };
        let folder = tempfile::tempdir().unwrap();
        let create = |name: &str| create(&folder.path().join(name));
        let values = |trainer: &Trainer| {
            let all = parameters(trainer.model()).into_iter();
            all.map(|(_, own)| own.value.clone()).collect::<Vec<_>>()
        };
        let begin = values(&start(None));
        // Epochs have three steps.
        let [first, second, third] =
            [Some(3), Some(6), None].map(|steps| values(&run(start(steps), create(&format!("{steps:?}")))));
        assert!(first[..2] == begin[..2] && first[2..] != begin[2..]);
        assert!(second[0] != first[0] && second[1] != first[1] && second[2..] != first[2..]);
        assert!(third[..2] == second[..2] && third[2..] != second[2..]);
        for steps in [2, 4, 8] {
            let name = format!("parts of {steps}");
            run(start(Some(steps)), create(&name));
            let path = folder.path().join(name);
            let (dir, checkpoint) = RunDir::open(&path).unwrap();
            let mut resumed = start(None);
            resumed.restore(checkpoint, &path).unwrap();
            assert_eq!(values(&run(resumed, dir)), third, "{steps}");
        }

        let mut all = start(None).with_each_epoch(|_, net| {
            freeze(net, "*");
        });
        assert!(!all.to_toml().contains("model"));
        let error = all.run(&mut create("all"), &AtomicBool::new(false), |_| Ok(())).unwrap_err().to_string();
        assert_eq!(
            error,
            "each_epoch: expected some parameter that is left to learn, found none before epoch 1"
        );
    }

    /// As `docs/from-pytorch.md` adds them up: copies of what the workers lend stay as they are.
    #[test]
    fn gradients_of_several_batches_add_up_to_those_of_one() {
        let (net, mut workers) = (linear(4, 1), Workers::new(2).unwrap());
        let mut mean = |batch_size| {
            let mut sums: Vec<Tensor<f32>> = Vec::new();
            for batch in loader(&numbers(), batch_size).epoch(0) {
                workers.step(&net, &batch.unwrap(), &Mse, StepSettings::default()).unwrap();
                workers.gradients(|gradients| {
                    if sums.is_empty() {
                        return sums.extend_from_slice(gradients);
                    }
                    for (sum, gradient) in sums.iter_mut().zip(gradients) {
                        sum.data_mut().iter_mut().zip(gradient.data()).for_each(|(sum, more)| *sum += more);
                    }
                });
            }
            let of = batch_size as f32 / 24.0;
            sums.iter().flat_map(Tensor::data).map(|sum| sum * of).collect::<Vec<f32>>()
        };
        let (whole, parts) = (mean(24), mean(8));
        assert!(whole.iter().any(|gradient| gradient.abs() > 0.1), "{whole:?}");
        assert!(whole.iter().zip(&parts).all(|(a, b)| (a - b).abs() < 1e-5), "{whole:?}, {parts:?}");
    }

    /// A whitening belongs to its loader: the training images have one here, the test images have none or a normalization.
    #[test]
    fn loaders_of_ones_own_stay_as_they_are_when_a_run_goes_on() {
        let noise = |salt: usize| {
            let pixels: Vec<u8> = (0..24 * 16).map(|i| (i * i * 31 / 7 % (salt + i / 16)) as u8).collect();
            ArrayDataset::new([1, 4, 4], pixels, (0..24).map(|i| i % 3).collect::<Vec<_>>()).unwrap()
        };
        let with = |data: &ArrayDataset, kind, normalize: bool| {
            let options = LoaderOptions {
                batch_size: 8,
                whitening: Whitening::fit(kind, data).unwrap().map(Arc::new),
                normalization: normalize.then(|| Normalization::of(data).unwrap()),
                ..LoaderOptions::default()
            };
            DataLoader::new(Arc::new(data.clone()), options).unwrap()
        };
        let start = |kind, salt, normalize| {
            let settings = Settings { max_steps: Some(2), ..Settings::of(Recipe::Chapter) };
            let (train, test) = (with(&noise(salt), kind, false), with(&noise(251), Whiten::None, normalize));
            Trainer::of_parts(settings, linear(16, 3), train, test, 1).unwrap()
        };
        for (kind, normalize) in [(Whiten::Gcn, false), (Whiten::Gcn, true), (Whiten::GcnZca, true)] {
            let (_folder, path) = place("run");
            let mut trainer = run(start(kind, 201, normalize), create(&path));
            let resumed = |kind, salt| {
                let mut trainer = start(kind, salt, normalize);
                trainer.restore(RunDir::open(&path).unwrap().1, &path).map(|()| trainer)
            };
            assert_eq!(resumed(kind, 201).unwrap().test().unwrap(), trainer.test().unwrap(), "{kind}");
            if kind == Whiten::GcnZca {
                let refused = |kind, salt| resumed(kind, salt).map(drop).unwrap_err().to_string();
                let found = refused(kind, 97);
                assert!(
                    found.ends_with(
                        "made with a gcn-zca of other images, expected that of the training images' loader"
                    ),
                    "{found}"
                );
                let found = refused(Whiten::None, 201);
                assert!(found.ends_with("a tensor whitening.matrix, which none has not"), "{found}");
            }
        }
    }

    /// Nothing is right or wrong of dense targets: their best epoch is that of the lowest test loss, and no accuracy is reported.
    #[test]
    fn epochs_without_classes_are_ranked_by_loss() {
        let begun = |later| {
            let settings = Settings { epochs: 6, patience: 2, ..Settings::of(Recipe::Chapter) };
            let (train, test) = (loader(&numbers(), 8), loader(&numbers(), 24));
            let trainer = Trainer::of_parts(settings, linear(4, 1), train, test, 1).unwrap();
            let trainer = trainer.with_optimizer(AdamW::new(0.1)).unwrap();
            let trainer = trainer.with_schedule(move |step| if step < 6 { 1.0 } else { later }).unwrap();
            let (_folder, path) = place("run");
            let trainer = run(trainer.with_loss(Mse).unwrap(), create(&path));
            let (_, checkpoint) = RunDir::open(&path).unwrap();
            assert_eq!(checkpoint.position, Position { seconds: 0.0, waited: 0.0, ..*trainer.position() });
            let text = std::fs::read_to_string(path.join("metrics.jsonl")).unwrap();
            assert!(!text.contains("acc"), "{text}");
            let losses: Vec<f64> =
                RunDir::read_epochs(&path).unwrap().iter().map(|epoch| epoch.test_loss.unwrap()).collect();
            (losses, trainer.position().best.unwrap())
        };
        let (losses, best) = begun(1.0);
        assert!(losses.is_sorted_by(|before, after| before > after), "{losses:?}");
        assert_eq!((losses.len(), best.epoch), (6, 6));
        let (losses, best) = begun(1000.0);
        let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert!(
            losses.len() == 4 && losses[1] == lowest,
            "it becomes worse, and patience ends it: {losses:?}"
        );
        assert_eq!(best.epoch, 2);
        assert!(matches!(best.score, Score::Loss(loss) if (loss - lowest).abs() < 1e-12), "{best:?}");
    }

    /// No setting that was set is silently nothing.
    #[test]
    fn settings_in_the_place_of_which_are_parts_are_refused_and_left_out() {
        let start = |change: &dyn Fn(&mut Settings)| {
            let mut settings = Settings::of(Recipe::Chapter);
            change(&mut settings);
            let (train, test) = (loader(&numbers(), 8), loader(&numbers(), 24));
            Trainer::of_parts(settings, linear(4, 1), train, test, 1)
        };
        let refused = |change: &dyn Fn(&mut Settings)| start(change).map(drop).unwrap_err().to_string();
        let beside = "as recipe chapter has it, beside a network and loaders of one's own";
        let found = refused(&|s| s.init_from = Some("a.safetensors".into()));
        assert_eq!(found, format!("init_from: expected none, {beside}, found \"a.safetensors\""));
        assert_eq!(
            refused(&|s| s.hold_out = crate::data::HoldOut::Last(3)),
            format!("hold_out: expected 0, {beside}, found 3")
        );
        let beside = "as the loader has it, beside a network and loaders of one's own";
        for (found, expected) in [
            (refused(&|s| s.batch_size = 9), "batch_size: expected 128, as recipe chapter has it, or 8"),
            (refused(&|s| s.image_size = 9), "image_size: expected 224, as recipe chapter has it, or 2"),
        ] {
            assert_eq!(found, format!("{expected}, {beside}, found 9"));
        }
        // What the others are compared with.
        let own = start(&|s| *s = Settings::for_model(Recipe::Chapter, Model::LeNet)).unwrap();
        assert_eq!(own.settings().lr, 0.9);
        // As the loader has it.
        let same = start(&|s| (s.batch_size, s.shuffle, s.image_size) = (8, false, 2)).unwrap();
        let Settings { batch_size, image_size, shuffle, .. } = *same.settings();
        assert_eq!((batch_size, image_size, shuffle), (8, 2, false));

        let start = |change: &dyn Fn(&mut Settings)| start(change).unwrap();
        let text = |result: Result<Trainer, TrainError>| result.map(drop).unwrap_err().to_string();
        assert_eq!(
            text(start(&|s| s.lr = 1e-9).with_optimizer(AdamW::new(0.003))),
            "lr: expected 0.1, as recipe chapter has it, beside an optimizer of one's own, found 1e-9"
        );
        assert_eq!(
            text(start(&|s| s.lr_of = Some("1.*=3".parse().unwrap())).with_optimizer(AdamW::new(0.003))),
            "lr_of: expected none, as recipe chapter has it, beside an optimizer of one's own, found \"1.*=3\""
        );
        assert_eq!(
            text(start(&|s| s.label_smoothing = 0.1).with_loss(Mse)),
            "label_smoothing: expected 0.0, as recipe chapter has it, beside a loss of one's own, found 0.1"
        );
        assert_eq!(
            text(start(&|s| s.warmup_epochs = 1.0).with_schedule(|_| 1.0)),
            "warmup_epochs: expected 0.0, as recipe chapter has it, beside a schedule of one's own, found 1.0"
        );

        let trainer = start(&|s| (s.epochs, s.lr) = (3, 0.5));
        let names = |toml: &str| {
            toml.lines().map(|line| line.split_once(" = ").unwrap().0.to_owned()).collect::<Vec<_>>()
        };
        assert!(trainer.to_toml().contains("lr = 0.5\n"));
        let trainer = start(&|_| ()).with_optimizer(AdamW::new(0.003)).unwrap().with_loss(Mse).unwrap();
        let trainer = trainer.with_schedule(|_| 1.0).unwrap();
        let left = ["epochs", "patience", "checkpoint_minutes", "clip_norm", "conv", "seed"];
        assert_eq!(names(&trainer.to_toml()), left);
        // Of the settings' network, too: no command is to go on with such a run.
        type Change = fn(Trainer) -> Result<Trainer, TrainError>;
        let parts: [(Change, About); 3] = [
            (|own| own.with_loss(Mse), About::Loss),
            (|own| own.with_schedule(|_| 1.0), About::Schedule),
            (|own| own.with_optimizer(AdamW::new(0.003)), About::Optimizer),
        ];
        for (change, part) in parts {
            let trainer = self::trainer(Model::LeNet, None, set(1, 10), set(1, 10)).unwrap();
            assert!(trainer.to_toml().contains("model = \"lenet\"\n"));
            let left = names(&change(trainer).unwrap().to_toml());
            assert!(
                left.iter().all(|name| name != "model" && part.settings().all(|own| own != name)),
                "{left:?}"
            );
            assert!(left.iter().any(|name| name == "dataset"), "{left:?}");
        }
    }

    /// A module of one's own that is no [`Sequential`].
    #[derive(Debug)]
    struct Own {
        last: Linear<f32>,
    }

    impl Module<f32> for Own {
        fn forward<'t>(
            &self,
            x: autograd::Var<'t, f32>,
        ) -> Result<autograd::Var<'t, f32>, autograd::AutogradError> {
            self.last.forward(x.flatten()?)
        }

        crate::visit_fields!(f32: last);
    }

    #[test]
    fn any_module_trains_under_its_own_names() {
        let (train, test) = (loader(&numbers(), 8), loader(&numbers(), 24));
        let net = Own { last: Linear::new(4, 1) };
        let trainer = Trainer::of_parts(Settings::of(Recipe::Chapter), net, train, test, 1).unwrap();
        let mut trainer = trainer.with_loss(Mse).unwrap();
        let batch = trainer.some_images(8).unwrap().unwrap();
        let [first, .., last] = [(); 9].map(|()| trainer.step(&batch).unwrap().mean_loss());
        assert!(last < 0.5 * first, "{first}, {last}");
        let names: Vec<_> = parameters(trainer.model()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["last.weight", "last.bias"]);
    }
}
