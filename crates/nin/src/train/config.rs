//! The settings of a run: a recipe, changed by a TOML file, changed by flags.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tensor::conv::ConvPath;
use tensor::init::Init;

use super::error::TrainError;
use crate::data::{Augmentation, DatasetKind, Splits};
use crate::models::{Head, Model, Network};
use crate::nn::Sequential;
use crate::optim::Schedule;

/// A named set of settings to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Recipe {
    /// The article's network on small images, with settings that learn reliably in minutes.
    #[default]
    Default,
    /// The d2l book's chapter: 224 pixels, batch 128, learning rate 0.1, Xavier weights, 10 epochs, plain SGD, no
    /// normalisation.
    Chapter,
    /// The chapter's network, image size, batch size and number of epochs, with a start and a schedule that learn whatever the
    /// seed: He weights, the convolution of the class maps smaller and with a bias that opens its ReLU, momentum, warm-up,
    /// cosine, clipped gradients, weight decay, normalised images.
    Robust,
}

impl Recipe {
    /// Every recipe.
    pub const ALL: [Self; 3] = [Self::Default, Self::Chapter, Self::Robust];
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Chapter => "chapter",
            Self::Robust => "robust",
        })
    }
}

impl FromStr for Recipe {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|recipe| recipe.to_string() == name).ok_or_else(|| {
            let all = Self::ALL.map(|recipe| recipe.to_string());
            format!("no recipe {name:?}; there are: {}", all.join(", "))
        })
    }
}

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
    /// Initial weights: `xavier`, `he`, `he-uniform` or `pytorch`.
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

/// Settings that replace a recipe's: from a TOML file, or from flags. Unknown keys are refused.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the field of Config of the same name")]
pub struct Overrides {
    pub recipe: Option<String>,
    pub model: Option<String>,
    pub head: Option<String>,
    pub dataset: Option<String>,
    pub image_size: Option<usize>,
    pub batch_size: Option<usize>,
    pub epochs: Option<u64>,
    pub max_steps: Option<u64>,
    pub lr: Option<f64>,
    pub momentum: Option<f64>,
    pub nesterov: Option<bool>,
    pub weight_decay: Option<f64>,
    pub schedule: Option<String>,
    pub warmup_epochs: Option<f64>,
    pub clip_norm: Option<f64>,
    pub label_smoothing: Option<f64>,
    pub dropout: Option<f64>,
    pub augment: Option<String>,
    pub hold_out: Option<usize>,
    pub shuffle: Option<bool>,
    pub normalize: Option<bool>,
    pub init: Option<String>,
    pub head_scale: Option<f64>,
    pub head_bias: Option<f64>,
    pub conv: Option<String>,
    pub seed: Option<u64>,
}

impl Overrides {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// [`TrainError::Io`] if it cannot be read, [`TrainError::Config`] with path, line and key if it is not TOML, has a key that
    /// is none of these, or a value of the wrong type.
    pub fn from_toml(path: &Path) -> Result<Self, TrainError> {
        let text =
            std::fs::read_to_string(path).map_err(TrainError::io(path, "reading the configuration"))?;
        toml::from_str(&text).map_err(|error| {
            TrainError::Config(format!("{}: {}", path.display(), one_line(&error.to_string())))
        })
    }
}

/// TOML's errors are a small picture over several lines; a command's error is one line.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('|')).collect();
    let mut line = lines.join(": ");
    for (rust, plain) in
        [("f64", "a number"), ("usize", WHOLE), ("u64", WHOLE), ("a boolean", "true or false")]
    {
        if let Some(start) = line.strip_suffix(&format!("expected {rust}")) {
            line = format!("{start}expected {plain}");
        }
    }
    line
}

const WHOLE: &str = "a whole number of at least 0";

macro_rules! apply {
    ($config:ident, $overrides:ident: $($field:ident),+) => {
        $(if let Some(value) = &$overrides.$field { $config.$field = value.clone(); })+
    };
}

impl Config {
    /// The settings of a recipe.
    #[must_use]
    pub fn of(recipe: Recipe) -> Self {
        let chapter = Self {
            recipe: recipe.to_string(),
            model: Model::Nin.to_string(),
            head: None,
            dataset: DatasetKind::FashionMnistMini.name().to_owned(),
            image_size: 224,
            batch_size: 128,
            epochs: 10,
            max_steps: None,
            lr: 0.1,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            schedule: "constant".to_owned(),
            warmup_epochs: 0.0,
            clip_norm: 0.0,
            label_smoothing: 0.0,
            dropout: 0.5,
            augment: Augmentation::default().to_string(),
            hold_out: 0,
            shuffle: true,
            normalize: false,
            init: "xavier".to_owned(),
            head_scale: 1.0,
            head_bias: 0.0,
            conv: ConvPath::Auto.to_string(),
            seed: 0,
        };
        // What ends the lottery: a signal that keeps its size through twelve ReLUs, and class maps that begin open. The batch
        // of the default recipe is a quarter, and its rate was chosen for that.
        let steady = Self {
            momentum: 0.9,
            weight_decay: 5e-4,
            schedule: "cosine".to_owned(),
            clip_norm: 1.0,
            normalize: true,
            init: "he".to_owned(),
            head_scale: 0.3,
            head_bias: 1.0,
            ..chapter.clone()
        };
        match recipe {
            Recipe::Chapter => chapter,
            Recipe::Robust => Self { lr: 0.05, warmup_epochs: 1.0, ..steady },
            Recipe::Default => {
                Self { image_size: 64, batch_size: 32, epochs: 8, lr: 0.02, warmup_epochs: 0.3, ..steady }
            }
        }
    }

