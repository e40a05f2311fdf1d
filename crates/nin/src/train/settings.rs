//! The settings of a run: a recipe, changed by a TOML file, changed by flags. Each is declared once, here.

mod about;
mod declare;
#[cfg(feature = "toml")]
mod file;
#[cfg(feature = "clap")]
mod flags;
mod initial;
mod recipe;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use tensor::conv::ConvAlgorithm;

pub(super) use about::About;
pub use about::is_of_a_command;
use declare::{Value, settings, text};
pub use initial::InitialWeights;
pub use recipe::Recipe;

use super::error::TrainError;
use crate::card::JudgedBy;
use crate::data::dataset::class_counts;
use crate::data::{Augmentation, Dataset, DatasetKind, DatasetName, HoldOut, Splits, Whiten};
use crate::models::{Head, Model, Network};
use crate::nn::Sequential;
use crate::optim::{AT_LEAST_0, FRACTION, OptimizerKind, Patterns, RateFactors, Schedule};
use crate::summary::layers;

text!(Recipe, Model, Head, DatasetName, OptimizerKind, Schedule, Augmentation, Whiten, InitialWeights);
text!(ConvAlgorithm, Patterns, RateFactors);

// Declared with the values of the chapter's recipe: `recipe.rs` says what the others change.
settings! {
    /// Settings to begin with
    recipe("NAME", Network): Recipe = Recipe::Chapter;
    /// Network
    model("NAME", Network): Model = Model::Nin;
    /// Layers that the class maps of a nin network go through, as in section 4.6 of the paper; its own end is gap
    head("NAME", Network): Head (Option) = None;
    /// Data set, by its name or by NAME:FOLDER with the folder of its files; image-folder:FOLDER has images of one's own
    dataset("NAME", Network): DatasetName = DatasetKind::FashionMnistMini.into();
    /// Rows and columns of the network's images; those of a data set are resized
    image_size("PIXELS", Network): usize = 224, ("1 to 4096", |size| (1..=4096).contains(&size));
    /// Images of a step
    batch_size("N", Network): usize = 128, ("1 to 1048576", |images| (1..=1 << 20).contains(&images));
    /// Passes over the training images
    epochs("N"): u64 = 10, ("1 to 1048576", |epochs| (1..=1 << 20).contains(&epochs));
    /// Stop after this many steps
    max_steps("N", Command): u64 (Option) = None, ("at least 1", |steps| steps > 0);
    /// Stop after this many minutes
    max_minutes("MINUTES", Command): f64 (Option) = None,
        ("a finite number above 0", |minutes| minutes.is_finite() && minutes > 0.0);
    /// Stop when the test accuracy (the test loss, where test images have no classes) has not become better for this many epochs;
    /// 0 for never
    patience("EPOCHS"): u64 = 0;
    /// Save a checkpoint inside of an epoch, too, whenever this many minutes have gone by since the last; 0 for never
    checkpoint_minutes("MINUTES", Command): f64 = 5.0, AT_LEAST_0;
    /// Optimizer
    optimizer("NAME", Optimizer): OptimizerKind = OptimizerKind::Sgd;
    /// Base learning rate
    lr("RATE", Optimizer): f64 = 0.1, AT_LEAST_0;
    /// Momentum, for optimizers that have it
    momentum("FACTOR", Optimizer): f64 = 0.0, FRACTION;
    /// Nesterov's form of the momentum, for optimizers that have it
    nesterov("nesterov", Optimizer): bool = false;
    /// L2 penalty on weights, not on biases
    weight_decay("FACTOR", Optimizer): f64 = 0.0, AT_LEAST_0;
    /// Learning-rate schedule: constant, cosine, one-cycle, one-cycle:RISE or step:EPOCHS:FACTOR
    schedule("NAME", Schedule): Schedule = Schedule::Constant;
    /// Epochs, or a part of one, in which the learning rate rises linearly
    warmup_epochs("EPOCHS", Schedule): f64 = 0.0, AT_LEAST_0;
    /// Bring gradients down to this Euclidean norm; 0 for no limit
    clip_norm("NORM"): f64 = 0.0, AT_LEAST_0;
    /// Share of a label that the loss spreads over all classes
    label_smoothing("SHARE", Loss): f64 = 0.0, ("from 0 to 1", |share| (0.0..=1.0).contains(&share));
    /// Probability with which dropout layers drop
    dropout("P", Network): f64 = 0.5, FRACTION;
    /// Random variations of the training images, drawn anew each epoch: none, or a list, done in its order, of flip (left to
    /// right), shift:PIXELS (up to so many of the published image's pixels along each axis), crop:SHARE (a part of at least this
    /// share of the area, enlarged), rotate:DEGREES (to either side), scale:FACTOR (1/FACTOR to FACTOR), color:STRENGTH
    /// (brightness, contrast and saturation times 1 - STRENGTH to 1 + STRENGTH), cutout:PIXELS (a square of the mean color),
    /// mixup:ALPHA (another training image mixed in, by a share from Beta(ALPHA, ALPHA); the label of the larger share counts
    /// for the training accuracy)
    augment("LIST", Network): Augmentation = Augmentation::default();
    /// Do not train on the last N training images, or on a share of them, such as 0.1, that the hash of each image's name
    /// chooses, and test on them instead of the test images: for choosing settings, and for data without test images
    hold_out("N", Network): HoldOut = HoldOut::Last(0);
    /// Training images in a new order every epoch or, with --no-shuffle, in the order of the data set
    shuffle("no-shuffle", Network): bool = true;
    /// Leave out an epoch's last batch if it is smaller than the others: its few images would make statistics of their own in a
    /// batch normalization
    drop_last("drop-last", Network): bool = false;
    /// Pixels brought to mean 0 and standard deviation 1 or, with --no-normalize, from 0 to 1
    normalize("no-normalize", Network): bool = false;
    /// Preprocessing of whole images, at their own size, in the place of that: none, gcn (mean 0 and norm 55 of each) or gcn-zca
    /// (then whitened by what the training images have in common, as in the paper)
    whiten("NAME", Network): Whiten = Whiten::None;
    /// Initial weights
    init("NAME", Network): InitialWeights = InitialWeights::Xavier;
    /// Begin with those weights of this safetensors file that fit; the others are new, as --init says. The commands take a run's
    /// folder, too, for its model.safetensors
    init_from("FILE", Network): PathBuf (Option) = None;
    /// Parameters that stay as they are, by patterns of their names in PyTorch's state_dict, in which * stands for any text, such
    /// as 0.*,1.*; a batch normalization that is frozen normalizes by its running statistics, which stay, too
    freeze("PATTERN,..."): Patterns (Option) = None;
    /// Factors on the learning rate by such patterns, such as 0.*=0.1; of several that match, the first counts
    lr_of("PATTERN=FACTOR,...", Optimizer): RateFactors (Option) = None;
    /// Factor of the initial weights of the convolution that makes the class maps
    head_scale("FACTOR", Network): f64 = 1.0, AT_LEAST_0;
    /// Initial bias of that convolution: above 0, its ReLU begins open for every class
    head_bias("BIAS", Network): f64 = 0.0, ("a finite number", f64::is_finite);
    /// Convolution algorithm: auto (the fastest for each layer), direct, winograd, im2col or naive; wins over the
    /// environment variable NIN_CONV
    conv("NAME"): ConvAlgorithm = ConvAlgorithm::Auto;
    /// Seed of every random number; the same seed gives the same bits on any number of threads
    seed("N"): u64 = 0;
}

