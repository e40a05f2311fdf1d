//! What a name or a short text of a setting is read into, and the error of one that says nothing.

use std::fmt::Display;

use thiserror::Error;

/// A text that names no choice, or is not written as its setting is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// A name that is not among the choices.
    #[error("no {what} {found:?}; there are: {known}")]
    Unknown {
        /// What was to be named, such as `network`.
        what: &'static str,
        /// What was found.
        found: String,
        /// The names that there are, comma separated.
        known: String,
    },
    /// A text of another form.
    #[error("expected {expected}, found {found:?}{why}")]
    Form {
        /// The forms that there are.
        expected: &'static str,
        /// What was found.
        found: String,
        /// More about it in brackets, after a space; or nothing.
        why: String,
    },
}

/// The one of `all` whose name is `found`.
///
/// # Errors
/// [`ParseError::Unknown`], with the names that there are.
pub(crate) fn by_name<T: Copy + Display>(
    what: &'static str,
    all: &[T],
    found: &str,
) -> Result<T, ParseError> {
    all.iter().copied().find(|choice| choice.to_string() == found).ok_or_else(|| {
        let known: Vec<String> = all.iter().map(T::to_string).collect();
        ParseError::Unknown { what, found: found.to_owned(), known: known.join(", ") }
    })
}
