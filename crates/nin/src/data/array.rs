//! [`ArrayDataset`]: images and targets from arrays in memory.

use super::dataset::{Dataset, Image, Target, count};
use super::error::DataError;

/// Images and targets in arrays: 8-bit or `f32` pixels, class numbers or dense values.
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
    shape: [usize; 3],
    /// Of all samples, N x C x H x W.
    images: Image<'static>,
    targets: Targets,
    len: usize,
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
    /// A set of images of C x H x W pixels, one after the other, with as many targets.
    ///
    /// # Errors
    /// [`DataError::Samples`] if an extent is 0 or there is no image, the pixels are not whole images, or images and targets differ
    /// in number.
    pub fn new(
        shape: [usize; 3],
        images: impl Into<Image<'static>>,
        targets: impl Into<Targets>,
    ) -> Result<Self, DataError> {
        let (images, targets) = (images.into(), targets.into());
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
        let len = count("arrays", shape, pixels, labels, labels)?;
        Ok(Self { shape, images, targets, len })
    }
}

impl Dataset for ArrayDataset {
    fn name(&self) -> &str {
        "arrays"
    }

    fn len(&self) -> usize {
        self.len
    }

    fn image_shape(&self) -> [usize; 3] {
        self.shape
    }

    fn get(&self, index: usize) -> (Image<'_>, Target<'_>) {
        let image: usize = self.shape.iter().product();
        let pixels = index * image..(index + 1) * image;
        let image = match &self.images {
            Image::Bytes(all) => Image::Bytes(all[pixels].into()),
            Image::Floats(all) => Image::Floats(all[pixels].into()),
        };
        let target = match &self.targets {
            Targets::Classes(classes) => Target::Class(classes[index]),
            Targets::Values { values, width } => Target::Values(values[index * width..][..*width].into()),
        };
        (image, target)
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
        let (image, target) = set.get(1);
        assert_eq!(image, Image::Floats(vec![4.0, 5.0, 6.0, 7.0].into()));
        assert_eq!(target, Target::Values(vec![3.0, 4.0].into()));
        let set = ArrayDataset::new([3, 1, 1], (0..6).collect::<Vec<u8>>(), vec![7usize, 300]).unwrap();
        assert_eq!(set.get(1), (Image::Bytes(vec![3, 4, 5].into()), Target::Class(300)));
    }

    #[test]
    fn arrays_that_do_not_fit_are_refused() {
        let refused = |pixels: usize, classes: usize| {
            ArrayDataset::new([1, 2, 3], vec![0u8; pixels], vec![0usize; classes]).unwrap_err().to_string()
        };
        assert_eq!(refused(13, 2), "arrays: 13 bytes of pixels are not a whole number of 1 x 2 x 3 images");
        assert_eq!(refused(12, 3), "arrays: 2 images but 3 labels: expected one label for each image");
        assert!(refused(0, 0).starts_with("arrays: empty data set: N = 0, C = 1, H = 2, W = 3"));
        let partial = Targets::Values { values: vec![0.0; 5], width: 2 };
        assert!(ArrayDataset::new([1, 1, 1], vec![0u8; 2], partial).is_err());
    }
}
