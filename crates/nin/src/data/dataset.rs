//! [`Dataset`]: images with their targets.

use std::borrow::Cow;
use std::fmt::{self, Debug};
use std::str::FromStr;
use std::sync::Arc;

use super::array::ArrayDataset;
use super::error::DataError;
use crate::names::ParseError;

/// Images of one size, each with a target. Implement it for data of one's own; [`DataLoader`](super::DataLoader) does the rest.
pub trait Dataset: Debug + Send + Sync {
    /// The name in messages.
    fn name(&self) -> &str {
        "data set"
    }

    /// The number of samples, N.
    fn len(&self) -> usize;

    /// Tells whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// C, H and W of every image.
    fn image_shape(&self) -> [usize; 3];

    /// The image and the target of sample `index`, which is below [`Dataset::len`]. All images have pixels of one kind, all
    /// targets are of one kind and length. What is in memory is borrowed: nothing is copied.
    ///
    /// # Errors
    /// [`DataError`] of what is read on demand.
    fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError>;

    /// The target of a sample, for a set that has it without its image.
    ///
    /// # Errors
    /// As [`Dataset::get`].
    fn target(&self, index: usize) -> Result<Target<'_>, DataError> {
        Ok(self.get(index)?.1)
    }

    /// The names of the classes, by label; empty if they have none.
    fn class_names(&self) -> &[String] {
        &[]
    }

    /// The name of a sample, by which a held-out share is drawn: it stays where it is if others come or go.
    fn key(&self, index: usize) -> String {
        index.to_string()
    }
}

/// The number of samples of each class that has a name, by label.
///
/// # Errors
/// As [`Dataset::target`].
pub fn class_counts(dataset: &dyn Dataset) -> Result<Vec<usize>, DataError> {
    let mut counts = vec![0; dataset.class_names().len()];
    for index in 0..dataset.len() {
        if let Target::Class(class) = dataset.target(index)?
            && let Some(count) = counts.get_mut(class)
        {
            *count += 1;
        }
    }
    Ok(counts)
}

/// Some samples of a data set, as a set of their own (`torch.utils.data.Subset`).
#[derive(Debug, Clone)]
pub struct Subset {
    dataset: Arc<dyn Dataset>,
    samples: Vec<usize>,
    name: String,
}

impl Subset {
    /// These samples, in this order. One that there is not is no sample of the subset.
    pub fn new(dataset: Arc<dyn Dataset>, samples: impl IntoIterator<Item = usize>) -> Self {
        let (len, name) = (dataset.len(), dataset.name().to_owned());
        Self { samples: samples.into_iter().filter(|&sample| sample < len).collect(), dataset, name }
    }

    /// The same with a name of its own for messages.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }
}

impl Dataset for Subset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn image_shape(&self) -> [usize; 3] {
        self.dataset.image_shape()
    }

    fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError> {
        self.dataset.get(self.samples[index])
    }

    fn target(&self, index: usize) -> Result<Target<'_>, DataError> {
        self.dataset.target(self.samples[index])
    }

    fn class_names(&self) -> &[String] {
        self.dataset.class_names()
    }

    fn key(&self, index: usize) -> String {
        self.dataset.key(self.samples[index])
    }
}

/// The pixels of an image, C x H x W, or of many.
#[derive(Debug, Clone, PartialEq)]
pub enum Image<'a> {
    /// 8 bits each. The network sees them divided by 255, then normalized.
    Bytes(Cow<'a, [u8]>),
    /// Numbers. The network sees them as they are, or normalized.
    Floats(Cow<'a, [f32]>),
}

impl From<Vec<u8>> for Image<'_> {
    fn from(pixels: Vec<u8>) -> Self {
        Self::Bytes(pixels.into())
    }
}

impl From<Vec<f32>> for Image<'_> {
    fn from(pixels: Vec<f32>) -> Self {
        Self::Floats(pixels.into())
    }
}

/// The answer that a network is to give for an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Target<'a> {
    /// The number of its class.
    Class(usize),
    /// Dense values, K of them.
    Values(Cow<'a, [f32]>),
}

/// The error of a set without samples or pixels.
pub(super) fn empty(name: &str, n: usize, [c, h, w]: [usize; 3]) -> DataError {
    let reason = format!("empty data set: N = {n}, C = {c}, H = {h}, W = {w} (each must be at least 1)");
    DataError::Samples { name: name.to_owned(), reason }
}

/// The two halves of a data set: arrays, or any sets.
#[derive(Debug, Clone)]
pub struct Splits<D = ArrayDataset> {
    /// The images to learn from.
    pub train: D,
    /// The images to be judged by.
    pub test: D,
}

