//! Global contrast normalization and ZCA whitening, as Network in Network had them from Maxout (Goodfellow et al. 2013): what
//! pylearn2's `make_cifar10_gcn_whitened.py` does to CIFAR-10.
//!
//! An image's numbers, of all channels together, lose their mean and are brought to the Euclidean norm 55 (GCN). ZCA (Bell and
//! Sejnowski 1997; Krizhevsky 2009) then subtracts the mean image of the training images and multiplies by P = (C + 0.1
//! I)^(-1/2), C being their covariance: neighboring pixels are no longer alike, and the image still looks like itself.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use tensor::ops::Linear;
use tensor::{BufferPool, Context, Element, Op, Tensor};

use super::dataset::{Dataset, Image};
use super::error::DataError;
use crate::disk::{FileError, content};
use crate::names::choices;
use crate::weights_file::load_tensors;

choices! {
    /// The step for whole images, in the place of a normalization of their channels.
    "whitening" enum Whiten {
        /// Nothing.
        None = "none",
        /// Global contrast normalization: mean 0 and Euclidean norm 55 of each image.
        Gcn = "gcn",
        /// The same, then ZCA fitted to the training images.
        GcnZca = "gcn-zca",
    }
}

/// The norm of an image after global contrast normalization.
pub(crate) const SCALE: f64 = 55.0;
/// A norm in units of [`SCALE`] below which an image is the same everywhere, and is not divided.
const SMALLEST: f64 = 1e-8;
/// The number that is added to the variances: pylearn2's `filter_bias`.
const BIAS: f64 = 0.1;
/// The most numbers of an image that ZCA is fitted to: the matrix has their square, and the fit needs six of it in 64 bits.
const MOST: usize = 8192;
/// The beginning of the names of its tensors in files of weights.
pub(crate) const PREFIX: &str = "whitening.";

/// The way from an image to what a network sees, at the image's own size: global contrast normalization, alone or with ZCA.
#[derive(Debug, Clone, PartialEq)]
pub struct Whitening {
    shape: [usize; 3],
    zca: Option<Zca>,
}

#[derive(Debug, Clone, PartialEq)]
struct Zca {
    /// The mean of the training images, C x H x W.
    mean: Tensor<f32>,
    /// P, a row and a column for each number of an image; symmetric.
    matrix: Tensor<f32>,
}

impl Whitening {
    /// The whitening of this kind for the images of a data set, ZCA fitted to all of them; `None` if there is to be none. The
    /// work is done on rayon's threads, and no bit depends on their number.
    ///
    /// # Errors
    /// [`DataError::Options`] if ZCA's matrix would be too large, or an image has a number that is not finite.
    pub fn fit(kind: Whiten, dataset: &dyn Dataset) -> Result<Option<Self>, DataError> {
        let (shape, name) = (dataset.image_shape(), dataset.name());
        let zca = match kind {
            Whiten::None => return Ok(None),
            Whiten::Gcn => None,
            Whiten::GcnZca => {
                let (numbers, [c, h, w]) = (shape.iter().product(), shape);
                let refuse = |reason| Err(DataError::Options(format!("whiten: {name}: {reason}")));
                if !(1..=MOST).contains(&numbers) {
                    return refuse(format!(
                        "images of {c} x {h} x {w} have {numbers} numbers, expected 1 to {MOST}"
                    ));
                }
                let (mean, covariance) = moments(dataset, numbers)?;
                let Some(matrix) = inverse_root(covariance, numbers) else {
                    return refuse("an image has a number that is not finite".to_owned());
                };
                Some(Zca {
                    mean: Tensor::from_fn(shape, |index| mean[index] as f32),
                    matrix: Tensor::from_fn([numbers; 2], |index| matrix[index] as f32),
                })
            }
        };
        Ok(Some(Self { shape, zca }))
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Whiten {
        if self.zca.is_some() { Whiten::GcnZca } else { Whiten::Gcn }
    }

    /// C, H and W of the images that it is for.
    #[must_use]
    pub fn image_shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Images as the network sees them, N x C x H x W, with storage from `pool`. The bits of one do not depend on the others.
    ///
    /// # Errors
    /// [`DataError::Options`] if an image is not of C x H x W pixels.
    pub fn apply<'a>(
        &self,
        pool: &Arc<BufferPool>,
        images: impl ExactSizeIterator<Item = &'a Image<'a>>,
    ) -> Result<Tensor<f32>, DataError> {
        let ([c, h, w], count) = (self.shape, images.len());
        let mut all = Tensor::empty_in(pool, [count, c * h * w]);
        for (image, row) in images.zip(all.data_mut().chunks_mut(c * h * w)) {
            contrast(image, row)?;
            if let Some(Zca { mean, .. }) = &self.zca {
                row.iter_mut().zip(mean.data()).for_each(|(value, mean)| *value -= mean);
            }
        }
        if let Some(Zca { matrix, .. }) = &self.zca {
            let context = Context::evaluation(Arc::clone(pool));
            all = Linear.forward(&context, vec![all, matrix.clone()]).0;
        }
        Ok(all.reshape([count, c, h, w]).expect("as many numbers"))
    }

