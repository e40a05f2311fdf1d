//! Errors of a run.

use std::fmt::Display;
use std::path::Path;

use autograd::AutogradError;
use tensor::ShapeError;

use crate::data::DataError;
use crate::disk::{FileError, io};
use crate::names::shown;
use crate::optim::OptimizerError;

/// An error of a run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A setting that cannot work: which, what was expected and what was found.
    #[error("{0}")]
    Config(String),
    /// The data set could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network does not fit the images.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// An op refused its inputs.
    #[error(transparent)]
    Autograd(AutogradError),
    /// The optimizer refused the step.
    #[error(transparent)]
    Optimizer(#[from] OptimizerError),
    /// A file could not be read or written, or does not hold what it should.
    #[error(transparent)]
    File(#[from] FileError),
    /// The loss or the weights are no longer numbers.
    #[error(
        "diverged in epoch {epoch}, step {step}: {reason}; the last checkpoint is kept (a smaller --lr may help)"
    )]
    Diverged {
        /// The epoch, counted from 1.
        epoch: u64,
        /// The last step that was made or tried, counted from 1.
        step: u64,
        /// The numbers that are not finite, and the loss.
        reason: String,
    },
}

impl TrainError {
    /// A setting that cannot work: its name, what was expected and what was found.
    pub fn setting(name: &str, expected: impl Display, found: impl Display) -> Self {
        Self::Config(format!("{name}: expected {expected}, found {found}"))
    }

    /// An error of a file or a folder. What is cited of it stays one printable line.
    pub fn of(path: &Path, what: impl Display) -> Self {
        Self::Config(format!("{}: {}", path.display(), shown(&what.to_string())))
    }

    /// An error of what a file says, as one of what was asked for: it cannot work as long as the file says so.
    pub fn refused(error: FileError) -> Self {
        match error {
            FileError::Content { path, reason } => Self::of(&path, reason),
            error => Self::File(error),
        }
    }

    /// Wraps a system error with the path and the verb of what was tried; made for `map_err`.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let error = io(path, action);
        move |source| Self::File(error(source))
    }
}

impl From<AutogradError> for TrainError {
    /// A refusal of a network that is built or traced is [`TrainError::Shape`].
    fn from(error: AutogradError) -> Self {
        match error {
            AutogradError::Shape(error) => Self::Shape(error),
            error => Self::Autograd(error),
        }
    }
}
