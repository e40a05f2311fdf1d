//! Learning-rate schedules: the factor on the base learning rate at each step.

use std::fmt;
use std::str::FromStr;

use crate::names::ParseError;

/// The course of the learning rate over a run. A linear warm-up may come before any of them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Schedule {
    /// Always the base learning rate: `constant`.
    #[default]
    Constant,
    /// Multiplied by `factor` after every `epochs` epochs: `step:EPOCHS:FACTOR`.
    Step {
        /// Epochs between two drops.
        epochs: u32,
        /// The factor of each drop.
        factor: f64,
    },
    /// Half a cosine from the base learning rate to 0 (Loshchilov and Hutter 2017, equation 5, without restarts): `cosine`.
    Cosine,
    /// Half a cosine up from 1/25 of the base learning rate, half a cosine down to 1/250,000 of it (Smith and Topin 2018, with
    /// the defaults of PyTorch's `OneCycleLR`): `one-cycle` or `one-cycle:RISE`.
    OneCycle {
        /// The share of the steps in which the rate rises, above 0 and below 1; 0.3 if not given.
        rise: f64,
    },
}

/// The share of the steps in which one cycle rises, if not given.
const RISE: f64 = 0.3;
/// The factors that one cycle begins and ends with.
const ONE_CYCLE_ENDS: [f64; 2] = [1.0 / 25.0, 1.0 / 25e4];

/// A schedule over a number of steps: a value that answers for any step and keeps no state.
///
/// ```
/// use nin::optim::{Optimizer, Schedule, Scheduler, Sgd};
///
/// let (rate, mut sgd) = (0.1, Sgd::new(0.1));
/// let scheduler = Scheduler { warmup: 10, ..Schedule::Cosine.over(100) };
/// for step in 0..100 {
///     sgd.set_learning_rate(rate * scheduler.factor(step));
/// }
/// assert_eq!(scheduler.factor(4), 0.5);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scheduler {
    /// The course of the learning rate.
    pub schedule: Schedule,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps at the beginning in which the learning rate rises linearly; the schedule, if it counts from the end of the rise,
    /// has the others.
    pub warmup: u64,
    /// Steps of an epoch, in which [`Schedule::Step`] counts.
    pub per_epoch: u64,
}

impl Scheduler {
    /// The factor on the base learning rate at `step`, counted from 0. After the last step it stays where it ended.
    #[must_use]
    pub fn factor(&self, step: u64) -> f64 {
        let Self { schedule, steps, warmup, per_epoch } = *self;
        if step < warmup {
            return (step + 1) as f64 / warmup as f64;
        }
        let (own, all) = (step - warmup, steps.saturating_sub(warmup).max(1));
        match schedule {
            Schedule::Constant => 1.0,
            Schedule::Step { epochs, factor } => {
                let drops = step / u64::from(epochs).saturating_mul(per_epoch).max(1);
                factor.powi(i32::try_from(drops).unwrap_or(i32::MAX))
            }
            Schedule::Cosine => cosine(1.0, 0.0, own as f64 / all as f64),
            Schedule::OneCycle { rise } => {
                // As PyTorch counts: the peak and the end are steps, and the first step is number 0.
                let [begin, end] = ONE_CYCLE_ENDS;
                let (own, last) = (own as f64, all as f64 - 1.0);
                let peak = rise * all as f64 - 1.0;
                if own < peak {
                    cosine(begin, 1.0, own / peak)
                } else {
                    cosine(1.0, end, if last > peak { (own - peak) / (last - peak) } else { 1.0 })
                }
            }
        }
    }
}

/// Half a cosine from one number to another; `progress` is 0 at its beginning and 1 at its end.
fn cosine(from: f64, to: f64, progress: f64) -> f64 {
    let share = 0.5 * (1.0 + (std::f64::consts::PI * progress.min(1.0)).cos());
    to + (from - to) * share
}

impl Schedule {
    /// The texts that one is read from.
    pub(crate) const FORMS: &str = "constant, cosine, one-cycle, one-cycle:RISE or step:EPOCHS:FACTOR";

