//! The settings of a run: a recipe, changed by a TOML file, changed by flags.

mod overrides;
mod recipe;

use serde::Serialize;
use tensor::conv::ConvAlgorithm;
use tensor::init::Init;

pub use overrides::Overrides;
pub use recipe::Recipe;

use super::error::TrainError;
use crate::data::{Augmentation, DatasetKind, Splits};
use crate::models::{Head, Model, Network};
use crate::names::ParseError;
use crate::nn::Sequential;
use crate::optim::Schedule;

/// Everything that the bits of a run depend on. The number of threads is not among it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// The recipe that the settings began with.
    pub recipe: String,
    /// The network: `nin`, `nin-d2l`, `nin-cifar`, `lenet`, `alexnet` or `vgg11`.
    pub model: String,
    /// What a Network in Network's class maps go through: `gap`, `fc` or `fc-dropout`. The network's own end if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// The data set: `fashion-mnist-mini`, `fashion-mnist` or `mnist`.
    pub dataset: String,
    /// Rows and columns of the images that the network sees.
    pub image_size: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// Passes over the training images.
    pub epochs: u64,
    /// Steps after which the run ends early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// The base learning rate.
    pub lr: f64,
    /// SGD's momentum.
    pub momentum: f64,
    /// Whether the momentum is Nesterov's.
    pub nesterov: bool,
    /// L2 penalty on weights (not biases).
    pub weight_decay: f64,
    /// `constant`, `cosine` or `step:EPOCHS:FACTOR`.
    pub schedule: String,
    /// Epochs, or a part of one, in which the learning rate rises linearly.
    pub warmup_epochs: f64,
    /// The Euclidean norm that gradients are brought down to; 0 for no limit.
    pub clip_norm: f64,
    /// Label smoothing of the training loss.
    pub label_smoothing: f64,
    /// The probability with which dropout layers drop.
    pub dropout: f64,
    /// Random variations of the training images: `none`, `flip`, `shift:PIXELS` or `shift:PIXELS,flip`.
    pub augment: String,
    /// The last training images that are kept out of training and tested on instead of the test images; 0 for none. For
    /// choosing settings without looking at the test images.
    pub hold_out: usize,
    /// Whether every epoch has an order of its own.
    pub shuffle: bool,
    /// Whether pixels are brought to mean 0 and standard deviation 1.
    pub normalize: bool,
    /// Initial weights: `xavier`, `he`, `he-uniform` or `pytorch`; or `data-dependent`, which are those of `he` after each
    /// convolution was scaled and shifted for its channels to have mean 0 and deviation 1 over some training images.
    pub init: String,
    /// What the initial weights of the convolution that makes the class maps are multiplied by. Networks without class maps
    /// are left alone.
    pub head_scale: f64,
    /// That convolution's initial bias: above 0, its ReLU begins open for every class.
    pub head_bias: f64,
    /// The convolution algorithm: `auto`, `naive`, `im2col`, `direct` or `winograd`.
    pub conv: String,
    /// The seed of every random number.
    pub seed: u64,
}

macro_rules! apply {
    ($config:ident, $overrides:ident: $($field:ident),+) => {
        $(if let Some(value) = &$overrides.$field { $config.$field = value.clone(); })+
    };
}

impl Config {
    /// The recipe's settings for the network ([`Config::for_model`]), replaced by the file's, replaced by the flags'.
    ///
    /// # Errors
    /// [`TrainError::Config`] for an unknown recipe or a value that cannot work ([`Config::validate`]).
    pub fn resolve(file: &Overrides, flags: &Overrides) -> Result<Self, TrainError> {
        let name = flags.recipe.as_ref().or(file.recipe.as_ref());
        let recipe = name
            .map_or(Ok(Recipe::Default), |name| name.parse())
            .map_err(|error| TrainError::Config(format!("recipe: {error}")))?;
        let name = flags.model.as_ref().or(file.model.as_ref());
        let model = name.map_or(Ok(Model::Nin), |name| name.parse());
        let model = model.map_err(|error| TrainError::Config(format!("model: {error}")))?;
        let mut config = Self::for_model(recipe, model);
        for overrides in [file, flags] {
            apply!(config, overrides: dataset, image_size, batch_size, epochs, lr, momentum, nesterov,
                weight_decay, schedule, warmup_epochs, clip_norm, label_smoothing, dropout, augment, hold_out, shuffle, normalize, init,
                head_scale, head_bias, conv, seed);
            config.max_steps = overrides.max_steps.or(config.max_steps);
            config.head = overrides.head.clone().or(config.head);
        }
        config.validate()?;
        Ok(config)
    }