impl<D: Dataset + 'static> From<Splits<D>> for Splits<Arc<dyn Dataset>> {
    fn from(Splits { train, test }: Splits<D>) -> Self {
        Self { train: Arc::new(train), test: Arc::new(test) }
    }
}

/// Images that are not learned from, but judged by in the place of the test images.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HoldOut {
    /// The last of the training images.
    Last(usize),
    /// About this share of them, above 0 and below 1: those whose names have a small hash ([`Dataset::key`]), so that which ones
    /// they are does not change when others come or go.
    Share(f64),
}

impl fmt::Display for HoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last(images) => fmt::Display::fmt(images, f),
            Self::Share(share) => fmt::Display::fmt(share, f),
        }
    }
}

impl FromStr for HoldOut {
    type Err = ParseError;

    /// Reads a number of images, or a share of them.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(images) = text.parse() {
            return Ok(Self::Last(images));
        }
        let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share) && *share > 0.0);
        share
            .map(Self::Share)
            .ok_or_else(|| ParseError::form("a number of images, or a share above 0 and below 1", text))
    }
}

impl Splits<Arc<dyn Dataset>> {
    /// The sets after some of the training images were held out to be the test images; the same if that is none.
    #[must_use]
    pub fn hold_out(self, held: HoldOut) -> Self {
        if held == HoldOut::Last(0) {
            return self;
        }
        let Self { train, .. } = self;
        let is_held = |&index: &usize| match held {
            HoldOut::Last(images) => index >= train.len().saturating_sub(images),
            HoldOut::Share(share) => place(&train.key(index)) < share,
        };
        let (test, rest): (Vec<usize>, Vec<usize>) = (0..train.len()).partition(is_held);
        let name = format!("{}, held out {}", train.name(), test.len());
        Self {
            test: Arc::new(Subset::new(train.clone(), test).named(&name)),
            train: Arc::new(Subset::new(train, rest)),
        }
    }
}

/// A number from 0 to below 1 that is a name's own: the bits of its FNV-1a hash, mixed as SplitMix64 does.
fn place(name: &str) -> f64 {
    let hash = hash(name);
    let mixed = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// A number that is a name's own: its FNV-1a hash.
pub(super) fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn splits(n: usize) -> Splits<Arc<dyn Dataset>> {
        let labels: Vec<usize> = (0..n).map(|i| i % 3).collect();
        let set = |labels: Vec<usize>| {
            let pixels: Vec<u8> = (0..labels.len()).map(|i| i as u8).collect();
            ArrayDataset::named("toy", &["a", "b", "c"], [1; 3], pixels, labels).unwrap()
        };
        Splits { train: set(labels), test: set(vec![2]) }.into()
    }

    #[test]
    fn held_out_images_are_the_last_or_a_share_by_their_names() {
        let part = splits(10).hold_out(HoldOut::Last(3));
        assert_eq!((part.train.len(), part.test.len(), part.test.name()), (7, 3, "toy, held out 3"));
        assert_eq!(part.test.get(0).unwrap(), (vec![7u8].into(), Target::Class(1)));
        assert_eq!(class_counts(&*part.train).unwrap(), [3, 2, 2]);
        assert_eq!(splits(10).hold_out(HoldOut::Last(0)).test.len(), 1);
        // Of a set that has grown, those that were held out still are.
        let keys = |n| {
            let held = splits(n).hold_out(HoldOut::Share(0.1)).test;
            (0..held.len()).map(|index| held.key(index)).collect::<Vec<_>>()
        };
        let (few, many) = (keys(1000), keys(3000));
        assert!((80..120).contains(&few.len()) && (250..350).contains(&many.len()), "{}", few.len());
        assert_eq!(few[..], many[..few.len()]);
        assert_eq!(many[..4], FIRST_HELD);
    }

    /// A change of the hash would mix runs' test images into their training images.
    const FIRST_HELD: [&str; 4] = ["4", "23", "27", "48"];

    #[test]
    fn a_number_or_a_share_is_held_out() {
        assert_eq!("0".parse(), Ok(HoldOut::Last(0)));
        assert_eq!("250".parse(), Ok(HoldOut::Last(250)));
        assert_eq!("0.1".parse(), Ok(HoldOut::Share(0.1)));
        for text in ["1.0", "0.0", "-1", "-0.5", "NaN", "many", ""] {
            assert!(text.parse::<HoldOut>().is_err(), "{text}");
        }
    }
}
