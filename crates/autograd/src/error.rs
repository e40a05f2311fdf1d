//! Errors of recording and differentiating.

use tensor::{Shape, ShapeError};

/// An error of recording or differentiating.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AutogradError {
    /// An op refused the shapes of its inputs.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A gradient was asked of something that is not one number.
    #[error("backward starts from a scalar loss, found {shape}; use backward_with to give its gradient")]
    NotScalar {
        /// The shape that was found.
        shape: Shape,
    },
    /// The gradient that was given does not have the shape of what it belongs to.
    #[error("backward_with: the output is {output}, its gradient is {gradient}")]
    GradientShape {
        /// The shape of the output.
        output: Shape,
        /// The shape of the gradient.
        gradient: Shape,
    },
    /// The tape had been walked before: what backward passes need is used up.
    #[error("backward was already run on this tape; record a new one")]
    Spent,
    /// Nothing that needs a gradient led to the output: the tape does not record, or there is no leaf.
    #[error("backward: the output does not depend on any leaf or parameter that was recorded")]
    NotRecorded,
    /// A variable of one tape was used on another.
    #[error("{op}: an input belongs to another tape")]
    OtherTape {
        /// The op that was applied.
        op: &'static str,
    },
}
