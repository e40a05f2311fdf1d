//! The recipes: named sets of settings to begin with.

use super::{InitialWeights, Settings};
use crate::models::Model;
use crate::names::choices;
use crate::optim::Schedule;

choices! {
    /// A named set of settings to begin with.
    #[derive(Default)]
    "recipe" enum Recipe {
        /// The article's network on small images, with settings that learn reliably in minutes: the start and schedule of
        /// robust, smaller batches and less dropout.
        #[default]
        Default = "default",
        /// The d2l book's chapter, with the model nin-d2l its network, too: 224 pixels, batch 128, learning rate 0.1, Xavier
        /// weights, 10 epochs, plain SGD, no normalization.
        Chapter = "chapter",
        /// The chapter's network, image size, batch size and number of epochs, with a start and a schedule that learn whatever
        /// the seed: He weights brought to mean 0 and deviation 1 by images, the convolution of the class maps smaller and with a
        /// bias that opens its ReLU, momentum, warm-up, cosine, clipped gradients, weight decay, normalized images.
        Robust = "robust",
    }
}

impl Default for Settings {
    /// Those of [`Recipe::Default`].
    fn default() -> Self {
        Self::of(Recipe::Default)
    }
}

impl Settings {
    /// The settings of a recipe.
    #[must_use]
    pub fn of(recipe: Recipe) -> Self {
        let chapter = Self { recipe, ..Self::declared() };
        // What ends the lottery: every unit begins alive, and class maps begin open and small (docs/lottery.md). The batch of the
        // default recipe is a quarter, and its rate was chosen for that; its few steps under-fit with the chapter's dropout.
        let steady = Self {
            momentum: 0.9,
            weight_decay: 5e-4,
            schedule: Schedule::Cosine,
            clip_norm: 1.0,
            normalize: true,
            init: InitialWeights::DataDependent,
            head_scale: 0.1,
            head_bias: 1.0,
            ..chapter.clone()
        };
        match recipe {
            Recipe::Chapter => chapter,
            Recipe::Robust => Self { lr: 0.05, warmup_epochs: 1.0, ..steady },
            Recipe::Default => Self {
                image_size: 64,
                batch_size: 32,
                epochs: 9,
                lr: 0.04,
                warmup_epochs: 0.3,
                dropout: 0.2,
                ..steady
            },
        }
    }

    /// The settings of a recipe for a network. The recipes are written for `nin` and `nin-d2l`; the other networks begin at
    /// the image size that they were made for, and
    ///
    /// * in the chapter's recipe with the learning rate and the batch size of their own chapters in the d2l book (7.6, 8.1
    ///   8.2 and 8.6 of its first edition): LeNet 0.9 and 256, AlexNet 0.01 and 128, VGG-11 0.05 and 128, ResNet-18 0.05 and 256
    ///   at 96 pixels;
    /// * otherwise with Xavier weights, since He's make the first logits of networks with wide fully connected layers large, and
    ///   LeNet with a larger learning rate, since its sigmoids pass on a quarter of a gradient at most, and the other two with a
    ///   smaller one. The default recipe's rate is that of `nin` and `nin-d2l`; `nin-cifar` has half of it. Its dropout of 0.2 is
    ///   for Network in Network; AlexNet and VGG-11 keep their chapters' 0.5. Networks with normalizations have He's weights,
    ///   since those do what a data-dependent start would, and gradients of any length: the deeper ones' are long at the start,
    ///   and clipped to 1 MobileNet had a loss of 2.28 after 117 steps, otherwise one of 1.57 after 69.
    #[must_use]
    pub fn for_model(recipe: Recipe, model: Model) -> Self {
        let mut settings = Self { model, ..Self::of(recipe) };
        if !matches!(model, Model::Nin | Model::NinD2l) {
            settings.image_size = model.default_image_size();
        }
        match (recipe, model) {
            (Recipe::Chapter, Model::LeNet) => (settings.lr, settings.batch_size) = (0.9, 256),
            (Recipe::Chapter, Model::AlexNet) => settings.lr = 0.01,
            (Recipe::Chapter, Model::Vgg11) => settings.lr = 0.05,
            (Recipe::Chapter, Model::ResNet18) => {
                (settings.lr, settings.batch_size, settings.image_size) = (0.05, 256, 96);
            }
            (Recipe::Chapter, Model::ResNet18Cifar) => (settings.lr, settings.batch_size) = (0.05, 256),
            (Recipe::Default, Model::NinCifar) => settings.lr = 0.02,
            _ if model.is_normalized() => (settings.init, settings.clip_norm) = (InitialWeights::He, 0.0),
            (_, Model::LeNet) => (settings.lr, settings.init) = (0.1, InitialWeights::Xavier),
            (_, Model::AlexNet | Model::Vgg11) => {
                (settings.lr, settings.dropout, settings.init) = (0.005, 0.5, InitialWeights::Xavier);
            }
            _ => {}
        }
        settings
    }
}
