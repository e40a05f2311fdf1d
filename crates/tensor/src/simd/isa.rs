//! The instruction sets by name, and the one of this process.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use super::Isa;

static CURRENT: OnceLock<Isa> = OnceLock::new();

/// The reason why an instruction set asked for by name cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The name is none of those known.
    #[error("unknown instruction set {name:?}: expected one of {}", Isa::NAMES.join(", "))]
    Unknown {
        /// The name that was asked for.
        name: String,
    },
    /// The name is known, but this processor cannot execute it.
    #[error("this processor has no {name}; available: {available}")]
    Unavailable {
        /// The name that was asked for.
        name: String,
        /// Names of what can be used, separated by commas.
        available: String,
    },
}

impl Isa {
    /// The fastest instruction set of this processor.
    ///
    /// # Panics
    /// Never: plain Rust runs everywhere.
    #[must_use]
    pub fn best() -> Self {
        *Self::available().last().expect("plain Rust runs everywhere")
    }

    /// The instruction set of this process: that of [`Isa::select`], otherwise [`Isa::best`].
    #[must_use]
    pub fn current() -> Self {
        *CURRENT.get_or_init(Self::best)
    }

    /// Has all of this process use this instruction set. To be called before anything is computed.
    ///
    /// # Errors
    /// The one in use, if it is another.
    pub fn select(self) -> Result<(), Self> {
        let used = *CURRENT.get_or_init(|| self);
        if used == self { Ok(()) } else { Err(used) }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Isa {
    type Err = IsaError;

    fn from_str(name: &str) -> Result<Self, IsaError> {
        if !Self::NAMES.contains(&name) {
            return Err(IsaError::Unknown { name: name.to_owned() });
        }
        let available = Self::available();
        available.iter().copied().find(|isa| isa.name() == name).ok_or_else(|| IsaError::Unavailable {
            name: name.to_owned(),
            available: available.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portable_is_always_first_and_best_is_always_last() {
        let all = Isa::available();
        assert_eq!(all.first().map(|isa| isa.name()), Some("portable"));
        assert_eq!(all.last(), Some(&Isa::best()));
    }

    #[test]
    fn names_of_available_sets_parse_back() {
        for isa in Isa::available() {
            assert_eq!(isa.name().parse(), Ok(isa));
        }
    }

    #[test]
    fn unknown_name_is_refused_with_the_names_known() {
        let error = "sse9".parse::<Isa>().unwrap_err();
        assert_eq!(error, IsaError::Unknown { name: "sse9".into() });
        assert!(
            error.to_string().ends_with(&format!("expected one of {}", Isa::NAMES.join(", "))),
            "{error}"
        );
    }
}