    /// The whitening of this kind, for images of this shape, in a file of weights.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read or has another.
    pub fn load(kind: Whiten, shape: [usize; 3], path: &Path) -> Result<Option<Self>, FileError> {
        let tensors = taken(&mut load_tensors(path)?.0);
        Self::of_tensors(kind, shape, tensors).map_err(|reason| content(path, reason))
    }

    /// Its tensors in a file of weights: none of GCN, which is the same for all data.
    pub(crate) fn tensors(&self) -> Vec<(String, &Tensor<f32>)> {
        let named = |[mean, matrix]: [_; 2]| {
            [("mean", mean), ("matrix", matrix)].map(|(name, tensor)| (format!("{PREFIX}{name}"), tensor))
        };
        self.zca().into_iter().flat_map(named).collect()
    }

    /// ZCA's mean image, C x H x W, and its matrix.
    pub(crate) fn zca(&self) -> Option<[&Tensor<f32>; 2]> {
        self.zca.as_ref().map(|Zca { mean, matrix }| [mean, matrix])
    }

    /// The whitening of this kind, for images of this shape, whose tensors these are.
    pub(crate) fn of_tensors(
        kind: Whiten,
        shape: [usize; 3],
        mut tensors: BTreeMap<String, Tensor<f32>>,
    ) -> Result<Option<Self>, String> {
        let mut take = |name: &str, shape: &[usize]| {
            let name = format!("{PREFIX}{name}");
            let tensor = tensors.remove(&name).ok_or(format!("no tensor {name}, as {kind} has"))?;
            if tensor.shape()[..] != *shape {
                let expected = tensor::Shape::new(shape);
                return Err(format!("tensor {name} is {}, expected {expected}", tensor.shape()));
            }
            match tensor.data().iter().find(|number| !number.is_finite()) {
                Some(number) => Err(format!("tensor {name} has a number {number}, expected finite ones")),
                None => Ok(tensor),
            }
        };
        let zca = match kind {
            Whiten::GcnZca => {
                let numbers = shape.iter().try_fold(1usize, |all, &extent| all.checked_mul(extent));
                let numbers = numbers.filter(|&numbers| numbers <= MOST);
                let numbers = numbers.ok_or(format!("images of more than {MOST} numbers have no {kind}"))?;
                Some(Zca { mean: take("mean", &shape)?, matrix: take("matrix", &[numbers; 2])? })
            }
            Whiten::None | Whiten::Gcn => None,
        };
        match tensors.keys().next() {
            Some(name) => Err(format!("a tensor {name}, which {kind} has not")),
            None if kind == Whiten::None => Ok(None),
            None => Ok(Some(Self { shape, zca })),
        }
    }
}

/// Takes the tensors of a whitening out of those of a file.
pub(crate) fn taken(tensors: &mut BTreeMap<String, Tensor<f32>>) -> BTreeMap<String, Tensor<f32>> {
    tensors.extract_if(.., |name, _| name.starts_with(PREFIX)).collect()
}

