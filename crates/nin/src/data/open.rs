//! From the name of any data set, a folder of images too, to its images and what identifies them.

use std::path::PathBuf;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::dataset::{Dataset, Splits};
use super::error::DataError;
use super::files::{bundled, load_dir};
use super::folder::{FolderOptions, ImageFolder};
use super::kind::{DatasetKind, Format};
use super::load::{DataSources, locate};
use super::record::{DataMarks, DataRecord, hex};
use crate::disk::io;

/// Loads both splits of any data set, and tells their marks. Images that have sizes of their own are brought to H and W; a folder
/// without test images has a test set without samples.
///
/// # Errors
/// Those of [`load`](super::load()) and of [`ImageFolder::open`].
pub fn open(
    kind: DatasetKind,
    size: [usize; 2],
    sources: &DataSources,
) -> Result<(Splits<Arc<dyn Dataset>>, DataRecord), DataError> {
    let found = locate(kind, sources)?;
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(io(path, "find"));
    let folder = found.as_ref().map(absolute).transpose()?;
    let (splits, sha256): (Splits<Arc<dyn Dataset>>, String) = match (kind.definition().format, &found) {
        (Format::Folder, Some(path)) => {
            let &DataSources { image_cache: cache, strict_images: strict, threads, .. } = sources;
            let options = FolderOptions { size, cache, strict, threads };
            let (splits, sha256) = ImageFolder::open(path, options, &sources.observer)?;
            (splits.into(), sha256)
        }
        _ => {
            let splits = found.map_or_else(bundled, |folder| load_dir(kind, &folder))?;
            let mut hash = Sha256::new();
            [&splits.train, &splits.test].into_iter().for_each(|set| set.feed(&mut hash));
            (splits.into(), hex(&hash.finalize()))
        }
    };
    let (dataset, train_images, test_images) =
        (kind.name().to_owned(), splits.train.len(), splits.test.len());
    Ok((splits, DataRecord { folder, marks: DataMarks { dataset, train_images, test_images, sha256 } }))
}
