//! What settings are about: the parts of a run in whose place a program may have its own, or the command.

use std::fmt;

use super::{ABOUT, Settings};
use crate::data::{DataLoader, LoaderOptions, Whiten};
use crate::train::TrainError;

/// What a setting is about: a part of a run, or the command and not the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::train) enum About {
    Command,
    Network,
    Optimizer,
    Loss,
    Schedule,
}

impl About {
    /// The names of the settings that are about it.
    pub(in crate::train) fn settings(self) -> impl Iterator<Item = &'static str> {
        ABOUT.iter().filter(move |(_, about)| *about == self).map(|(name, _)| *name)
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "a command",
            Self::Network => "a network and loaders",
            Self::Optimizer => "an optimizer",
            Self::Loss => "a loss",
            Self::Schedule => "a schedule",
        })
    }
}

/// Tells whether the setting of this name is a command's and not its run's: a limit that stops it, or how often it saves. No bit
/// of a run depends on it, and one that a limit has stopped is to go on.
#[must_use]
pub fn is_of_a_command(name: &str) -> bool {
    About::Command.settings().any(|own| own == name)
}

impl Settings {
    /// Refuses a setting about a part that was set though one's own is in its place: that is neither as the recipe has it nor as
    /// `loader`, if these are as the loader has them. Recipe and model themselves are what the others are compared with, and are
    /// never refused.
    ///
    /// # Errors
    /// [`TrainError::Config`].
    pub(in crate::train) fn refuse_set(&self, part: About, loader: Option<&Self>) -> Result<(), TrainError> {
        let recipe = self.recipe;
        let (of_model, of_recipe) = (Self::for_model(recipe, self.model), Self::of(recipe));
        for name in part.settings() {
            let (found, expected, other) = (self.value(name), of_model.value(name), of_recipe.value(name));
            let loader = loader.map(|loader| loader.value(name));
            let of_loader = loader.filter(|own| *own != expected && *own != other);
            if found == expected || found == other || Some(&found) == of_loader.as_ref() {
                continue;
            }
            let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
            let mut wanted = format!("{}, as recipe {recipe} has it", text(expected));
            if let Some(own) = of_loader {
                wanted += &format!(", or {}, as the loader has it", text(own));
            }
            return Err(TrainError::setting(
                name,
                format!("{wanted}, beside {part} of one's own"),
                text(found),
            ));
        }
        Ok(())
    }

    /// The same settings, where those of loaders count, as a loader of the training images has them.
    ///
    /// # Errors
    /// [`TrainError::Config`] of a setting about the network or the data that was set otherwise.
    pub(in crate::train) fn with_loader(self, loader: &DataLoader) -> Result<Self, TrainError> {
        let recipe = Self::of(self.recipe);
        let ([_, h, w], options) = (loader.image_shape(), loader.options());
        let image_size = if h == w { h } else { recipe.image_size };
        let LoaderOptions { batch_size, shuffle, drop_last, .. } = *options;
        let (normalize, augment) = (options.normalization.is_some(), options.augmentation.clone());
        let whiten = options.whitening.as_ref().map_or(Whiten::None, |own| own.kind());
        let own = Self { image_size, batch_size, shuffle, drop_last, normalize, augment, whiten, ..recipe };
        self.refuse_set(About::Network, Some(&own))?;
        let Self { normalize, augment, whiten, .. } = own;
        Ok(Self { image_size, batch_size, shuffle, drop_last, normalize, augment, whiten, ..self })
    }
}
