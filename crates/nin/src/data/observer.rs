//! News while a data set is looked for, for whoever shows them: the library itself prints nothing.

use std::path::Path;
use std::sync::Arc;

use super::kind::DatasetKind;

/// Something that happened while a data set was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataEvent<'a> {
    /// The user's folder has not all files of the data set, so that the cache is looked in.
    Incomplete {
        /// The user's folder.
        dir: &'a Path,
        /// The data set.
        kind: DatasetKind,
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

/// A function that is told of each [`DataEvent`].
pub type Observer = Arc<dyn Fn(DataEvent<'_>) + Send + Sync>;
