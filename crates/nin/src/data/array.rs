//! [`ArrayDataset`]: images and targets from arrays in memory, those of published files among them.

#[cfg(feature = "image")]
use sha2::{Digest, Sha256};

use super::dataset::{Dataset, Image, Target, empty};
use super::error::DataError;

/// Images and targets in arrays: 8-bit or `f32` pixels, class numbers or dense values. There is at least one image, and every
/// class has a name if any has.
///
/// ```
/// use nin::data::ArrayDataset;
///
/// // Four images of 1 x 2 x 2 pixels with a class each, and the same with two values to regress on each.
/// let classes = ArrayDataset::new([1, 2, 2], vec![0u8; 16], vec![0usize, 1, 1, 0])?;
/// let values = ArrayDataset::new([1, 2, 2], vec![0.5f32; 16], vec![[0.1f32, 0.2]; 4])?;
/// # Ok::<(), nin::data::DataError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ArrayDataset {
    pub(super) name: String,
    shape: [usize; 3],
    /// Of all samples, N x C x H x W.
    images: Image<'static>,
    targets: Targets,
    len: usize,
    pub(super) class_names: Vec<String>,
}

/// The targets of all images.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// The numbers of their classes, N.
    Classes(Vec<usize>),
    /// Dense values, N x K.
    Values {
        /// The values.
        values: Vec<f32>,
        /// K, the values of a sample.
        width: usize,
    },
}

impl From<Vec<usize>> for Targets {
    fn from(classes: Vec<usize>) -> Self {
        Self::Classes(classes)
    }
}

impl<const K: usize> From<Vec<[f32; K]>> for Targets {
    fn from(values: Vec<[f32; K]>) -> Self {
        Self::Values { values: values.into_flattened(), width: K }
    }
}

impl ArrayDataset {
    /// A set of images of C x H x W pixels, one after the other, with as many targets, named `arrays`.
    ///
    /// # Errors
    /// [`DataError::Samples`] if an extent is 0 or there is no image, the pixels are not whole images, or images and targets
    /// differ in number.
    pub fn new(
        shape: [usize; 3],
        images: impl Into<Image<'static>>,
        targets: impl Into<Targets>,
    ) -> Result<Self, DataError> {
        Self::named("arrays", &[], shape, images, targets)
    }

    /// A set with a name for messages and the names of its classes, by label; none if they have no names.
    ///
    /// # Errors
    /// As [`ArrayDataset::new`], and if a label is none of the classes that have names.
    pub fn named(
        name: &str,
        class_names: &[&str],
        shape: [usize; 3],
        images: impl Into<Image<'static>>,
        targets: impl Into<Targets>,
    ) -> Result<Self, DataError> {
        let refuse = |reason| Err(DataError::Samples { name: name.to_owned(), reason });
        let (images, targets) = (images.into(), targets.into());
        let ([c, h, w], image) = (shape, shape.iter().product());
        let pixels = match &images {
            Image::Bytes(pixels) => pixels.len(),
            Image::Floats(pixels) => pixels.len(),
        };
        let labels = match &targets {
            Targets::Classes(classes) => classes.len(),
            Targets::Values { values, width } if *width > 0 && values.len().is_multiple_of(*width) => {
                values.len() / width
            }
            // Not a whole number of samples.
            Targets::Values { .. } => 0,
        };
        if image == 0 || pixels == 0 {
            return Err(empty(name, pixels.checked_div(image).unwrap_or(labels), shape));
        }
        if !pixels.is_multiple_of(image) {
            return refuse(format!("{pixels} pixels are not a whole number of {c} x {h} x {w} images"));
        }
        let len = pixels / image;
        if len != labels {
            return refuse(format!("{len} images but {labels} labels: expected one label for each image"));
        }
        if let (Targets::Classes(labels), Some(last)) = (&targets, class_names.len().checked_sub(1))
            && let Some(index) = labels.iter().position(|&label| label > last)
        {
            let label = labels[index];
            return refuse(format!("label {label} of sample {index} is out of range: expected 0 to {last}"));
        }
        let class_names = class_names.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { name: name.to_owned(), shape, images, targets, len, class_names })
    }

    /// The same images with other targets and no names of classes.
    ///
    /// # Errors
    /// [`DataError::Samples`] if images and targets differ in number.
    pub fn with_targets(self, targets: impl Into<Targets>) -> Result<Self, DataError> {
        Self::named(&self.name, &[], self.shape, self.images, targets)
    }

    /// The class of each image, N; empty if targets are dense.
    pub fn labels(&self) -> &[usize] {
        if let Targets::Classes(labels) = &self.targets { labels } else { &[] }
    }

    /// Hashes all that tells it from another set but its name: sizes, pixels, targets, names of classes.
    #[cfg(feature = "image")]
    pub(super) fn feed(&self, hash: &mut Sha256) {
        let mut number = |number: usize| hash.update((number as u64).to_le_bytes());
        [self.len].iter().chain(&self.shape).for_each(|&extent| number(extent));
        match &self.targets {
            Targets::Classes(classes) => classes.iter().for_each(|&class| number(class)),
            Targets::Values { values, width } => {
                number(*width);
                hash.update(bytemuck::cast_slice::<_, u8>(values));
            }
        }
        match &self.images {
            Image::Bytes(pixels) => hash.update(pixels),
            Image::Floats(pixels) => hash.update(bytemuck::cast_slice::<_, u8>(pixels)),
        }
        for name in &self.class_names {
            hash.update(name);
            hash.update("\n");
        }
    }
}

