//! Learning-rate schedules: the factor on the base learning rate at each step.

use std::fmt;
use std::str::FromStr;

use crate::names::ParseError;

/// How the learning rate changes over a run. A linear warm-up may come before any of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Schedule {
    /// Always the base learning rate.
    #[default]
    Constant,
    /// Multiplied by `factor` after every `epochs` epochs: `step:EPOCHS:FACTOR`.
    Step {
        /// Epochs between two drops.
        epochs: u32,
        /// What each drop multiplies by.
        factor: f64,
    },
    /// Half a cosine from the base learning rate to 0 (Loshchilov and Hutter 2017, equation 5, without restarts).
    Cosine,
}

impl Schedule {
    /// The factor on the base learning rate at `step` (counted from 0) of `total` steps, of which the first `warmup` rise
    /// linearly, with `per_epoch` steps to an epoch.
    #[must_use]
    pub fn factor(&self, step: u64, total: u64, warmup: u64, per_epoch: u64) -> f64 {
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        match self {
            Self::Constant => 1.0,
            Self::Step { epochs, factor } => {
                let drops = step / (u64::from(*epochs) * per_epoch).max(1);
                factor.powi(i32::try_from(drops).unwrap_or(i32::MAX))
            }
            Self::Cosine => {
                let progress = (step - warmup) as f64 / total.saturating_sub(warmup).max(1) as f64;
                0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos())
            }
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Step { epochs, factor } => write!(f, "step:{epochs}:{factor}"),
            Self::Cosine => f.write_str("cosine"),
        }
    }
}

impl FromStr for Schedule {
    type Err = ParseError;

    /// Reads `constant`, `cosine` or `step:EPOCHS:FACTOR`.
    ///
    /// # Errors
    /// [`ParseError::Form`] of any other text, or numbers that are not positive.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |expected| ParseError::Form { expected, found: text.to_owned(), why: String::new() };
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["constant"] => Ok(Self::Constant),
            ["cosine"] => Ok(Self::Cosine),
            ["step", epochs, factor] => match (epochs.parse::<u32>(), factor.parse::<f64>()) {
                (Ok(epochs), Ok(factor)) if epochs > 0 && factor > 0.0 && factor.is_finite() => {
                    Ok(Self::Step { epochs, factor })
                }
                _ => Err(refuse("step:EPOCHS:FACTOR with positive numbers")),
            },
            _ => Err(refuse("constant, cosine or step:EPOCHS:FACTOR")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        assert_eq!(Schedule::Constant.factor(7, 10, 0, 5), 1.0);
        assert_eq!(Schedule::Constant.factor(0, 10, 4, 5), 0.25);
        assert_eq!(Schedule::Constant.factor(3, 10, 4, 5), 1.0);
        let step = Schedule::Step { epochs: 2, factor: 0.1 };
        assert_eq!(step.factor(9, 100, 0, 5), 1.0);
        assert!((step.factor(20, 100, 0, 5) - 0.01).abs() < 1e-15);
        assert_eq!(Schedule::Cosine.factor(0, 10, 0, 5), 1.0);
        assert!((Schedule::Cosine.factor(5, 10, 0, 5) - 0.5).abs() < 1e-12);
        assert!(Schedule::Cosine.factor(10, 10, 0, 5).abs() < 1e-12);
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["constant", "cosine", "step:3:0.5"] {
            assert_eq!(name.parse::<Schedule>().unwrap().to_string(), name);
        }
        for name in ["linear", "step", "step:0:0.1", "step:2:nan", "step:2:-1"] {
            assert!(name.parse::<Schedule>().unwrap_err().to_string().contains(name), "{name}");
        }
    }
}
