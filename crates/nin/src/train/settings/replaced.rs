//! The settings in whose place a program may have parts of its own.

use super::Settings;
use crate::data::{DataLoader, LoaderOptions, Whiten};
use crate::train::TrainError;

/// What a network and loaders of one's own are in the place of.
pub(in crate::train) const NETWORK_AND_DATA: &[&str] = &[
    "recipe",
    "model",
    "head",
    "dataset",
    "image_size",
    "batch_size",
    "dropout",
    "augment",
    "hold_out",
    "shuffle",
    "drop_last",
    "normalize",
    "whiten",
    "init",
    "init_from",
    "head_scale",
    "head_bias",
];

/// What an optimizer is in the place of.
pub(in crate::train) const OPTIMIZER: &[&str] =
    &["optimizer", "lr", "momentum", "nesterov", "weight_decay", "lr_of"];

/// What a loss is in the place of.
pub(in crate::train) const LOSS: &[&str] = &["label_smoothing"];

/// What a schedule is in the place of.
pub(in crate::train) const SCHEDULE: &[&str] = &["schedule", "warmup_epochs"];

impl Settings {
    /// Refuses those of some settings that were set though `by`, a part of one's own, is in their place: that are neither as the
    /// recipe has them nor as the part has, `part` being as the loader has them. Recipe and model themselves are what the others
    /// are compared with, and are never refused.
    ///
    /// # Errors
    /// [`TrainError::Config`].
    pub(in crate::train) fn refuse_set(
        &self,
        names: &[&str],
        by: &str,
        part: Option<&Self>,
    ) -> Result<(), TrainError> {
        let recipe = self.recipe;
        let (of_model, of_recipe) = (Self::for_model(recipe, self.model), Self::of(recipe));
        for name in names {
            let (found, expected, other) = (self.value(name), of_model.value(name), of_recipe.value(name));
            let of_part = part.map(|part| part.value(name)).filter(|own| *own != expected && *own != other);
            if found == expected || found == other || Some(&found) == of_part.as_ref() {
                continue;
            }
            let text = |value: Option<String>| value.unwrap_or_else(|| "none".to_owned());
            let mut wanted = format!("{}, as recipe {recipe} has it", text(expected));
            if let Some(own) = of_part {
                wanted += &format!(", or {}, as the loader has it", text(own));
            }
            return Err(TrainError::setting(
                name,
                format!("{wanted}, beside {by} of one's own"),
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
        self.refuse_set(NETWORK_AND_DATA, "a network and loaders", Some(&own))?;
        let Self { normalize, augment, whiten, .. } = own;
        Ok(Self { image_size, batch_size, shuffle, drop_last, normalize, augment, whiten, ..self })
    }
}