impl Dataset for ArrayDataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.len
    }

    fn image_shape(&self) -> [usize; 3] {
        self.shape
    }

    fn get(&self, index: usize) -> Result<(Image<'_>, Target<'_>), DataError> {
        let image: usize = self.shape.iter().product();
        let pixels = index * image..(index + 1) * image;
        let image = match &self.images {
            Image::Bytes(all) => Image::Bytes(all[pixels].into()),
            Image::Floats(all) => Image::Floats(all[pixels].into()),
        };
        Ok((image, self.target(index)?))
    }

    fn target(&self, index: usize) -> Result<Target<'_>, DataError> {
        Ok(match &self.targets {
            Targets::Classes(classes) => Target::Class(classes[index]),
            Targets::Values { values, width } => Target::Values(values[index * width..][..*width].into()),
        })
    }

    fn class_names(&self) -> &[String] {
        &self.class_names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_slices_of_the_arrays() {
        let floats: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let set = ArrayDataset::new([1, 2, 2], floats, vec![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]]).unwrap();
        assert_eq!(set.len(), 3);
        let (image, target) = set.get(1).unwrap();
        assert_eq!(image, Image::Floats(vec![4.0, 5.0, 6.0, 7.0].into()));
        assert_eq!(target, Target::Values(vec![3.0, 4.0].into()));
        let set = ArrayDataset::new([3, 1, 1], (0..6).collect::<Vec<u8>>(), vec![7usize, 300]).unwrap();
        assert_eq!(set.get(1).unwrap(), (Image::Bytes(vec![3, 4, 5].into()), Target::Class(300)));
    }

    #[test]
    fn the_same_images_may_have_other_targets() {
        let set = ArrayDataset::named("toy", &["a", "b"], [1; 3], vec![1u8, 2], vec![0usize, 1]).unwrap();
        let other = set.with_targets(vec![[0.5f32, 1.0], [2.0, 3.0]]).unwrap();
        assert_eq!(other.target(1).unwrap(), Target::Values(vec![2.0, 3.0].into()));
        assert!(other.class_names().is_empty() && other.labels().is_empty());
        assert!(other.with_targets(vec![0usize; 3]).is_err());
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        let refused = |pixels: usize, classes: usize| {
            ArrayDataset::new([1, 2, 3], vec![0u8; pixels], vec![0usize; classes]).unwrap_err().to_string()
        };
        assert_eq!(refused(13, 2), "arrays: 13 pixels are not a whole number of 1 x 2 x 3 images");
        assert_eq!(refused(12, 3), "arrays: 2 images but 3 labels: expected one label for each image");
        let empty = "arrays: empty data set: N = 0, C = 1, H = 2, W = 3 (each must be at least 1)";
        assert_eq!(refused(0, 0), empty);
        let flat = ArrayDataset::new([0, 2, 3], vec![0u8; 6], vec![0usize; 1]).unwrap_err().to_string();
        assert!(flat.starts_with("arrays: empty data set: N = 1, C = 0"), "{flat}");
        let error =
            ArrayDataset::named("toy", &["a", "b"], [1, 1, 1], vec![0u8; 2], vec![1usize, 2]).unwrap_err();
        assert_eq!(error.to_string(), "toy: label 2 of sample 1 is out of range: expected 0 to 1");
        let partial = Targets::Values { values: vec![0.0; 5], width: 2 };
        assert!(ArrayDataset::new([1, 1, 1], vec![0u8; 2], partial).is_err());
    }
}
