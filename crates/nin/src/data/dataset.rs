//! [`Dataset`]: images with their targets. [`LabeledImages`]: 8-bit images, held in memory as published.

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Range;
use std::path::Path;

use super::error::DataError;
use super::idx::Idx;
use super::kind::DatasetKind;

/// Images of one size, each with a target. Implement it for data of one's own; [`DataLoader`](super::DataLoader) does the rest.
pub trait Dataset: Debug + Send + Sync {
    /// The name in messages.
    fn name(&self) -> &str {
        "data set"
    }

    /// The number of samples, N.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// C, H and W of every image.
    fn image_shape(&self) -> [usize; 3];

    /// The image and the target of sample `index`, which is below [`Dataset::len`]. All images have pixels of one kind, all
    /// targets are of one kind and length. What is in memory is borrowed: nothing is copied.
    fn get(&self, index: usize) -> (Image<'_>, Target<'_>);
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

/// What a network is to answer for an image.
#[derive(Debug, Clone, PartialEq)]
pub enum Target<'a> {
    /// The number of its class.
    Class(usize),
    /// Dense values, K of them.
    Values(Cow<'a, [f32]>),
}

impl Dataset for LabeledImages {
    fn name(&self) -> &str {
        LabeledImages::name(self)
    }

    fn len(&self) -> usize {
        LabeledImages::len(self)
    }

    fn image_shape(&self) -> [usize; 3] {
        self.info.image_shape
    }

    fn get(&self, index: usize) -> (Image<'_>, Target<'_>) {
        (Image::Bytes(self.image(index).into()), Target::Class(self.label(index)))
    }
}

/// N labeled images of C x H x W 8-bit pixels.
///
/// A value of this type is sound: as many labels as images, every label below `classes`, nothing empty. The
/// fields can be read by anyone and changed by no one, through the accessors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabeledImages {
    images: Vec<u8>,
    labels: Vec<u8>,
    info: DatasetInfo,
}

/// What a data set is, apart from its samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetInfo {
    /// A name for messages and logs, such as `fashion-mnist train`.
    pub name: String,
    /// C, H and W: the colour planes, rows and columns of an image.
    pub image_shape: [usize; 3],
    /// The names of the classes by label; their number is the number of classes.
    pub class_names: Vec<String>,
}

/// The number of images in an N x C x H x W array with this many targets.
///
/// # Errors
/// [`DataError::Samples`] if an extent or the number of classes is 0, the pixels are not whole images, or images and targets
/// differ in number.
pub(super) fn count(
    name: &str,
    shape: [usize; 3],
    pixels: usize,
    targets: usize,
    classes: usize,
) -> Result<usize, DataError> {
    let refuse = |reason| Err(DataError::Samples { name: name.to_owned(), reason });
    let ([c, h, w], image) = (shape, shape.iter().product());
    if image == 0 || pixels == 0 || classes == 0 {
        return Err(empty(name, pixels.checked_div(image).unwrap_or(targets), shape, classes));
    }
    if !pixels.is_multiple_of(image) {
        return refuse(format!("{pixels} bytes of pixels are not a whole number of {c} x {h} x {w} images"));
    }
    match pixels / image {
        n if n == targets => Ok(n),
        n => refuse(format!("{n} images but {targets} labels: expected one label for each image")),
    }
}

/// The error of a set without samples, pixels or classes.
pub(super) fn empty(name: &str, n: usize, [c, h, w]: [usize; 3], classes: usize) -> DataError {
    let sizes = format!("N = {n}, C = {c}, H = {h}, W = {w}, {classes} classes");
    let reason = format!("empty data set: {sizes} (each must be at least 1)");
    DataError::Samples { name: name.to_owned(), reason }
}

/// The two halves of a data set.
#[derive(Debug, Clone)]
pub struct Splits {
    /// The images to learn from.
    pub train: LabeledImages,
    /// The images to be judged by.
    pub test: LabeledImages,
}

