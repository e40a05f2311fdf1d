//! Refusals that the shape rules of several ops share.

use crate::{Shape, ShapeError, ensure};

/// Refuses a hyper-parameter that is negative or not finite.
pub(super) fn not_negative(op: &'static str, name: &str, value: f64) -> Result<(), ShapeError> {
    ensure!(op, value.is_finite() && value >= 0.0, "{name} must be finite and 0 or more, found {value}");
    Ok(())
}

/// Refuses an axis that the shape does not have.
pub(super) fn has_axis(op: &'static str, shape: Shape, axis: usize) -> Result<(), ShapeError> {
    ensure!(op, axis < shape.len(), "axis {axis} is not one of the {} axes of {shape}", shape.len());
    Ok(())
}

/// Refuses a vector that has not an element for each of the `extent` of an axis: a bias, or another parameter.
pub(super) fn is_vector(
    op: &'static str,
    name: &str,
    vector: Shape,
    (axis, extent): (&str, usize),
) -> Result<(), ShapeError> {
    ensure!(op, *vector == [extent], "{name} expects {axis} = {extent}, found {vector}");
    Ok(())
}

/// Refuses a divisor of a loss that is not above 0.
pub(super) fn divides(op: &'static str, divisor: Option<f64>) -> Result<(), ShapeError> {
    let divisor = divisor.unwrap_or(1.0);
    ensure!(op, divisor.is_finite() && divisor > 0.0, "the divisor must be above 0, found {divisor}");
    Ok(())
}