    /// This schedule over a run of so many steps, without a warm-up, each step an epoch of its own.
    #[must_use]
    pub fn over(self, steps: u64) -> Scheduler {
        Scheduler { schedule: self, steps, warmup: 0, per_epoch: 1 }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant => f.write_str("constant"),
            Self::Step { epochs, factor } => write!(f, "step:{epochs}:{factor}"),
            Self::Cosine => f.write_str("cosine"),
            Self::OneCycle { rise } if *rise == RISE => f.write_str("one-cycle"),
            Self::OneCycle { rise } => write!(f, "one-cycle:{rise}"),
        }
    }
}

impl FromStr for Schedule {
    type Err = ParseError;

    /// Reads what [`Schedule`] shows, and the forms that stand beside its variants.
    ///
    /// # Errors
    /// [`ParseError`] of any other text, or numbers that are not positive, or a rise that is not below 1.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |expected| ParseError::form(expected, text);
        let parts: Vec<&str> = text.split(':').collect();
        match parts[..] {
            ["constant"] => Ok(Self::Constant),
            ["cosine"] => Ok(Self::Cosine),
            ["one-cycle"] => Ok(Self::OneCycle { rise: RISE }),
            ["one-cycle", rise] => match rise.parse::<f64>() {
                Ok(rise) if rise > 0.0 && rise < 1.0 => Ok(Self::OneCycle { rise }),
                _ => Err(refuse("one-cycle:RISE with a number above 0 and below 1")),
            },
            ["step", epochs, factor] => match (epochs.parse::<u32>(), factor.parse::<f64>()) {
                (Ok(epochs), Ok(factor)) if epochs > 0 && factor > 0.0 && factor.is_finite() => {
                    Ok(Self::Step { epochs, factor })
                }
                _ => Err(refuse("step:EPOCHS:FACTOR with positive numbers")),
            },
            _ => Err(refuse(Self::FORMS)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors() {
        let at = |schedule: Schedule, warmup, step| {
            Scheduler { warmup, per_epoch: 5, ..schedule.over(10) }.factor(step)
        };
        assert_eq!(at(Schedule::Constant, 0, 7), 1.0);
        assert_eq!(at(Schedule::Constant, 4, 0), 0.25);
        assert_eq!(at(Schedule::Constant, 4, 3), 1.0);
        let step = Schedule::Step { epochs: 2, factor: 0.1 };
        assert_eq!(at(step, 0, 9), 1.0);
        assert!((at(step, 0, 20) - 0.01).abs() < 1e-15);
        assert_eq!(at(Schedule::Cosine, 0, 0), 1.0);
        assert_eq!(at(Schedule::Cosine, 4, 4), 1.0);
        assert!((at(Schedule::Cosine, 0, 5) - 0.5).abs() < 1e-12);
        assert!(at(Schedule::Cosine, 0, 99).abs() < 1e-12, "after the last step");
        let cycle = Schedule::OneCycle { rise: 0.5 };
        assert!((at(cycle, 0, 4) - 1.0).abs() < 1e-12);
        assert!((at(cycle, 0, 99) - 4e-6).abs() < 1e-12);
        // A run of a single step, and none.
        for steps in [0, 1] {
            assert!(cycle.over(steps).factor(0).is_finite());
        }
    }

    #[test]
    fn names_round_trip_and_others_are_refused() {
        for name in ["constant", "cosine", "step:3:0.5", "one-cycle", "one-cycle:0.25"] {
            assert_eq!(name.parse::<Schedule>().unwrap().to_string(), name);
        }
        for name in [
            "linear",
            "step",
            "step:0:0.1",
            "step:2:nan",
            "step:2:-1",
            "one-cycle:1",
            "one-cycle:0",
            "one-cycle:nan",
        ] {
            assert!(name.parse::<Schedule>().unwrap_err().to_string().contains(name), "{name}");
        }
    }
}
