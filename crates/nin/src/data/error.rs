//! What can be wrong with data: one typed error, each message a single line saying what, where, expected and
//! found.

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

    /// None of the names under which a data set's file is published exists in the folder.
    #[error("{}: no {name} here (looked for {}, each plain or .gz)", dir.display(), tried.join(", "))]
    FileNotFound {
        /// The folder looked in.
        dir: PathBuf,
        /// The canonical name of the missing file.
        name: &'static str,
        /// Every spelling that was tried.
        tried: Vec<String>,
    },

    /// The data set is not where it should be and cannot be fetched.
    #[error("data set {name} not found: {reason}")]
    NotFound {
        /// The data set's name.
        name: &'static str,
        /// Where it was looked for and what to do.
        reason: String,
    },

    /// The first four bytes are not those of an IDX file of unsigned bytes with the expected number of
    /// dimensions.
    #[error(
        "{}: wrong IDX magic at byte 0: expected 0x{expected:08x} (unsigned bytes, {rank} dimension(s)), \
         found 0x{found:08x}",
        path.display()
    )]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// The magic number of unsigned bytes in `rank` dimensions.
        expected: u32,
        /// The number of dimensions asked for.
        rank: usize,
        /// What the file begins with.
        found: u32,
    },

    /// The file ends before its header does, or before the data its header promises.
    #[error("{}: truncated IDX {part}: expected {expected} bytes, the data end at byte {found}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// "header" or "data".
        part: &'static str,
        /// Bytes of the whole stream, header included (for a header: its own length).
        expected: u64,
        /// The offset at which the stream ended.
        found: u64,
    },

    /// The file goes on after the data its header promises; reading stops at the first such byte.
    #[error(
        "{}: more data than the IDX header promises: expected the end at byte {expected} (dimensions {dims:?}), \
         found more",
        path.display()
    )]
    Oversized {
        /// The file.
        path: PathBuf,
        /// Where the stream should end.
        expected: u64,
        /// The dimensions read from the header.
        dims: Vec<usize>,
    },

    /// The header's dimensions multiply to more than the reader is willing to hold.
    #[error(
        "{}: IDX dimensions {dims:?} at byte 4 are too large: expected at most {limit} bytes of data",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The dimensions read from the header.
        dims: Vec<usize>,
        /// The limit in bytes.
        limit: u64,
    },

    /// The compressed stream is broken: bad block, wrong checksum, or cut off.
    #[error("{}: broken gzip data after byte {offset} of the inflated stream: {source}", path.display())]
    Gzip {
        /// The file.
        path: PathBuf,
        /// How many bytes were inflated before the fault.
        offset: u64,
        /// The decoder's complaint.
        source: io::Error,
    },

    /// Images and labels of one split differ in number.
    #[error("{name}: {images} images but {labels} labels: expected one label for each image")]
    CountMismatch {
        /// The split, or its two files.
        name: String,
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },

    /// A label names a class that the data set does not have.
    #[error("{name}: label {label} of sample {index} is out of range: expected 0 to {}", classes.saturating_sub(1))]
    LabelOutOfRange {
        /// The split, or its label file.
        name: String,
        /// Which sample, counted from 0.
        index: usize,
        /// The label found.
        label: u8,
        /// The number of classes.
        classes: usize,
    },

    /// The set holds no sample, or an axis has length 0.
    #[error(
        "{name}: empty data set: N = {n}, C = {c}, H = {h}, W = {w}, {classes} classes (each must be at least 1)"
    )]
    Empty {
        /// The split, or its image file.
        name: String,
        /// Samples.
        n: usize,
        /// Channels.
        c: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
        /// Classes.
        classes: usize,
    },

    /// The pixel buffer's length is not N x C x H x W for any N.
    #[error("{name}: {found} bytes of pixels are not a whole number of {c} x {h} x {w} images")]
    PartialImage {
        /// The split.
        name: String,
        /// Length of the buffer.
        found: usize,
        /// Channels.
        c: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
    },

    /// The images are not of the size that the data set is published in.
    #[error("{}: images of {found_h} x {found_w} pixels, expected {h} x {w} for {name}", path.display())]
    WrongImageSize {
        /// The image file.
        path: PathBuf,
        /// The data set's name.
        name: &'static str,
        /// Expected rows.
        h: usize,
        /// Expected columns.
        w: usize,
        /// Rows found.
        found_h: usize,
        /// Columns found.
        found_w: usize,
    },

    /// Images cannot be resized to (or from) this size.
    #[error("image size {h} x {w} is impossible: expected 1 to {limit} pixels a side")]
    ImageSize {
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
        /// The largest side.
        limit: usize,
    },

    /// A batch of no samples.
    #[error("{name}: batch size 0 is impossible: expected at least 1")]
    BatchSize {
        /// The data set.
        name: String,
    },

    /// Means and deviations that cannot be applied.
    #[error(
        "normalization with means {mean:?} and deviations {std:?}: expected {channels} finite means and as many positive deviations"
    )]
    Normalization {
        /// The means.
        mean: Vec<f32>,
        /// The deviations.
        std: Vec<f32>,
        /// The channels of the images.
        channels: usize,
    },

    /// An augmentation that could move an image out of sight.
    #[error("augment: a shift by {found} pixels: expected at most the shorter side of the images, {h} x {w}")]
    Padding {
        /// The padding asked for.
        found: usize,
        /// Rows of the published image.
        h: usize,
        /// Columns of the published image.
        w: usize,
    },

    /// Weights that nothing can be drawn by.
    #[error(
        "sampler: weight {weight} of sample {index}: expected finite numbers of at least 0 that are not all 0"
    )]
    Weights {
        /// The first sample whose weight cannot be.
        index: usize,
        /// Its weight.
        weight: f64,
    },

    /// A batch could not be prepared: the thread failed, or the sampler drew what is not there.
    #[error("loader: batch {index} could not be prepared: {message}")]
    Worker {
        /// The batch's number within its epoch.
        index: usize,
        /// What the thread had to say.
        message: String,
    },

    /// A server answered with something else than the file.
    #[error("{url}: cannot download: expected the file, the server answered with status {status}")]
    HttpStatus {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },

    /// No connection, or one that broke off or went silent. What has arrived is kept.
    #[error(
        "{url}: download stopped at byte {received} of {expected}: {reason}; run it again to go on, or give the files with --data-dir"
    )]
    Network {
        /// What was asked for.
        url: String,
        /// Bytes that are on disk.
        received: u64,
        /// Bytes of the whole file.
        expected: u64,
        /// What happened.
        reason: String,
    },

    /// A server offers or sends another number of bytes than the file has.
    #[error("{url}: refused: expected a file of {expected} bytes, the server sends {found}")]
    WrongSize {
        /// What was asked for.
        url: String,
        /// Bytes of the file.
        expected: u64,
        /// What the server announced or sent.
        found: String,
    },

    /// What arrived is not the file, although as long as it; it has been removed.
    #[error("{url}: downloaded file is corrupt and was removed: expected SHA-256 {expected}, found {found}")]
    WrongHash {
        /// Where it came from.
        url: String,
        /// The published file's SHA-256, hexadecimal.
        expected: String,
        /// That of what arrived.
        found: String,
    },

    /// Another process is downloading the same file to the same place.
    #[error("{}: another process is writing this file; wait for it to end", path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },

    /// A data set name that is not known.
    #[error("unknown data set {found:?}: expected one of {expected}")]
    UnknownDataset {
        /// What was asked for.
        found: String,
        /// The known names, comma separated.
        expected: String,
    },
}

impl DataError {
    /// Wraps a system error with the path and the verb of what was tried; made for `map_err`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> DataError {
        let path = path.to_path_buf();
        move |source| DataError::Io { path, action, source }
    }
}