/// Global contrast normalization of an image.
fn contrast(image: &Image<'_>, row: &mut [f32]) -> Result<(), DataError> {
    fn of<P: Copy + Into<f64>>(pixels: &[P], row: &mut [f32]) -> Result<(), DataError> {
        if pixels.len() != row.len() {
            let (found, expected) = (pixels.len(), row.len());
            return Err(DataError::Options(format!("whiten: {found} pixels, expected {expected}")));
        }
        let numbers = || pixels.iter().map(|&pixel| pixel.into());
        let mean = numbers().sum::<f64>() / pixels.len() as f64;
        let norm = numbers().map(|number| (number - mean) * (number - mean)).sum::<f64>().sqrt();
        let divisor = if norm / SCALE < SMALLEST { 1.0 } else { norm / SCALE };
        row.iter_mut().zip(numbers()).for_each(|(value, number)| *value = ((number - mean) / divisor) as f32);
        Ok(())
    }
    match image {
        Image::Bytes(pixels) => of(pixels, row),
        Image::Floats(pixels) => of(pixels, row),
    }
}

/// Mean and covariance (of the population) of the images after GCN, `n` numbers each.
fn moments(dataset: &dyn Dataset, n: usize) -> Result<(Vec<f64>, Vec<f64>), DataError> {
    /// Images whose products are summed together.
    const TOGETHER: usize = 1024;
    let (count, mut mean, mut covariance) = (dataset.len(), vec![0.0; n], vec![0.0; n * n]);
    for from in (0..count).step_by(TOGETHER) {
        let k = TOGETHER.min(count - from);
        let mut images = vec![0.0; k * n];
        images.par_chunks_mut(n).enumerate().try_for_each(|(index, image)| {
            let mut row = vec![0.0; n];
            contrast(&dataset.get(from + index)?.0, &mut row)?;
            image.iter_mut().zip(row).for_each(|(own, value)| *own = value.into());
            Ok::<_, DataError>(())
        })?;
        images.chunks(n).for_each(|image| add(&mut mean, image));
        add(&mut covariance, &symmetric([n, k], (&images, [1, n]), &images));
    }
    mean.iter_mut().for_each(|sum| *sum /= count as f64);
    let rows = covariance.chunks_mut(n).zip(&mean);
    rows.for_each(|(row, own)| {
        row.iter_mut().zip(&mean).for_each(|(sum, other)| *sum = *sum / count as f64 - own * other);
    });
    Ok((mean, covariance))
}

fn add(sums: &mut [f64], terms: &[f64]) {
    sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}

/// The product of an n x k matrix, with its strides, and a k x n matrix, row by row, where it is symmetric: half is computed.
fn symmetric([n, k]: [usize; 2], (a, strides): (&[f64], [usize; 2]), b: &[f64]) -> Vec<f64> {
    /// Rows and columns of a task, whatever the number of threads.
    const BLOCK: usize = 256;
    let starts = || (0..n).step_by(BLOCK);
    let places: Vec<_> = starts().flat_map(|row| starts().map(move |column| (row, column))).collect();
    let blocks = places.into_par_iter().filter(|(row, column)| row <= column).map(|(row, column)| {
        let [rows, columns] = [row, column].map(|start| BLOCK.min(n - start));
        let mut block = vec![0.0; rows * columns];
        let (a, b) = ((&a[row * strides[0]..], strides), (&b[column..], [n, 1]));
        f64::matmul([rows, k, columns], a, b, &mut block, false);
        (row, column, columns, block)
    });
    let mut product = vec![0.0; n * n];
    for (row, column, columns, block) in blocks.collect::<Vec<_>>() {
        for (index, value) in block.into_iter().enumerate() {
            let (row, column) = (row + index / columns, column + index % columns);
            product[row * n + column] = value;
            product[column * n + row] = value;
        }
    }
    product
}

