//! [`Group`]: parameters with a learning rate and a weight decay of their own.

/// Parameters that are found by their names, with a learning rate and a weight decay of their own.
///
/// A parameter belongs to the first group that has it, as in `[Group::new("*.bias").weight_decay(0.0), Group::new("0.*")]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    pub(super) pattern: String,
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
}
