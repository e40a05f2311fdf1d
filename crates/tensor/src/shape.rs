//! Shapes: up to four axes, kept inline, so that a shape costs no allocation.

use std::fmt;
use std::ops::Deref;

/// The most axes a tensor may have: N, C, H and W.
pub const MAX_AXES: usize = 4;

/// The extents of a tensor, outermost axis first. Images are `N x C x H x W`, matrices `rows x columns`, vectors
/// one axis, and a scalar has none.
///
/// It dereferences to `[usize]`, so `shape[1]`, `shape.len()` (the number of axes) and `shape.iter()` work.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    extents: [usize; MAX_AXES],
    axes: u8,
}

impl Shape {
    /// The shape with these extents, which are the program's own.
    ///
    /// # Panics
    /// If [`Shape::checked`] refuses them.
    pub fn new(extents: &[usize]) -> Self {
        Self::checked(extents).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The shape with these extents, which may come from a file.
    ///
    /// # Errors
    /// [`ShapeError`] if there are more than [`MAX_AXES`] extents, or if the product of those that are not 0 is more than
    /// `usize` holds: no product of a shape's extents overflows, not even where it has no elements.
    pub fn checked(extents: &[usize]) -> Result<Self, ShapeError> {
        let axes = extents.len();
        ensure!("shape", axes <= MAX_AXES, "at most {MAX_AXES} axes are expected, found {axes}");
        let elements = extents.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent.max(1)));
        ensure!("shape", elements.is_some(), "{extents:?} are more elements than can be counted");
        let mut inline = [1; MAX_AXES];
        inline[..axes].copy_from_slice(extents);
        Ok(Self { extents: inline, axes: axes as u8 })
    }

    /// The shape of a scalar: no axes, one element.
    pub fn scalar() -> Self {
        Self::new(&[])
    }

    /// The number of elements: the product of the extents, 1 for a scalar.
    pub fn elements(&self) -> usize {
        self.iter().product()
    }

    /// The shape `other`, if it has as many elements as this one.
    ///
    /// # Errors
    /// [`ShapeError`] with both numbers.
    pub(crate) fn reshaped(self, other: Self) -> Result<Self, ShapeError> {
        let (from, to) = (self.elements(), other.elements());
        ensure!("reshape", from == to, "{self} has {from} elements, {other} has {to}");
        Ok(other)
    }

    /// N, C, H and W.
    ///
    /// # Errors
    /// [`ShapeError`] if there are not exactly four axes; `op` names who asked.
    pub fn nchw(&self, op: &'static str) -> Result<[usize; 4], ShapeError> {
        ensure!(op, self.len() == 4, "expects an N x C x H x W tensor, input is {self}");
        Ok(self.extents)
    }

    /// Rows and columns.
    ///
    /// # Errors
    /// [`ShapeError`] if there are not exactly two axes; `op` names who asked.
    pub fn matrix(&self, op: &'static str) -> Result<[usize; 2], ShapeError> {
        ensure!(op, self.len() == 2, "expects a matrix of two axes, input is {self}");
        Ok([self[0], self[1]])
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.extents[..usize::from(self.axes)]
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Self {
        Self::new(extents)
    }
}

impl<const AXES: usize> From<[usize; AXES]> for Shape {
    fn from(extents: [usize; AXES]) -> Self {
        Self::new(&extents)
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("scalar");
        }
        let extents: Vec<_> = self.iter().map(usize::to_string).collect();
        f.write_str(&extents.join(" x "))
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}

/// Returns the [`ShapeError`] of an op, with a message as `format!` takes it, unless a condition holds.
macro_rules! ensure {
    ($op:expr, $condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::ShapeError::new($op, format!($($message)+)));
        }
    };
}
pub(crate) use ensure;

/// Shapes that do not fit: which op refused, and the sizes it expected and found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {message}")]
pub struct ShapeError {
    /// The op that refused, by its field name: `conv2d`, `max_pool2d`, ...
    pub op: &'static str,
    /// Expected and found axes and sizes.
    pub message: String,
}

impl ShapeError {
    /// An error of `op`, saying what was expected and what was found.
    pub fn new(op: &'static str, message: impl Into<String>) -> Self {
        Self { op, message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_and_display() {
        let shape = Shape::from([2, 3, 4, 5]);
        assert_eq!(shape.elements(), 120);
        assert_eq!(shape.to_string(), "2 x 3 x 4 x 5");
        assert_eq!(Shape::scalar().elements(), 1);
        assert_eq!(Shape::scalar().to_string(), "scalar");
        assert_eq!(shape[1], 3);
    }

    #[test]
    fn products_of_extents_do_not_wrap() {
        let error = |extents: &[usize]| Shape::checked(extents).unwrap_err().to_string();
        assert_eq!(error(&[1; 5]), "shape: at most 4 axes are expected, found 5");
        let half = 1 << (usize::BITS / 2);
        let message = format!("shape: [{half}, {half}, 0] are more elements than can be counted");
        assert_eq!(error(&[half, half, 0]), message);
        assert!(Shape::checked(&[half, half - 1]).is_ok());
        let panic = std::panic::catch_unwind(|| Shape::from([half, half, 0])).unwrap_err();
        assert_eq!(*panic.downcast::<String>().unwrap(), message);
    }

    #[test]
    fn axes_are_checked_with_their_sizes() {
        let error = Shape::from([2, 3]).nchw("conv2d").unwrap_err();
        assert_eq!(error.to_string(), "conv2d: expects an N x C x H x W tensor, input is 2 x 3");
        assert_eq!(Shape::from([2, 3]).matrix("linear"), Ok([2, 3]));
        assert!(Shape::from([2, 3, 4]).matrix("linear").is_err());
    }
}
