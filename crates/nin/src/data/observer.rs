//! Events while a data set is looked for and read, for whoever shows them: the library itself prints nothing.

use std::path::Path;
use std::sync::Arc;

use super::kind::DatasetKind;
use crate::disk::FileError;

/// Something that happened while a data set was looked for or read.
#[derive(Debug, Clone, Copy)]
pub enum DataEvent<'a> {
    /// The user's folder has not all files of the data set, so that the cache is looked in.
    Incomplete {
        /// The user's folder.
        dir: &'a Path,
        /// The data set.
        kind: DatasetKind,
    },
    /// So many image files of a folder have been decoded.
    Decoded {
        /// Files so far, this one among them.
        done: usize,
        /// Files of the folder.
        all: usize,
    },
    /// A file of a folder of images cannot be read, and is left out.
    LeftOut {
        /// The file, and what is wrong with it.
        error: &'a FileError,
    },
    /// A download stands here. The first for a file comes before anything is asked for, with what an earlier attempt left.
    Received {
        /// The file's name.
        name: &'a str,
        /// Bytes of the file.
        size: u64,
        /// Bytes of it that are on disk.
        done: u64,
    },
}

/// A function that gets each [`DataEvent`].
pub type Observer = Arc<dyn Fn(DataEvent<'_>) + Send + Sync>;
