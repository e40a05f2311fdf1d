//! Refusals that the shape rules of several ops share.

use crate::{Shape, ShapeError};

/// Refuses a hyper-parameter that is negative or not finite.
pub(super) fn not_negative(op: &'static str, name: &str, value: f64) -> Result<(), ShapeError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(ShapeError::new(op, format!("{name} must be finite and 0 or more, found {value}")))
}

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

/// Refuses a divisor of a loss that is not above 0.
pub(super) fn divides(op: &'static str, divisor: Option<f64>) -> Result<(), ShapeError> {
    match divisor {
        Some(divisor) if !(divisor.is_finite() && divisor > 0.0) => {
            Err(ShapeError::new(op, format!("the divisor must be above 0, found {divisor}")))
        }
        _ => Ok(()),
    }
}
