//! What can go wrong in a run.

use std::path::{Path, PathBuf};

use autograd::AutogradError;
use tensor::ShapeError;

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::optim::OptimizerError;

/// What can go wrong in a run.
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
    /// A checkpoint could not be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of the run folder could not be read or written.
    #[error("{path}: {action}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The loss is no longer a number.
    #[error(
        "diverged in epoch {epoch}, step {step}: the loss is {loss}; the last checkpoint is kept (a smaller --lr may help)"
    )]
    Diverged {
        /// The epoch, counted from 1.
        epoch: u64,
        /// The step of the run, counted from 1.
        step: u64,
        /// The loss.
        loss: f64,
    },
    /// The weights are no longer numbers, though the loss still was.
    #[error(
        "diverged in epoch {epoch}, step {step}: weights are no longer finite (the mean loss of the epoch was {loss}); the last \
         checkpoint is kept (a smaller --lr may help)"
    )]
    BrokenWeights {
        /// The epoch, counted from 1.
        epoch: u64,
        /// The last step that was made, counted from 1.
        step: u64,
        /// The mean loss of the epoch so far.
        loss: f64,
    },
}

impl TrainError {
    /// An error of reading or writing `path` while doing `action`.
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }
}

impl From<AutogradError> for TrainError {
    /// What a network refuses when it is built or traced is [`TrainError::Shape`].
    fn from(error: AutogradError) -> Self {
        match error {
            AutogradError::Shape(error) => Self::Shape(error),
            error => Self::Autograd(error),
        }
    }
}
