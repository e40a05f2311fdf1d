//! [`ModelCard`]: what a file of weights says of itself, so that it is of use without the folder that it was made in.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::{DataMarks, Normalization, Whiten};
use crate::disk::{FileError, content};
use crate::models::Network;
use crate::nn::{Sequential, values};
use crate::train::TrainError;
use crate::weights_file::{encode, load_tensors};

/// The name of the card in the text of a safetensors file.
const KEY: &str = "nin";

/// The most channels of an image, pixels of a side of it, and classes.
const MOST_CHANNELS: usize = 1024;
const MOST_SIDE: usize = 4096;
const MOST_CLASSES: usize = 1 << 16;

/// A network, what its answers mean and where it comes from: text in the header of `model.safetensors`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The version of this library that wrote it.
    pub version: String,
    /// The network's name.
    pub network: String,
    /// The name of the part behind its class maps, if it is not its own end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// C, H and W of the images that it was trained on, as it saw them.
    pub image: [usize; 3],
    /// The names of its classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The numbers that were subtracted from the pixels of each channel, after division by 255, and those that they were divided
    /// by; `None` for pixels from 0 to 1.
    pub normalization: Option<Normalization>,
    /// The step for whole images in its place, by name, if there was one: `gcn`, or `gcn-zca`, whose tensors are beside the
    /// weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whitening: Option<String>,
    /// The recipe that the settings began with; `imported` of weights from elsewhere.
    pub recipe: String,
    /// The data that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<DataMarks>,
    /// The epoch after which these were its weights, counted from 1; `None` inside of an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The share of the images that it was judged by that are classified correctly with these weights, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_acc: Option<f64>,
    /// The images that `test_acc` is of; `None` if nothing says so, as in files before this field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged_by: Option<JudgedBy>,
}

/// The images that a network is judged by; in text `test` and `held_out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgedBy {
    /// The test images of its data set.
    Test,
    /// Training images that it was not trained on (`hold_out`).
    HeldOut,
}

impl ModelCard {
    /// Reads the card in the text of a file.
    pub(crate) fn of_text(text: &BTreeMap<String, String>) -> Option<serde_json::Result<Self>> {
        text.get(KEY).map(|card| serde_json::from_str(card))
    }

    /// The text for a file of weights; with the mark that other libraries look for.
    pub(crate) fn text(&self) -> BTreeMap<String, String> {
        let card = serde_json::to_string(self).expect("a card is JSON");
        BTreeMap::from([(KEY.to_owned(), card), ("format".to_owned(), "pt".to_owned())])
    }

    /// A file of a network's weights with this card, ready to be written ([`atomic_write`](crate::disk::atomic_write)).
    ///
    /// # Panics
    /// If two of the network's parameters have one name.
    #[must_use]
    pub fn file(&self, network: &Sequential<f32>) -> Vec<u8> {
        encode(&values(network), self.text()).expect("a network's parameters have names of their own")
    }

    /// Reads the card of a file; `None` if it has none, as weights from elsewhere.
    ///
    /// # Errors
    /// [`FileError`] if the file or its card is broken.
    pub fn read(path: &Path) -> Result<Option<Self>, FileError> {
        let (_, text) = load_tensors(path)?;
        let card = Self::of_text(&text).transpose();
        card.map_err(|error| content(path, format!("its card {KEY:?} is none: {error}")))
    }

    /// The step that whole images went through.
    ///
    /// # Errors
    /// [`TrainError::Config`] if there is no such thing.
    pub fn whiten(&self) -> Result<Whiten, TrainError> {
        let kind = self.whitening.as_deref().map_or(Ok(Whiten::None), str::parse);
        kind.map_err(|error| TrainError::Config(format!("{error}")))
    }

    /// The network's name, and that of its head if it is not its own end: `nin-cifar with the head fc`.
    #[must_use]
    pub fn network_with_head(&self) -> String {
        let head = self.head.as_ref().map(|head| format!(" with the head {head}"));
        self.network.clone() + &head.unwrap_or_default()
    }

    /// The network that the card describes, with zeros as weights.
    ///
    /// # Errors
    /// [`TrainError`] if there is no such network.
    pub fn network(&self) -> Result<Sequential<f32>, TrainError> {
        let of_name = |error| TrainError::Config(format!("{error}"));
        let model = self.network.parse().map_err(of_name)?;
        let head = self.head.as_deref().map(str::parse).transpose().map_err(of_name)?;
        let ([c, h, w], classes) = (self.image, self.classes.len());
        if c > MOST_CHANNELS || h > MOST_SIDE || w > MOST_SIDE || classes > MOST_CLASSES {
            let found = format!("{c} x {h} x {w} and {classes} classes");
            return Err(TrainError::setting(
                "image",
                format!("at most {MOST_CHANNELS} x {MOST_SIDE} x {MOST_SIDE} and {MOST_CLASSES} classes"),
                found,
            ));
        }
        // Layers that drop out do nothing when a network answers.
        Ok(Network { head, ..Network::new(model, self.image, self.classes.len()) }.build()?)
    }
}