impl LabeledImages {
    /// Puts a set together from pixels (N x C x H x W, row-major, 8 bits each) and labels (N).
    ///
    /// # Errors
    /// [`DataError::Samples`] if N, C, H, W or the number of classes is 0, the pixels are not a whole number of images, images and
    /// labels differ in number, or a label names no class.
    pub fn new(images: Vec<u8>, labels: Vec<u8>, info: DatasetInfo) -> Result<LabeledImages, DataError> {
        let (name, classes) = (&info.name, info.class_names.len());
        count(name, info.image_shape, images.len(), labels.len(), classes)?;
        if let Some(index) = labels.iter().position(|&label| usize::from(label) >= classes) {
            let (label, last) = (labels[index], classes - 1);
            let reason = format!("label {label} of sample {index} is out of range: expected 0 to {last}");
            return Err(DataError::Samples { name: info.name, reason });
        }
        Ok(LabeledImages { images, labels, info })
    }

    /// Reads one split of a published data set from its image and its label file (IDX, plain or
    /// gzip-compressed). `split` ("train", "test") goes into the set's name.
    ///
    /// # Errors
    /// Every error of [`Idx::read`], and those of [`LabeledImages::new`] with the file names in them; [`DataError::File`] if the
    /// images are not of the size the set is published in.
    pub fn from_idx_files(
        kind: DatasetKind,
        split: &str,
        images: &Path,
        labels: &Path,
    ) -> Result<LabeledImages, DataError> {
        let pixels = Idx::read(images, 3)?;
        let targets = Idx::read(labels, 1)?;
        let (n, found_h, found_w) = (pixels.dims[0], pixels.dims[1], pixels.dims[2]);
        let (h, w) = kind.image_size();
        if (found_h, found_w) != (h, w) {
            let expected = format!("expected {h} x {w} for {kind}");
            return Err(DataError::file(
                images,
                format!("images of {found_h} x {found_w} pixels, {expected}"),
            ));
        }
        // Until all is well, it goes by the name of the file that would be to blame.
        let (images, labels) = (images.display(), labels.display());
        let name = match n {
            0 => images.to_string(),
            _ if n == targets.data.len() => labels.to_string(),
            _ => format!("{images} and {labels}"),
        };
        let class_names = kind.class_names().iter().map(|&name| name.to_owned()).collect();
        let info = DatasetInfo { name, image_shape: [1, h, w], class_names };
        let mut set = LabeledImages::new(pixels.data, targets.data, info)?;
        set.info.name = format!("{kind} {split}");
        Ok(set)
    }

    /// The set's name, for messages and logs.
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// The number of samples, N (at least 1, which is why there is no `is_empty`).
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.info.class_names.len()
    }

    /// The names of the classes, by label.
    pub fn class_names(&self) -> &[String] {
        &self.info.class_names
    }

    /// All pixels, N x C x H x W.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    /// All labels, N, each below [`LabeledImages::classes`].
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The pixels of sample `index`, C x H x W.
    ///
    /// # Panics
    /// If `index` is not below [`LabeledImages::len`].
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.info.image_shape.iter().product();
        &self.images[index * len..][..len]
    }

    /// The label of sample `index`.
    ///
    /// # Panics
    /// If `index` is not below [`LabeledImages::len`].
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.labels[index])
    }

    /// How many samples each class has, by label.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes()];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    /// The first `n` samples as a set of their own (all of them if there are no more; at least one).
    pub fn head(&self, n: usize) -> LabeledImages {
        self.part(0..n.clamp(1, self.len()), self.info.name.clone())
    }

    /// The last `n` samples as a set of their own (all of them if there are no more; at least one), named after that.
    pub fn tail(&self, n: usize) -> LabeledImages {
        let n = n.clamp(1, self.len());
        self.part(self.len() - n..self.len(), format!("{}, last {n}", self.info.name))
    }

    fn part(&self, samples: Range<usize>, name: String) -> LabeledImages {
        let image_len = self.images.len() / self.len();
        LabeledImages {
            images: self.images[samples.start * image_len..samples.end * image_len].to_vec(),
            labels: self.labels[samples].to_vec(),
            info: DatasetInfo { name, ..self.info.clone() },
        }
    }

    /// A set of so many classes, for tests.
    #[cfg(test)]
    pub(crate) fn toy(
        name: &str,
        shape: [usize; 3],
        images: Vec<u8>,
        labels: Vec<u8>,
        classes: usize,
    ) -> Self {
        Self::new(images, labels, DatasetInfo::toy(name, shape, classes)).unwrap()
    }
}