impl Settings {
    /// The recipe's settings for the network ([`Settings::for_model`]), replaced by the file's, replaced by the flags'.
    ///
    /// # Errors
    /// [`TrainError::Config`] for a value that cannot work ([`Settings::validate`]), and for a flag that changes nothing in this
    /// run. A recipe or a file may have such a value: a run's file has all settings.
    pub fn resolve(file: &Overrides, flags: &Overrides) -> Result<Self, TrainError> {
        let recipe = flags.recipe.or(file.recipe).unwrap_or_default();
        let model = flags.model.or(file.model).unwrap_or(Model::Nin);
        let mut settings = Self::for_model(recipe, model);
        settings.apply(file);
        settings.apply(flags);
        // A recipe's normalization gives way; what a file asks for is refused beside it.
        if settings.whiten != Whiten::None && file.normalize.or(flags.normalize).is_none() {
            settings.normalize = false;
        }
        for name in flags.names() {
            if let Some((expected, found)) = settings.in_vain(name) {
                return Err(TrainError::setting(name, expected, found));
            }
        }
        settings.validate()?;
        Ok(settings)
    }

    /// Of a setting that changes nothing in this run: what it would need, and what is there.
    fn in_vain(&self, name: &str) -> Option<(&'static str, String)> {
        let Self { model, optimizer, .. } = *self;
        let moves = self.momentum > 0.0 || self.nesterov;
        match name {
            "momentum" | "nesterov" if moves && optimizer.ignores().contains(&name) => {
                Some(("an optimizer that has it", optimizer.to_string()))
            }
            "dropout" if !self.has_dropout() => Some(("a network that has it", model.to_string())),
            "head_scale" | "head_bias" if !model.has_class_maps() => {
                Some(("a network with class maps", model.to_string()))
            }
            _ => None,
        }
    }