/// `(C + 0.1 I)^(-1/2)` of a covariance C of `n` numbers; `None` if a number of it is not finite.
///
/// The coupled Newton-Schulz iteration needs nothing but products: Y goes to A^(1/2) and Z to A^(-1/2), all of them polynomials
/// of A, which commute and are symmetric. The smallest eigenvalue is known, since that of C is at least 0, so each step is
/// scaled to do the most for it (Chen and Chow, "A stable scaling of Newton-Schulz for improving the sign function computation
/// of a Hermitian matrix", 2014). After GCN the sum of all is at most 55^2, so that ten steps are the most.
fn inverse_root(mut c: Vec<f64>, n: usize) -> Option<Vec<f64>> {
    /// The distance of Z Y from I, in any number, that the next step squares.
    const NEAR: f64 = 1e-6;
    c.iter_mut().step_by(n + 1).for_each(|variance| *variance += BIAS);
    // At least the largest eigenvalue.
    let norm = c.iter().map(|value| value * value).sum::<f64>().sqrt();
    if !norm.is_finite() {
        return None;
    }
    c.iter_mut().for_each(|value| *value /= norm);
    let mut lowest = (BIAS / norm).sqrt();
    let (mut y, mut z) = (c, None::<Vec<f64>>);
    loop {
        // Z begins as I.
        let mut step = z.as_ref().map_or_else(|| y.clone(), |z| symmetric([n, n], (z, [n, 1]), &y));
        let off = |(index, value): (usize, &f64)| (value - f64::from(u8::from(index % (n + 1) == 0))).abs();
        let far = step.iter().enumerate().map(off).fold(0.0, f64::max);
        let near = far < NEAR;
        let scale = if near { 1.0 } else { (3.0 / (1.0 + lowest + lowest * lowest)).sqrt() };
        lowest *= 0.5 * scale * (3.0 - (scale * lowest).powi(2));
        step.iter_mut().for_each(|value| *value *= -0.5 * scale.powi(3));
        step.iter_mut().step_by(n + 1).for_each(|value| *value += 1.5 * scale);
        let next = z.as_ref().map_or_else(|| step.clone(), |z| symmetric([n, n], (&step, [n, 1]), z));
        if near {
            return Some(next.into_iter().map(|value| value / norm.sqrt()).collect());
        }
        z = Some(next);
        y = symmetric([n, n], (&y, [n, 1]), &step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Subset;
    use crate::data::{ArrayDataset, files};

    fn pictures(count: usize) -> Subset {
        Subset::new(Arc::new(files::bundled().unwrap().train), 0..count)
    }

    fn whitened(kind: Whiten, set: &dyn Dataset) -> Tensor<f32> {
        let whitening = Whitening::fit(kind, set).unwrap().unwrap();
        let images: Vec<_> = (0..set.len()).map(|index| set.get(index).unwrap().0).collect();
        whitening.apply(&BufferPool::poisoning(), images.iter()).unwrap()
    }

    /// Covariance of rows of `n` numbers, by the definition.
    fn covariance(rows: &Tensor<f32>, n: usize) -> Vec<f64> {
        let count = rows.len() / n;
        let mut rows: Vec<f64> = rows.data().iter().map(|&value| value.into()).collect();
        let mean: Vec<f64> =
            (0..n).map(|at| rows.iter().skip(at).step_by(n).sum::<f64>() / count as f64).collect();
        rows.chunks_mut(n).for_each(|row| row.iter_mut().zip(&mean).for_each(|(value, mean)| *value -= mean));
        let mut covariance = vec![0.0; n * n];
        f64::matmul([n, count, n], (&rows, [1, n]), (&rows, [n, 1]), &mut covariance, false);
        covariance.into_iter().map(|sum| sum / count as f64).collect()
    }

    /// For an eigenvalue l of C, the covariance W of whitened images has l / (l + 0.1): W (C + 0.1 I) = C. Most of them are
    /// 0, since there are fewer images than numbers of one.
    #[test]
    fn what_is_whitened_has_the_covariance_of_the_definition() {
        let (set, n) = (pictures(500), 784);
        let [mut c, w] = [Whiten::Gcn, Whiten::GcnZca].map(|kind| covariance(&whitened(kind, &set), n));
        let (expected, mut found) = (c.clone(), vec![0.0; n * n]);
        c.iter_mut().step_by(n + 1).for_each(|variance| *variance += BIAS);
        f64::matmul([n; 3], (&w, [n, 1]), (&c, [n, 1]), &mut found, false);
        let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest;
        assert!(far < 1e-5, "{far}");
    }

    #[test]
    fn bits_depend_on_neither_threads_nor_neighbors() {
        let set = pictures(70);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Whitening::fit(Whiten::GcnZca, &set)).unwrap().unwrap()
        };
        let whitening = with(1);
        assert_eq!(whitening, with(3));
        let images: Vec<_> = (0..set.len()).map(|index| set.get(index).unwrap().0).collect();
        let all = whitening.apply(BufferPool::global(), images.iter()).unwrap();
        for (from, to) in [(0, 1), (3, 20), (69, 70)] {
            let some = whitening.apply(BufferPool::global(), images[from..to].iter()).unwrap();
            assert_eq!(some.data(), &all.data()[from * 784..to * 784]);
        }
    }

    #[test]
    fn what_cannot_be_whitened_is_refused() {
        let refused = |set: ArrayDataset| Whitening::fit(Whiten::GcnZca, &set).unwrap_err().to_string();
        let large = ArrayDataset::new([3, 64, 64], vec![0u8; 12288], vec![0usize]).unwrap();
        let expected = "whiten: arrays: images of 3 x 64 x 64 have 12288 numbers, expected 1 to 8192";
        assert_eq!(refused(large), expected);
        let broken = ArrayDataset::new([1, 1, 2], vec![0.5, f32::NAN], vec![0usize]).unwrap();
        assert_eq!(refused(broken), "whiten: arrays: an image has a number that is not finite");
        let whitening = Whitening::fit(Whiten::Gcn, &pictures(1)).unwrap().unwrap();
        let error = whitening.apply(BufferPool::global(), [Image::from(vec![0u8; 3])].iter()).unwrap_err();
        assert_eq!(error.to_string(), "whiten: 3 pixels, expected 784");
    }

    #[test]
    fn tensors_that_are_not_its_own_are_refused() {
        let set = ArrayDataset::new([1, 1, 2], vec![0u8, 9, 7, 0], vec![0usize; 2]).unwrap();
        let whitening = Whitening::fit(Whiten::GcnZca, &set).unwrap();
        let tensors = || -> BTreeMap<_, _> {
            let own = whitening.as_ref().unwrap().tensors().into_iter();
            own.map(|(name, tensor)| (name, tensor.clone())).collect()
        };
        let of = |kind, tensors| Whitening::of_tensors(kind, [1, 1, 2], tensors);
        assert_eq!(of(Whiten::GcnZca, tensors()).unwrap(), whitening);
        assert_eq!(of(Whiten::None, BTreeMap::new()).unwrap(), None);
        let refused = |name: &str, tensor: Option<Tensor<f32>>| {
            let mut tensors = tensors();
            tensors.remove(name);
            tensors.extend(tensor.map(|tensor| (name.to_owned(), tensor)));
            of(Whiten::GcnZca, tensors).unwrap_err()
        };
        let (mean, matrix) = ("whitening.mean", "whitening.matrix");
        assert_eq!(refused(matrix, None), "no tensor whitening.matrix, as gcn-zca has");
        let found = refused(matrix, Some(Tensor::zeros([2, 3])));
        assert_eq!(found, "tensor whitening.matrix is 2 x 3, expected 2 x 2");
        let found = refused(mean, Some(Tensor::full([1, 1, 2], f32::INFINITY)));
        assert_eq!(found, "tensor whitening.mean has a number inf, expected finite ones");
        let found = refused("whitening.other", Some(Tensor::zeros([1])));
        assert_eq!(found, "a tensor whitening.other, which gcn-zca has not");
        assert!(of(Whiten::Gcn, tensors()).is_err() && of(Whiten::GcnZca, BTreeMap::new()).is_err());
    }
}