    /// The settings of a recipe for a network. The recipes are written for `nin` and `nin-d2l`; the other networks begin at
    /// the image size that they were made for, and
    ///
    /// * in the chapter's recipe with the learning rate and the batch size of their own chapters in the d2l book (7.6, 8.1
    ///   and 8.2 of its first edition): LeNet 0.9 and 256, AlexNet 0.01 and 128, VGG-11 0.05 and 128;
    /// * otherwise with Xavier weights, since He's make the first logits of networks with wide fully connected layers large,
    ///   and LeNet with a larger learning rate, since its sigmoids pass on a quarter of a gradient at most, and the other two
    ///   with a smaller one.
    #[must_use]
    pub fn for_model(recipe: Recipe, model: Model) -> Self {
        let mut config = Self { model: model.to_string(), ..Self::of(recipe) };
        if !matches!(model, Model::Nin | Model::NinD2l) {
            config.image_size = model.default_image_size();
        }
        match (recipe, model) {
            (Recipe::Chapter, Model::LeNet) => (config.lr, config.batch_size) = (0.9, 256),
            (Recipe::Chapter, Model::AlexNet) => config.lr = 0.01,
            (Recipe::Chapter, Model::Vgg11) => config.lr = 0.05,
            (_, Model::LeNet) => (config.lr, config.init) = (0.1, "xavier".to_owned()),
            (_, Model::AlexNet | Model::Vgg11) => (config.lr, config.init) = (0.005, "xavier".to_owned()),
            _ => {}
        }
        config
    }

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
        head.map_err(|error: String| TrainError::Config(format!("head: {error}")))
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
    pub fn conv(&self) -> Result<ConvPath, TrainError> {
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
            "he" => Ok((Init::HeNormal, zero)),
            "he-uniform" => Ok((Init::HeUniform, zero)),
            "pytorch" => Ok((Init::PyTorch, Init::PyTorch)),
            name => {
                let message = format!("init: expected xavier, he, he-uniform or pytorch, found {name:?}");
                Err(TrainError::Config(message))
            }
        }
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`TrainError::Config`], naming the setting, what was expected and what was found.
    pub fn validate(&self) -> Result<(), TrainError> {
        let refuse = |name: &str, expected: &str, found: &dyn fmt::Display| {
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

    /// The settings as TOML, as [`Overrides::from_toml`] reads them.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("numbers, strings and booleans are TOML")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, DatasetInfo};

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
            (config.image_size, config.batch_size, config.lr)
        };
        assert_eq!(of("default", "nin"), (64, 32, 0.02));
        assert_eq!(of("default", "nin-cifar"), (28, 32, 0.02));
        assert_eq!(of("default", "lenet"), (28, 32, 0.1));
        assert_eq!(of("default", "alexnet"), (224, 32, 0.005));
        assert_eq!(of("chapter", "nin-d2l"), (224, 128, 0.1));
        assert_eq!(of("chapter", "lenet"), (28, 256, 0.9));
        assert_eq!(of("chapter", "alexnet"), (224, 128, 0.01));
        assert_eq!(of("chapter", "vgg11"), (224, 128, 0.05));
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
            Dataset::new((0..10).collect(), vec![0, 0, 0, 0, 0, 0, 0, 1, 1, 1], info.clone()).unwrap();
        let test = Dataset::new(vec![99], vec![1], info).unwrap();
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

    #[test]
    fn types_of_values_are_said_in_plain_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        for (line, expected) in [
            ("lr = \"fast\"", "expected a number"),
            ("batch_size = -1", "expected a whole number of at least 0"),
            ("epochs = 1.5", "expected a whole number of at least 0"),
            ("shuffle = 1", "expected true or false"),
        ] {
            std::fs::write(&path, line).unwrap();
            let error = Overrides::from_toml(&path).unwrap_err().to_string();
            assert!(error.contains(line) && error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.toml");
        std::fs::write(&path, "lr = 0.1\nlearning_rate = 3\n").unwrap();
        let error = Overrides::from_toml(&path).unwrap_err().to_string();
        assert!(
            error.contains("run.toml") && error.contains("learning_rate") && !error.contains('\n'),
            "{error}"
        );
    }
}