    /// The network.
    ///
    /// # Errors
    /// [`TrainError::Config`], with the names that exist.
    pub fn model(&self) -> Result<Model, TrainError> {
        self.model.parse().map_err(|error| TrainError::Config(format!("model: {error}")))
    }

    /// What the class maps go through, if the settings say.
    ///
    /// # Errors
    /// [`TrainError::Config`], with the names that exist.
    pub fn head(&self) -> Result<Option<Head>, TrainError> {
        let head = self.head.as_ref().map(|name| name.parse()).transpose();
        head.map_err(|error: ParseError| TrainError::Config(format!("head: {error}")))
    }

    /// The network for images of this many channels, with zeros as weights.
    ///
    /// # Errors
    /// [`TrainError::Config`] for a name that does not exist, [`TrainError::Shape`] if the network cannot work on images of
    /// `image_size` or has no place for the head.
    pub fn network(&self, channels: usize, classes: usize) -> Result<Sequential<f32>, TrainError> {
        let network = Network {
            head: self.head()?,
            dropout: self.dropout,
            ..Network::new(self.model()?, [channels, self.image_size, self.image_size], classes)
        };
        Ok(network.build()?)
    }

    /// The data set.
    ///
    /// # Errors
    /// [`TrainError::Config`], with the names that exist.
    pub fn dataset(&self) -> Result<DatasetKind, TrainError> {
        self.dataset.parse().map_err(|error| TrainError::Config(format!("dataset: {error}")))
    }

    /// The schedule.
    ///
    /// # Errors
    /// [`TrainError::Config`], with the names that exist.
    pub fn schedule(&self) -> Result<Schedule, TrainError> {
        self.schedule.parse().map_err(|error| TrainError::Config(format!("schedule: {error}")))
    }

    /// The convolution algorithm.
    ///
    /// # Errors
    /// [`TrainError::Config`], with the names that exist.
    pub fn conv(&self) -> Result<ConvAlgorithm, TrainError> {
        self.conv.parse().map_err(|error| TrainError::Config(format!("conv: {error}")))
    }

    /// The variations of the training images.
    ///
    /// # Errors
    /// [`TrainError::Config`], with the names that exist.
    pub fn augmentation(&self) -> Result<Augmentation, TrainError> {
        self.augment.parse().map_err(|error| TrainError::Config(format!("augment: {error}")))
    }

    /// The images to learn from and the images to be judged by: those of the data set, or, with `hold_out`, the first and
    /// the last of its training images.
    ///
    /// # Errors
    /// [`TrainError::Config`] if `hold_out` leaves nothing to learn from.
    pub fn split(&self, splits: Splits) -> Result<Splits, TrainError> {
        let (train, held) = (splits.train.len(), self.hold_out);
        if held == 0 {
            return Ok(splits);
        }
        if held >= train {
            let expected = format!("fewer than the {train} training images");
            return Err(TrainError::Config(format!("hold_out: expected {expected}, found {held}")));
        }
        Ok(Splits { train: splits.train.head(train - held), test: splits.train.tail(held) })
    }

