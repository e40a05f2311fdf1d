//! [`DataRecord`]: what a run writes down of its data, so that it is never mixed up with others.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk::{self, FileError, content};

/// The marks by which data are told from others, wherever they lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataMarks {
    /// The name of the data set.
    pub dataset: String,
    /// The number of training images.
    pub train_images: usize,
    /// The number of test images.
    pub test_images: usize,
    /// The SHA-256, in lower-case hexadecimal, of sizes, pixels, targets and names of classes of both, where the way the files
    /// are compressed is not part of it; of a folder of images, of the names of its files and of what they hold.
    pub sha256: String,
}

/// The data of a run: `data.json` of its folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRecord {
    /// The folder that they were read from; `None` of those that are part of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Their marks.
    #[serde(flatten)]
    pub marks: DataMarks,
}

impl DataRecord {
    /// Reads the record in a run's folder; `None` if the run has none, as one of version 0.1.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read or is broken.
    pub fn read(run: &Path) -> Result<Option<Self>, FileError> {
        let path = run.join("data.json");
        let Some(bytes) = disk::read_if_there(&path)? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes);
        read.map(Some).map_err(|error| content(&path, format!("not a record of data: {error}")))
    }

    /// Reads the record in the folder of a run whose weights say that they are of these data.
    ///
    /// # Errors
    /// As [`DataRecord::read`], and if there is none or it is of other data.
    pub fn read_for(run: &Path, marks: Option<&DataMarks>) -> Result<Option<Self>, FileError> {
        let record = Self::read(run)?;
        let found = match (&record, marks) {
            (Some(record), Some(marks)) if record.marks != *marks => "its data.json is of other data",
            (None, Some(_)) => "its data.json is missing, so that nothing says where the data lie",
            _ => return Ok(record),
        };
        let DataMarks { dataset, train_images, test_images, sha256 } = marks.expect("of two marks");
        Err(content(
            run,
            format!(
                "{found}; its weights are of {dataset}, {train_images} + {test_images} images, SHA-256 {sha256}"
            ),
        ))
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a record is JSON") + "\n"
    }

    /// Tells whether both are the same images with the same targets, wherever they lie.
    #[must_use]
    pub fn same_data(&self, other: &Self) -> bool {
        let (own, other) = (&self.marks, &other.marks);
        (own.train_images, own.test_images, &own.sha256)
            == (other.train_images, other.test_images, &other.sha256)
    }
}

/// Bytes of a hash, in lower-case hexadecimal.
#[cfg(any(test, feature = "download", feature = "image"))]
pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Display for DataRecord {
    /// One line with all of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, marks: DataMarks { dataset, train_images, test_images, sha256 } } = self;
        let place = folder.as_ref().map_or("the program".to_owned(), |folder| folder.display().to_string());
        write!(f, "{dataset} in {place}, {train_images} + {test_images} images, SHA-256 {sha256}")
    }
}
