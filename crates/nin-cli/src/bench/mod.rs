//! Measuring: images per second of whole steps ([`steps`]), and each layer by itself ([`layers`]).
//!
//! The steps are those of the trainer and of the evaluation, the same calls on the same [`Workers`](nin::train::Workers); only
//! the images are random and stay in memory, so that nothing but the computation is measured. Rates of work are of the direct
//! convolution ([`Work`](nin::summary::Work)): a convolution that needs fewer multiplications is computed at a higher rate,
//! possibly above what the processor's multiply-add units can do.

pub(crate) mod layers;
pub(crate) mod steps;

use std::time::{Duration, Instant};

/// The end of a measurement, after something has been warmed up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Until {
    /// At least this long, and at least three times.
    Seconds(f64),
    /// So many times.
    Steps(usize),
}

impl Until {
    /// The times of `work`, which answers how long the part that counts took. Two calls warm up, and more until a tenth of the
    /// time is over.
    ///
    /// # Errors
    /// Those of `work`.
    pub(crate) fn measure<E>(
        self,
        mut work: impl FnMut() -> Result<Duration, E>,
    ) -> Result<Vec<Duration>, E> {
        let (begin, mut calls) = (Instant::now(), 0);
        let warm = match self {
            Self::Seconds(seconds) => Duration::from_secs_f64(seconds / 10.0),
            Self::Steps(_) => Duration::ZERO,
        };
        while calls < 2 || begin.elapsed() < warm {
            work()?;
            calls += 1;
        }
        let mut times = Vec::new();
        let begin = Instant::now();
        let goes_on = |made: usize| match self {
            Self::Seconds(seconds) => made < 3 || begin.elapsed() < Duration::from_secs_f64(seconds),
            Self::Steps(steps) => made < steps,
        };
        while goes_on(times.len()) {
            times.push(work()?);
        }
        Ok(times)
    }
}

/// The middle of these times, as of other numbers; 0 for none.
#[must_use]
pub(crate) fn median_seconds(times: &[Duration]) -> f64 {
    median(times.iter().map(Duration::as_secs_f64).collect())
}

/// The middle of some numbers, the mean of the two middle ones of an even number; 0 of none.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let half = numbers.len() / 2;
    match numbers.len() {
        0 => 0.0,
        count if count % 2 == 1 => numbers[half],
        _ => f64::midpoint(numbers[half - 1], numbers[half]),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn medians() {
        let times = |all: &[u64]| all.iter().map(|&ms| Duration::from_millis(ms)).collect::<Vec<_>>();
        assert_eq!(median_seconds(&times(&[30, 10, 20])), 0.020);
        assert!((median_seconds(&times(&[40, 10, 20, 30])) - 0.025).abs() < 1e-12);
        assert_eq!(median_seconds(&[]), 0.0);
    }

    #[test]
    fn warm_up_is_not_counted() {
        let mut calls = 0;
        let mut work = || {
            calls += 1;
            Ok::<_, Infallible>(Duration::from_secs(calls))
        };
        assert_eq!(
            Until::Steps(2).measure(&mut work),
            Ok(vec![Duration::from_secs(3), Duration::from_secs(4)])
        );
        // However slow the work is, there are three times to take the middle of.
        assert_eq!(Until::Seconds(0.0).measure(&mut work).unwrap().len(), 3);
    }
}