    /// Tells whether a layer of the network drops anything, at any size of the images.
    fn has_dropout(&self) -> bool {
        let (side, network) = (self.model.default_image_size(), self.model.build::<f32>(1, 2, 0.5));
        let layers = layers(&network, [1, 1, side, side].into()).expect("a network fits its own images");
        layers.iter().any(|layer| layer.kind.starts_with("Dropout"))
    }

    /// The network for images of this many channels, with zeros as weights.
    ///
    /// # Errors
    /// [`TrainError::Shape`] if the network cannot work on images of `image_size` or has no place for the head.
    pub fn network(&self, channels: usize, classes: usize) -> Result<Sequential<f32>, TrainError> {
        let network = Network {
            head: self.head,
            dropout: self.dropout,
            ..Network::new(self.model, [channels, self.image_size, self.image_size], classes)
        };
        Ok(network.build()?)
    }

    /// Tells whether a run is over that has trained so many epochs, of which this one, counted from 1, was the best.
    #[must_use]
    pub fn is_over(&self, epochs: u64, best: Option<u64>) -> bool {
        let waited = epochs - best.unwrap_or(epochs).min(epochs);
        epochs >= self.epochs || (self.patience > 0 && waited >= self.patience)
    }

    /// The images that a run is judged by.
    #[must_use]
    pub fn judged_by(&self) -> JudgedBy {
        if self.hold_out == HoldOut::Last(0) { JudgedBy::Test } else { JudgedBy::HeldOut }
    }

    /// The images to learn from and the images to be judged by: those of the data set, or, with `hold_out`, two parts of its
    /// training images.
    ///
    /// # Errors
    /// [`TrainError::Config`] if `hold_out` leaves nothing to learn from or nothing to be judged by, a class without images to
    /// learn from, or images of one class alone to be judged by; [`TrainError::Data`] as [`Dataset::target`].
    pub fn split(&self, splits: Splits<Arc<dyn Dataset>>) -> Result<Splits<Arc<dyn Dataset>>, TrainError> {
        let (name, images) = (splits.train.name().to_owned(), splits.train.len());
        let classes = |set: &Arc<dyn Dataset>| {
            class_counts(&**set).map(|counts| counts.iter().filter(|&&count| count > 0).count())
        };
        let is_held = self.judged_by() == JudgedBy::HeldOut;
        let whole = if is_held { classes(&splits.train)? } else { 0 };
        let split = splits.hold_out(self.hold_out);
        // The last of images that come class by class are of the last class.
        let one_class = whole > 1
            && split.test.len() > 1
            && (classes(&split.test)? == 1 || classes(&split.train)? < whole);
        let is_share = matches!(self.hold_out, HoldOut::Share(_));
        let expected = match (split.train.is_empty(), split.test.is_empty()) {
            (false, false) if one_class && is_share => {
                format!(
                    "another share, since of the {images} images of {name} this one leaves all of a class on one side"
                )
            }
            (false, false) if one_class => {
                format!("a share such as 0.1, since the images of {name} come class by class")
            }
            (false, false) => return Ok(split),
            (true, _) => format!("fewer than the {images} training images"),
            (_, true) if is_share => {
                format!("a larger share, since this one has none of the {images} images of {name}")
            }
            (_, true) => format!("a share such as 0.1, since {name} has no test images"),
        };
        Err(TrainError::setting("hold_out", expected, self.hold_out))
    }