    /// How weights and biases are first filled.
    ///
    /// # Errors
    /// [`TrainError::Config`], with the names that exist.
    pub fn init(&self) -> Result<(Init, Init), TrainError> {
        let zero = Init::Constant(0.0);
        match self.init.as_str() {
            "xavier" => Ok((Init::XavierUniform, zero)),
            "he" | "data-dependent" => Ok((Init::HeNormal, zero)),
            "he-uniform" => Ok((Init::HeUniform, zero)),
            "pytorch" => Ok((Init::PyTorch, Init::PyTorch)),
            name => {
                let message = format!(
                    "init: expected xavier, he, he-uniform, data-dependent or pytorch, found {name:?}"
                );
                Err(TrainError::Config(message))
            }
        }
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`TrainError::Config`], naming the setting, what was expected and what was found.
    pub fn validate(&self) -> Result<(), TrainError> {
        let refuse = |name: &str, expected: &str, found: &dyn std::fmt::Display| {
            Err(TrainError::Config(format!("{name}: expected {expected}, found {found}")))
        };
        self.model()?;
        self.head()?;
        self.dataset()?;
        self.schedule()?;
        self.init()?;
        self.augmentation()?;
        self.conv()?;
        for (name, value, largest) in [
            ("image_size", self.image_size, 4096),
            ("batch_size", self.batch_size, 1 << 20),
            ("epochs", usize::try_from(self.epochs).unwrap_or(usize::MAX), 1 << 20),
        ] {
            if value == 0 || value > largest {
                return refuse(name, &format!("1 to {largest}"), &value);
            }
        }
        if self.max_steps == Some(0) {
            return refuse("max_steps", "at least 1", &0);
        }
        for (name, value) in [
            ("lr", self.lr),
            ("weight_decay", self.weight_decay),
            ("warmup_epochs", self.warmup_epochs),
            ("clip_norm", self.clip_norm),
            ("head_scale", self.head_scale),
        ] {
            if !value.is_finite() || value < 0.0 {
                return refuse(name, "a finite number of at least 0", &value);
            }
        }
        if !self.head_bias.is_finite() {
            return refuse("head_bias", "a finite number", &self.head_bias);
        }
        for (name, value) in [
            ("momentum", self.momentum),
            ("dropout", self.dropout),
            ("label_smoothing", self.label_smoothing),
        ] {
            if !(0.0..1.0).contains(&value) {
                return refuse(name, "at least 0 and below 1", &value);
            }
        }
        if self.nesterov && self.momentum == 0.0 {
            return refuse("nesterov", "a momentum above 0", &"momentum 0");
        }
        Ok(())
    }

