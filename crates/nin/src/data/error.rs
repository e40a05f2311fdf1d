//! What can be wrong with data: each message is a single line saying what, where, expected and found.

use std::io;
use std::path::{Path, PathBuf};

/// Anything that can go wrong between a file on disk (or a server) and a batch.
///
/// Offsets count bytes of the IDX stream, after decompression where the file is compressed. No message holds
/// a line break, so that a command line can print it as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused to open, read, write or rename a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb: "open", "read", ...
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },

    /// A file is missing from its folder, is written by another process, or does not hold what it should: it is broken, cut
    /// off, too long, or has images of another size.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file, or the folder that it is missing from.
        path: PathBuf,
        /// What is wrong, with the offset, what was expected and what was found.
        reason: String,
    },

    /// The data set is not where it should be and cannot be fetched.
    #[error("data set {name} not found: {reason}")]
    NotFound {
        /// The data set's name.
        name: &'static str,
        /// Where it was looked for and what to do.
        reason: String,
    },

    /// Images and targets that make no data set: there are none, they differ in number, an image is not whole, or a label names
    /// no class.
    #[error("{name}: {reason}")]
    Samples {
        /// The data set, or its files.
        name: String,
        /// What is wrong, with sizes.
        reason: String,
    },

    /// What was asked of a loader, a sampler or a resizer cannot be done.
    #[error("{0}")]
    Options(String),

    /// A batch could not be prepared: the thread failed, or the sampler drew what is not there.
    #[error("loader: batch {index} could not be prepared: {message}")]
    Worker {
        /// The batch's number within its epoch.
        index: usize,
        /// What the thread had to say.
        message: String,
    },

    /// A download failed: there was no connection, or the server sent something else than the file.
    #[error("{url}: {reason}")]
    Download {
        /// What was asked for.
        url: String,
        /// What happened, what is kept of the file, and what to do.
        reason: String,
    },
}

impl DataError {
    /// Wraps a system error with the path and the verb of what was tried; made for `map_err`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io { path, action, source }
    }

    pub(super) fn file(path: &Path, reason: String) -> DataError {
        DataError::File { path: path.to_path_buf(), reason }
    }
}
