//! [`Sampler`]: which samples an epoch has, in which order.

use std::fmt::Debug;

use tensor::{Purpose, RandomStream};

use super::error::DataError;

/// Draws the samples of an epoch: a function of the epoch alone, so that a run can go on in the middle of one.
pub trait Sampler: Debug + Send + Sync {
    /// The number of samples of every epoch over a data set of `samples`.
    fn len(&self, samples: usize) -> usize {
        samples
    }

    /// The samples of `epoch`, counted from 0, in their order: [`Sampler::len`] numbers below `samples`.
    fn draw(&self, samples: usize, epoch: u64) -> Vec<usize>;
}

/// Every sample once, as the set has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SequentialSampler;

impl Sampler for SequentialSampler {
    fn draw(&self, samples: usize, _: u64) -> Vec<usize> {
        (0..samples).collect()
    }
}

/// Every sample once, in an order that is a function of (seed, epoch): Fisher and Yates' shuffle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RandomSampler {
    /// The seed.
    pub seed: u64,
}

impl Sampler for RandomSampler {
    fn draw(&self, samples: usize, epoch: u64) -> Vec<usize> {
        RandomStream::new(self.seed, epoch, Purpose::Shuffle, 0).permutation(samples)
    }
}

/// Samples drawn with replacement, each as often as its weight says: a function of (seed, epoch). For classes of unequal size,
/// for instance.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedRandomSampler {
    /// The sum of the weights up to each sample and with it.
    sums: Vec<f64>,
    draws: usize,
    seed: u64,
}

impl WeightedRandomSampler {
    /// Draws `draws` samples an epoch, by a weight for each sample of the set.
    ///
    /// # Errors
    /// [`DataError::Options`] if a weight is not a finite number of at least 0, or all are 0.
    pub fn new(weights: &[f64], draws: usize, seed: u64) -> Result<Self, DataError> {
        let refuse = |index: usize, weight: f64| {
            DataError::Options(format!(
                "sampler: weight {weight} of sample {index}: expected finite numbers of at least 0 that are not all 0"
            ))
        };
        let mut sums = Vec::with_capacity(weights.len());
        let mut sum = 0.0;
        for (index, &weight) in weights.iter().enumerate() {
            sum += weight;
            if !(weight >= 0.0 && sum.is_finite()) {
                return Err(refuse(index, weight));
            }
            sums.push(sum);
        }
        if sum == 0.0 {
            return Err(refuse(0, 0.0));
        }
        Ok(Self { sums, draws, seed })
    }
}

impl Sampler for WeightedRandomSampler {
    fn len(&self, _: usize) -> usize {
        self.draws
    }

    /// Weights of samples that the set does not have are left out; samples without a weight are never drawn. Where all are
    /// without one, a sample is drawn that the set does not have, which [`DataLoader`](super::DataLoader) refuses.
    fn draw(&self, samples: usize, epoch: u64) -> Vec<usize> {
        let sums = &self.sums[..self.sums.len().min(samples)];
        let total = sums.last().copied().unwrap_or(0.0);
        let mut stream = RandomStream::new(self.seed, epoch, Purpose::Shuffle, 0);
        let sample = |_| {
            let drawn = stream.uniform() * total;
            // The first sum above the drawn number: a sample of weight 0 has the sum of the one before.
            sums.partition_point(|&sum| sum <= drawn)
        };
        (0..self.draws).map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{images, loader};

    #[test]
    fn samples_come_as_often_as_their_weights_say() {
        let weighted = WeightedRandomSampler::new(&[0.0, 1.0, 0.0, 3.0, 0.0], 4000, 5).unwrap();
        let drawn = weighted.draw(5, 2);
        assert_eq!(drawn, weighted.draw(5, 2));
        assert_ne!(drawn, weighted.draw(5, 3));
        let count = |sample| drawn.iter().filter(|&&own| own == sample).count();
        assert_eq!(count(1) + count(3), 4000, "what weighs nothing is never drawn");
        assert!((900..1100).contains(&count(1)), "{}", count(1));
    }

    /// A set that is shorter than the weights may have none of the samples that weigh anything.
    #[test]
    fn a_set_without_a_sample_that_can_be_drawn_is_refused() {
        let first = |weights: &[f64]| {
            let sampler = WeightedRandomSampler::new(weights, 3, 0).unwrap();
            loader(&images([1; 3], [0; 2]), 3).with_sampler(sampler).epoch(0).next().unwrap()
        };
        assert_eq!(first(&[0.0, 2.0, 9.0]).unwrap().samples(), [1; 3]);
        let error = first(&[0.0, 0.0, 9.0]).unwrap_err().to_string();
        assert!(error.ends_with("the sampler drew sample 2 of a set of 2"), "{error}");
    }

    #[test]
    fn weights_that_cannot_be_are_refused() {
        let refused = |weights: &[f64]| WeightedRandomSampler::new(weights, 1, 0).unwrap_err().to_string();
        assert_eq!(
            refused(&[1.0, -2.0]),
            "sampler: weight -2 of sample 1: expected finite numbers of at least 0 that are not all 0"
        );
        assert!(refused(&[f64::NAN]).contains("weight NaN of sample 0"));
        assert!(refused(&[f64::INFINITY]).contains("weight inf of sample 0"));
        assert!(refused(&[0.0, 0.0]).contains("weight 0 of sample 0"));
        assert!(refused(&[]).contains("sample 0"));
    }
}
