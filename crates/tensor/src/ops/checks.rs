//! What the shape rules of several ops refuse.

use crate::{Shape, ShapeError};

/// Refuses an axis that the shape does not have.
pub(super) fn has_axis(op: &'static str, shape: Shape, axis: usize) -> Result<(), ShapeError> {
    if axis < shape.len() {
        return Ok(());
    }
    Err(ShapeError::new(op, format!("axis {axis} is not one of the {} axes of {shape}", shape.len())))
}

/// Refuses a vector that has not an element for each of the `extent` of an axis: a bias, or another parameter.
pub(super) fn is_vector(
    op: &'static str,
    name: &str,
    vector: Shape,
    (axis, extent): (&str, usize),
) -> Result<(), ShapeError> {
    if *vector == [extent] {
        return Ok(());
    }
    Err(ShapeError::new(op, format!("{name} expects {axis} = {extent}, found {vector}")))
}