#[cfg(test)]
impl DatasetInfo {
    fn toy(name: &str, image_shape: [usize; 3], classes: usize) -> Self {
        let class_names = (0..classes).map(|class| format!("class {class}")).collect();
        Self { name: name.to_owned(), image_shape, class_names }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::idx::tests::encode;

    fn info(c: usize, h: usize, w: usize, classes: usize) -> DatasetInfo {
        DatasetInfo::toy("toy train", [c, h, w], classes)
    }

    #[test]
    fn a_sound_set_answers_for_its_samples() {
        let set = LabeledImages::new((0..24).collect(), vec![1, 0, 1, 2], info(1, 2, 3, 3)).unwrap();
        assert_eq!((set.len(), set.image_shape(), set.classes()), (4, [1, 2, 3], 3));
        assert_eq!(set.image(2), [12, 13, 14, 15, 16, 17]);
        assert_eq!(set.label(3), 2);
        assert_eq!(set.class_counts(), [1, 2, 1]);
        let head = set.head(2);
        assert_eq!((head.images(), head.labels()), (&set.images()[..12], &set.labels()[..2]));
        assert_eq!(set.head(99), set);
        let tail = set.tail(3);
        assert_eq!((tail.images(), tail.labels()), (&set.images()[6..], &set.labels()[1..]));
        assert_eq!((tail.name(), set.tail(99).len()), ("toy train, last 3", 4));
    }

    #[test]
    fn each_fault_has_its_message() {
        let fault = |n_pixels: usize, labels: &[u8], info| {
            LabeledImages::new(vec![0; n_pixels], labels.to_vec(), info).unwrap_err().to_string()
        };
        for (pixels, labels, expected) in [
            (12, &[0; 3][..], "2 images but 3 labels: expected one label for each image"),
            (12, &[1, 2], "label 2 of sample 1 is out of range: expected 0 to 1"),
            (13, &[1, 1], "13 bytes of pixels are not a whole number of 1 x 2 x 3 images"),
        ] {
            assert_eq!(fault(pixels, labels, info(1, 2, 3, 2)), format!("toy train: {expected}"));
        }
        for (pixels, info) in [(0, info(1, 2, 3, 2)), (6, info(0, 2, 3, 2)), (6, info(1, 2, 3, 0))] {
            assert!(fault(pixels, &[], info).starts_with("toy train: empty data set: N = "));
        }
    }

    #[test]
    fn faults_of_files_name_the_files() {
        let dir = tempfile::tempdir().unwrap();
        let (images, labels) = (dir.path().join("images"), dir.path().join("labels"));
        let load = |dims: &[u32], of_labels: &[u8]| {
            let pixels = dims.iter().product::<u32>() as usize;
            std::fs::write(&images, encode(dims, &vec![9; pixels])).unwrap();
            std::fs::write(&labels, encode(&[of_labels.len() as u32], of_labels)).unwrap();
            LabeledImages::from_idx_files(DatasetKind::Mnist, "train", &images, &labels)
        };
        let set = load(&[2, 28, 28], &[3, 9]).unwrap();
        assert_eq!((set.name(), set.len(), set.label(1)), ("mnist train", 2, 9));
        for (dims, of_labels, expected) in [
            (&[2, 28, 28][..], &[3, 10][..], "LABELS: label 10 of sample 1 is out of range: expected 0 to 9"),
            (
                &[2, 28, 28],
                &[3, 9, 1],
                "IMAGES and LABELS: 2 images but 3 labels: expected one label for each image",
            ),
            (
                &[0, 28, 28],
                &[],
                "IMAGES: empty data set: N = 0, C = 1, H = 28, W = 28, 10 classes (each must be at least 1)",
            ),
            (&[1, 28, 32], &[], "IMAGES: images of 28 x 32 pixels, expected 28 x 28 for mnist"),
            // Labels in the place of images.
            (
                &[2],
                &[],
                "IMAGES: wrong IDX magic at byte 0: expected 0x00000803 (unsigned bytes, 3 dimension(s)), found 0x00000801",
            ),
        ] {
            let expected = expected.replace("IMAGES", &images.display().to_string());
            let expected = expected.replace("LABELS", &labels.display().to_string());
            assert_eq!(load(dims, of_labels).unwrap_err().to_string(), expected);
        }
    }
}