    /// The settings as TOML, as [`Overrides::from_toml`] reads them (with the feature `toml`).
    #[cfg(feature = "toml")]
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers, strings and booleans are TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DatasetInfo, LabeledImages};

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_recipe() {
        let file = Overrides {
            recipe: Some("chapter".into()),
            lr: Some(0.5),
            epochs: Some(3),
            ..Overrides::default()
        };
        let flags = Overrides { lr: Some(0.25), ..Overrides::default() };
        let config = Config::resolve(&file, &flags).unwrap();
        assert_eq!((config.lr, config.epochs, config.image_size, config.batch_size), (0.25, 3, 224, 128));
        assert_eq!(config.recipe, "chapter");
    }

    #[test]
    fn each_network_begins_at_its_size_and_its_chapter() {
        let of = |recipe: &str, model: &str| {
            let flags =
                Overrides { recipe: Some(recipe.into()), model: Some(model.into()), ..Overrides::default() };
            let config = Config::resolve(&Overrides::default(), &flags).unwrap();
            assert_eq!((config.recipe.as_str(), config.model.as_str()), (recipe, model));
            (config.image_size, config.batch_size, config.lr, config.dropout)
        };
        assert_eq!(of("default", "nin"), (64, 32, 0.04, 0.2));
        assert_eq!(of("default", "nin-cifar"), (28, 32, 0.02, 0.2));
        assert_eq!(of("default", "lenet"), (28, 32, 0.1, 0.2));
        assert_eq!(of("default", "alexnet"), (224, 32, 0.005, 0.5));
        assert_eq!(of("robust", "nin-d2l"), (224, 128, 0.05, 0.5));
        assert_eq!(of("chapter", "nin-d2l"), (224, 128, 0.1, 0.5));
        assert_eq!(of("chapter", "lenet"), (28, 256, 0.9, 0.5));
        assert_eq!(of("chapter", "alexnet"), (224, 128, 0.01, 0.5));
        assert_eq!(of("chapter", "vgg11"), (224, 128, 0.05, 0.5));
    }

    #[test]
    fn the_robust_recipe_changes_only_how_the_chapter_learns() {
        let (chapter, robust) = (Config::of(Recipe::Chapter), Config::of(Recipe::Robust));
        let what = |config: &Config| {
            let Config { model, head, dataset, image_size, batch_size, epochs, dropout, shuffle, .. } =
                config.clone();
            (model, head, dataset, image_size, batch_size, epochs, dropout, shuffle)
        };
        assert_eq!(what(&robust), what(&chapter));
        assert_eq!((robust.augment.as_str(), robust.label_smoothing), ("none", 0.0));
        for recipe in Recipe::ALL {
            assert_eq!(recipe.to_string().parse::<Recipe>().unwrap(), recipe);
            Config::of(recipe).validate().unwrap();
        }
    }

    #[cfg(feature = "toml")]
    #[test]
    fn a_written_configuration_reads_back() {
        let config = Config { head: Some("fc".into()), ..Config::of(Recipe::Default) };
        let overrides: Overrides = toml::from_str(&config.to_toml()).unwrap();
        assert_eq!(Config::resolve(&overrides, &Overrides::default()).unwrap(), config);
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |change: fn(&mut Config)| {
            let mut config = Config::of(Recipe::Default);
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert_eq!(refused(|c| c.batch_size = 0), "batch_size: expected 1 to 1048576, found 0");
        assert_eq!(refused(|c| c.lr = f64::NAN), "lr: expected a finite number of at least 0, found NaN");
        assert_eq!(refused(|c| c.dropout = 1.0), "dropout: expected at least 0 and below 1, found 1");
        assert!(refused(|c| c.model = "resnet".into()).contains("nin-cifar"));
        assert!(
            refused(|c| c.augment = "crop".into()).starts_with("augment: expected none, flip, shift:PIXELS")
        );
        assert!(refused(|c| c.head = Some("mlp".into())).ends_with("there are: gap, fc, fc-dropout"));
        assert!(refused(|c| c.schedule = "linear".into()).starts_with("schedule: expected constant"));
        assert!(refused(|c| c.init = "zeros".into()).starts_with("init: expected xavier"));
        assert_eq!(
            refused(|c| c.conv = "fft".into()),
            "conv: expected auto, naive, im2col, direct or winograd, found \"fft\""
        );
    }

    #[test]
    fn what_is_held_out_is_the_end_of_the_training_images() {
        let info = DatasetInfo {
            name: "toy train".into(),
            channels: 1,
            height: 1,
            width: 1,
            class_names: vec!["a".into(), "b".into()],
        };
        let train =
            LabeledImages::new((0..10).collect(), vec![0, 0, 0, 0, 0, 0, 0, 1, 1, 1], info.clone()).unwrap();
        let test = LabeledImages::new(vec![99], vec![1], info).unwrap();
        let splits = || Splits { train: train.clone(), test: test.clone() };
        let held = |hold_out| Config { hold_out, ..Config::of(Recipe::Default) };
        let all = held(0).split(splits()).unwrap();
        assert_eq!((all.train.len(), all.test.images()), (10, &[99][..]));
        let part = held(3).split(splits()).unwrap();
        assert_eq!((part.train.images(), part.test.images()), (&[0, 1, 2, 3, 4, 5, 6][..], &[7, 8, 9][..]));
        assert_eq!(part.test.labels(), [1, 1, 1]);
        let error = held(10).split(splits()).unwrap_err().to_string();
        assert_eq!(error, "hold_out: expected fewer than the 10 training images, found 10");
    }
}