    /// Refuses values that cannot work.
    ///
    /// # Errors
    /// [`TrainError::Config`], naming the setting, what was expected and what was found.
    pub fn validate(&self) -> Result<(), TrainError> {
        if let Some((name, expected, found)) = self.out_of_bounds() {
            return Err(TrainError::setting(name, expected, found));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(TrainError::setting("nesterov", "a momentum above 0", "momentum 0"));
        }
        if self.normalize && self.whiten != Whiten::None {
            let expected = format!("false, since whiten = {} takes its place", self.whiten);
            return Err(TrainError::setting("normalize", expected, true));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ArrayDataset;

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_recipe() {
        let file = Overrides {
            recipe: Some(Recipe::Chapter),
            lr: Some(0.5),
            epochs: Some(3),
            ..Overrides::default()
        };
        let flags = Overrides { lr: Some(0.25), ..Overrides::default() };
        let settings = Settings::resolve(&file, &flags).unwrap();
        assert_eq!(
            (settings.lr, settings.epochs, settings.image_size, settings.batch_size),
            (0.25, 3, 224, 128)
        );
        assert_eq!(settings.recipe, Recipe::Chapter);
        // What nothing is said of is the default recipe's everywhere.
        let nothing = Overrides::default();
        assert_eq!(Settings::resolve(&nothing, &nothing).unwrap(), Settings::default());
        assert_eq!(Settings::default(), Settings::of(Recipe::default()));
    }

    #[test]
    fn a_flag_that_changes_nothing_in_the_run_is_refused() {
        use {InitialWeights::He, OptimizerKind::AdamW, OptimizerKind::RmsProp, OptimizerKind::Sgd};
        type Change = fn(&mut Overrides);
        let cases: [(Change, &str); 14] = [
            (|f| (f.optimizer, f.momentum) = (Some(Sgd), Some(0.5)), ""),
            (|f| (f.optimizer, f.momentum) = (Some(RmsProp), Some(0.5)), ""),
            (
                |f| (f.optimizer, f.momentum) = (Some(AdamW), Some(0.5)),
                "momentum: an optimizer that has it, adamw",
            ),
            (|f| (f.optimizer, f.nesterov) = (Some(Sgd), Some(true)), ""),
            (
                |f| (f.optimizer, f.nesterov) = (Some(RmsProp), Some(true)),
                "nesterov: an optimizer that has it, rmsprop",
            ),
            (
                |f| (f.optimizer, f.nesterov) = (Some(AdamW), Some(true)),
                "nesterov: an optimizer that has it, adamw",
            ),
            // That there is none of it is true.
            (|f| (f.optimizer, f.momentum, f.nesterov) = (Some(AdamW), Some(0.0), Some(false)), ""),
            (
                |f| (f.model, f.dropout) = (Some(Model::LeNet), Some(0.1)),
                "dropout: a network that has it, lenet",
            ),
            (|f| (f.model, f.dropout) = (Some(Model::AlexNet), Some(0.1)), ""),
            (|f| f.dropout = Some(0.1), ""),
            (
                |f| (f.model, f.head_bias) = (Some(Model::LeNet), Some(1.0)),
                "head_bias: a network with class maps, lenet",
            ),
            (
                |f| (f.model, f.head_scale) = (Some(Model::Vgg11), Some(2.0)),
                "head_scale: a network with class maps, vgg11",
            ),
            (|f| (f.head_scale, f.head_bias) = (Some(2.0), Some(1.0)), ""),
            // What the file leaves new, its network will say.
            (|f| (f.init_from, f.init, f.head_bias) = (Some("a.st".into()), Some(He), Some(1.0)), ""),
        ];
        for (change, refused) in cases {
            let mut flags = Overrides::default();
            change(&mut flags);
            let found = Settings::resolve(&Overrides::default(), &flags).map_err(|error| error.to_string());
            let text = found.err().unwrap_or_default();
            assert_eq!(text.replace("expected ", "").replace("found ", ""), refused, "{text}");
            // The default recipe has momentum, and a run's file has every setting.
            Settings::resolve(&flags, &Overrides::default()).unwrap();
        }
    }

    #[test]
    fn whitening_takes_the_place_of_a_recipes_normalization_only() {
        let white = Overrides { whiten: Some(Whiten::GcnZca), ..Overrides::default() };
        let normal = Overrides { normalize: Some(true), ..Overrides::default() };
        assert!(Settings::of(Recipe::Default).normalize);
        let settings = Settings::resolve(&Overrides::default(), &white).unwrap();
        assert_eq!((settings.whiten, settings.normalize), (Whiten::GcnZca, false));
        let error = Settings::resolve(&normal, &white).unwrap_err().to_string();
        let expected = "normalize: expected false, since whiten = gcn-zca takes its place, found true";
        assert_eq!(error, expected);
        let plain = Overrides { normalize: Some(false), ..white };
        assert_eq!(Settings::resolve(&normal, &plain).unwrap(), settings);
    }

    #[test]
    fn each_network_begins_at_its_size_and_its_chapter() {
        let of = |recipe: &str, model: &str| {
            let (recipe, model) = (recipe.parse().unwrap(), model.parse().unwrap());
            let flags = Overrides { recipe: Some(recipe), model: Some(model), ..Overrides::default() };
            let settings = Settings::resolve(&Overrides::default(), &flags).unwrap();
            assert_eq!((settings.recipe, settings.model), (recipe, model));
            (settings.image_size, settings.batch_size, settings.lr, settings.dropout)
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
        let (chapter, robust) = (Settings::of(Recipe::Chapter), Settings::of(Recipe::Robust));
        let what = |settings: &Settings| {
            let Settings { model, head, dataset, image_size, batch_size, epochs, dropout, shuffle, .. } =
                settings.clone();
            (model, head, dataset, image_size, batch_size, epochs, dropout, shuffle)
        };
        assert_eq!(what(&robust), what(&chapter));
        assert_eq!((robust.augment, robust.label_smoothing), (Augmentation::default(), 0.0));
        for recipe in Recipe::ALL {
            Settings::of(recipe).validate().unwrap();
        }
    }

    /// Files of runs that were made before the settings were declared in one place.
    #[cfg(feature = "toml")]
    #[test]
    fn what_earlier_runs_wrote_reads_back_and_is_written_the_same() {
        for (text, expected) in [
            (EARLIER, Settings::of(Recipe::Default)),
            (
                EARLIER_WITH_MORE,
                Settings {
                    head: Some(Head::Fc),
                    max_steps: Some(7),
                    momentum: 0.875,
                    nesterov: true,
                    schedule: Schedule::Step { epochs: 3, factor: 0.1 },
                    augment: "shift:2,flip".parse().unwrap(),
                    shuffle: false,
                    init: InitialWeights::HeUniform,
                    conv: ConvAlgorithm::Direct,
                    seed: 12,
                    ..Settings::for_model(Recipe::Robust, Model::NinCifar)
                },
            ),
        ] {
            let overrides: Overrides = toml::from_str(text).unwrap();
            let settings = Settings::resolve(&overrides, &Overrides::default()).unwrap();
            assert_eq!(settings, expected);
            // Settings that have come since those runs stand between, and change nothing of what they were.
            let written = settings.to_toml();
            let (earlier, since): (Vec<_>, Vec<_>) =
                written.lines().partition(|own| text.lines().any(|line| line == *own));
            assert_eq!(earlier, text.lines().collect::<Vec<_>>());
            let neutral = [
                "patience = 0",
                "checkpoint_minutes = 5.0",
                "optimizer = \"sgd\"",
                "drop_last = false",
                "whiten = \"none\"",
            ];
            assert_eq!(since, neutral);
        }
    }

    #[test]
    fn what_is_normalized_is_not_clipped() {
        for (model, normalized) in
            [(Model::Nin, false), (Model::ResNet18, true), (Model::MobileNetCifar, true)]
        {
            let settings = Settings::for_model(Recipe::Robust, model);
            assert_eq!(settings.clip_norm == 0.0, normalized, "{model}");
            assert_eq!(settings.init == InitialWeights::He, normalized, "{model}");
        }
    }

    #[cfg(feature = "toml")]
    const EARLIER: &str = r#"recipe = "default"
model = "nin"
dataset = "fashion-mnist-mini"
image_size = 64
batch_size = 32
epochs = 9
lr = 0.04
momentum = 0.9
nesterov = false
weight_decay = 0.0005
schedule = "cosine"
warmup_epochs = 0.3
clip_norm = 1.0
label_smoothing = 0.0
dropout = 0.2
augment = "none"
hold_out = 0
shuffle = true
normalize = true
init = "data-dependent"
head_scale = 0.1
head_bias = 1.0
conv = "auto"
seed = 0
"#;

    #[cfg(feature = "toml")]
    const EARLIER_WITH_MORE: &str = r#"recipe = "robust"
model = "nin-cifar"
head = "fc"
dataset = "fashion-mnist-mini"
image_size = 28
batch_size = 128
epochs = 10
max_steps = 7
lr = 0.05
momentum = 0.875
nesterov = true
weight_decay = 0.0005
schedule = "step:3:0.1"
warmup_epochs = 1.0
clip_norm = 1.0
label_smoothing = 0.0
dropout = 0.5
augment = "shift:2,flip"
hold_out = 0
shuffle = false
normalize = true
init = "he-uniform"
head_scale = 0.1
head_bias = 1.0
conv = "direct"
seed = 12
"#;

    /// The way of a command line with each setting: the text of its value comes back as the file has it. A setting without a
    /// value gets the first that its flag takes.
    #[cfg(feature = "clap")]
    #[test]
    fn every_setting_has_a_flag() {
        use clap::{Args, Command, FromArgMatches};

        let read = |words: &[String]| {
            let command = Overrides::augment_args(Command::new("run").no_binary_name(true));
            command.try_get_matches_from(words).and_then(|found| Overrides::from_arg_matches(&found))
        };
        let all = Overrides::augment_args(Command::new("run"));
        let usual = Settings::of(Recipe::Default).to_toml();
        let usual = |name: &str| {
            let mut lines = usual.lines().filter_map(|line| line.split_once(" = "));
            lines.find(|(own, _)| *own == name).map(|(_, value)| value.trim_matches('"').to_owned())
        };
        let (mut words, mut expected) = (Vec::new(), Vec::new());
        for flag in all.get_arguments() {
            let (name, long) = (flag.get_id().as_str(), format!("--{}", flag.get_long().unwrap()));
            assert!(flag.get_help().is_some(), "{long}");
            if !flag.get_action().takes_values() {
                expected.push((name, (!long.starts_with("--no-")).to_string()));
                words.push(long);
                continue;
            }
            let choices = flag.get_possible_values().into_iter().map(|choice| choice.get_name().to_owned());
            let any = ["7", "0.*=0.5"].map(str::to_owned);
            let mut values = usual(name).into_iter().chain(choices).chain(any);
            let value = values.find(|value| read(&[long.clone(), value.clone()]).is_ok());
            let value = value.unwrap_or_else(|| panic!("{long} takes none of the values"));
            expected.push((name, value.clone()));
            words.extend([long, value]);
        }
        let given = read(&words).unwrap();
        assert!(given.names().eq(expected.iter().map(|(name, _)| *name)));
        let settings = Settings::resolve(&given, &Overrides::default()).unwrap();
        let text = settings.to_toml();
        let found: Vec<_> = text.lines().map(|line| line.split_once(" = ").unwrap()).collect();
        assert_eq!(found.len(), expected.len());
        for ((found, written), (name, value)) in found.iter().zip(&expected) {
            let number = written.strip_suffix(".0").filter(|_| !value.ends_with(".0"));
            assert_eq!((*found, number.unwrap_or(written).trim_matches('"')), (*name, value.as_str()));
        }
        assert_eq!(read(&[]).unwrap(), Overrides::default(), "what is not given changes nothing");
        let help = all.get_arguments().find(|flag| flag.get_id() == "schedule").unwrap().get_help().unwrap();
        assert_eq!(help.to_string(), format!("Learning-rate schedule: {}", Schedule::FORMS));
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let refused = |change: fn(&mut Settings)| {
            let mut settings = Settings::of(Recipe::Default);
            change(&mut settings);
            settings.validate().unwrap_err().to_string()
        };
        assert_eq!(refused(|c| c.batch_size = 0), "batch_size: expected 1 to 1048576, found 0");
        assert_eq!(refused(|c| c.lr = f64::NAN), "lr: expected a finite number of at least 0, found NaN");
        assert_eq!(refused(|c| c.dropout = 1.0), "dropout: expected at least 0 and below 1, found 1");
        assert_eq!(refused(|c| c.max_steps = Some(0)), "max_steps: expected at least 1, found 0");
        let minutes = |c: &mut Settings| c.max_minutes = Some(0.0);
        assert_eq!(refused(minutes), "max_minutes: expected a finite number above 0, found 0");
        assert_eq!(
            refused(|c| c.head_bias = f64::INFINITY),
            "head_bias: expected a finite number, found inf"
        );
        assert_eq!(refused(|c| c.label_smoothing = 1.5), "label_smoothing: expected from 0 to 1, found 1.5");
        let nesterov = |c: &mut Settings| (c.nesterov, c.momentum) = (true, 0.0);
        assert_eq!(refused(nesterov), "nesterov: expected a momentum above 0, found momentum 0");
    }

    #[test]
    fn what_is_held_out_leaves_images_to_learn_from_and_to_be_judged_by() {
        let train = ArrayDataset::new([1; 3], vec![7u8; 10], vec![0usize; 10]).unwrap();
        let splits = || Splits::from(Splits { train: train.clone(), test: train.clone() });
        let of = |hold_out| Settings { hold_out, ..Settings::of(Recipe::Default) };
        let held = |hold_out| of(hold_out).split(splits());
        for (hold_out, left, judges) in
            [(HoldOut::Last(0), [10, 10], JudgedBy::Test), (HoldOut::Last(3), [7, 3], JudgedBy::HeldOut)]
        {
            assert_eq!(of(hold_out).judged_by(), judges);
            let part = held(hold_out).unwrap();
            assert_eq!([part.train.len(), part.test.len()], left);
        }
        let refused = |hold_out| held(hold_out).unwrap_err().to_string();
        let error = "hold_out: expected fewer than the 10 training images, found 10";
        assert_eq!(refused(HoldOut::Last(10)), error);
        assert!(refused(HoldOut::Last(usize::MAX)).starts_with("hold_out: expected fewer than the 10"));
        // Class by class, as folders have them.
        let labels: Vec<usize> = (0..10).map(|i| i / 5).collect();
        let sorted = ArrayDataset::named("pets", &["cat", "dog"], [1; 3], vec![7u8; 10], labels).unwrap();
        let sorted = |hold_out| {
            let splits = Splits::from(Splits { train: sorted.clone(), test: sorted.clone() });
            Settings { hold_out, ..Settings::of(Recipe::Default) }.split(splits)
        };
        for images in [3, 5, 7] {
            let error = sorted(HoldOut::Last(images)).unwrap_err().to_string();
            assert!(error.contains("since the images of pets come class by class"), "{images}: {error}");
        }
        sorted(HoldOut::Share(0.5)).unwrap();
        assert_eq!(
            refused(HoldOut::Share(1e-9)),
            "hold_out: expected a larger share, since this one has none of the 10 images of arrays, found 0.000000001"
        );
        let leaves_one = (1..100).map(|percent| f64::from(percent) / 100.0).filter_map(|share| {
            let error = sorted(HoldOut::Share(share)).err()?.to_string();
            Some(error).filter(|error| error.contains("leaves all of a class on one side"))
        });
        assert!(leaves_one.count() > 0, "of five images of a class, a small share has none");
    }
}
