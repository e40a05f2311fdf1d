//! Errors of data: each message is a single line saying what, where, expected and found.

use crate::disk::FileError;

/// Anything that can go wrong between a file on disk (or a server) and a batch.
///
/// Offsets count bytes of the IDX stream, after decompression where the file is compressed. No message holds
/// a line break, so that a command line can print it as it is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file could not be read or written, is missing from its folder, is written by another process, or does not hold what it
    /// should.
    #[error(transparent)]
    File(#[from] FileError),

    /// The data set is not where it should be and cannot be fetched.
    #[error("data set {name} not found: {reason}")]
    NotFound {
        /// The data set's name.
        name: &'static str,
        /// The places where it was looked for, and what to do.
        reason: String,
    },

    /// Images and targets that make no data set: there are none, they differ in number, an image is not whole, or a label names
    /// no class.
    #[error("{name}: {reason}")]
    Samples {
        /// The data set, or its files.
        name: String,
        /// The fault, with sizes.
        reason: String,
    },

    /// A loader, a sampler or a resizer cannot do as it was asked.
    #[error("{0}")]
    Options(String),

    /// A batch could not be prepared: the thread failed, or the sampler drew what is not there.
    #[error("loader: batch {index} could not be prepared: {message}")]
    Worker {
        /// The batch's number within its epoch.
        index: usize,
        /// The thread's message.
        message: String,
    },

    /// A download failed: there was no connection, or the server sent something else than the file.
    #[error("{url}: {reason}")]
    Download {
        /// The URL of the file.
        url: String,
        /// The event, what is kept of the file, and what to do.
        reason: String,
    },
}
