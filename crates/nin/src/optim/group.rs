//! [`Group`]: parameters with a learning rate and a weight decay of their own; and how settings say which parameters are meant.

use std::fmt::{self, Display};
use std::str::FromStr;

use crate::names::ParseError;

/// Parameters that are found by their names, with a learning rate and a weight decay of their own.
///
/// A parameter belongs to the first group that has it, as in `[Group::new("*.bias").weight_decay(0.0), Group::new("0.*")]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub(crate) pattern: String,
    pub(super) rate: f64,
    pub(super) weight_decay: Option<f64>,
}

impl Group {
    /// The parameters whose names match a pattern, in which `*` stands for any text: `0.*`, `*.bias`, `4.2.weight`.
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned(), rate: 1.0, weight_decay: None }
    }

    /// The factor on the optimizer's learning rate; 0 freezes the group: values and state stay as they are. Where the gradients
    /// are not to be computed either, use [`freeze`](crate::nn::freeze).
    #[must_use]
    pub fn rate(self, factor: f64) -> Self {
        Self { rate: factor, ..self }
    }

    /// The weight decay of all parameters in the group, biases included. Without it, weights have the optimizer's decay and
    /// biases none.
    #[must_use]
    pub fn weight_decay(self, decay: f64) -> Self {
        Self { weight_decay: Some(decay), ..self }
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        matches(&self.pattern, name)
    }
}

/// Patterns of the names of parameters, in which `*` stands for any text, written as `0.*,*.bias`.
#[derive(Debug, Clone, PartialEq)]
pub struct Patterns(pub Vec<String>);

impl FromStr for Patterns {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let all: Vec<String> = text.split(',').map(str::to_owned).collect();
        if all.iter().any(String::is_empty) {
            return Err(ParseError::form("PATTERN,... such as 0.*,*.bias", text));
        }
        Ok(Self(all))
    }
}

impl Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Groups by their factors on the learning rate alone, written as `0.*=0.1,*.bias=2`.
#[derive(Debug, Clone, PartialEq)]
pub struct RateFactors(pub Vec<Group>);

impl FromStr for RateFactors {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let group = |part: &str| {
            let (pattern, factor) = part.rsplit_once('=')?;
            let factor: f64 = factor.parse().ok()?;
            let works = !pattern.is_empty() && factor.is_finite() && factor > 0.0;
            works.then(|| Group::new(pattern).rate(factor))
        };
        let all = text.split(',').map(group).collect::<Option<_>>();
        let expected = "PATTERN=FACTOR,... with finite factors above 0, such as 0.*=0.1,*.bias=2";
        all.map(Self).ok_or_else(|| ParseError::form(expected, text))
    }
}

impl Display for RateFactors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> =
            self.0.iter().map(|Group { pattern, rate, .. }| format!("{pattern}={rate}")).collect();
        f.write_str(&all.join(","))
    }
}

/// Tells whether `name` is `pattern`, in which `*` stands for any text.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name.strip_prefix(start).is_some_and(|name| {
            name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| matches(rest, &name[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        for (pattern, name, expected) in [
            ("0.weight", "0.weight", true),
            ("0.weight", "0.weights", false),
            ("0.*", "0.2.bias", true),
            ("0.*", "10.bias", false),
            ("*.bias", "0.2.bias", true),
            ("*.bias", "0.bias.2", false),
            ("*", "", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1c2b", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn lists_are_read_as_they_are_written() {
        let patterns: Patterns = "0.*,*.bias".parse().unwrap();
        assert_eq!((patterns.0.len(), patterns.to_string().as_str()), (2, "0.*,*.bias"));
        let factors: RateFactors = "0.*=0.1,a=b=2".parse().unwrap();
        assert_eq!(factors.0, [Group::new("0.*").rate(0.1), Group::new("a=b").rate(2.0)]);
        assert_eq!(factors.to_string(), "0.*=0.1,a=b=2");
        for broken in ["", "0.*,", ",0.*"] {
            assert!(broken.parse::<Patterns>().is_err(), "{broken:?}");
        }
        for broken in ["", "0.*", "0.*=", "=0.1", "0.*=0", "0.*=-1", "0.*=inf", "0.*=0.1,"] {
            assert!(broken.parse::<RateFactors>().is_err(), "{broken:?}");
        }
    }
}
