//! Random numbers that depend on what they are for, never on who draws them.
//!
//! Every draw is a function of (seed, epoch, purpose, sample): four numbers that make up the key and the stream of a
//! ChaCha8 generator. Whichever thread draws the dropout mask of sample 17 in epoch 3 gets the same mask, and a run that
//! is resumed in the middle of an epoch goes on with the numbers it would have had.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::Element;

/// The use of random numbers. Different purposes never share a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights; the sample is the index of the parameter.
    Initialization,
    /// The order of an epoch's samples.
    Shuffle,
    /// A dropout layer's mask; the number counts the dropout layers of the network.
    Dropout(u32),
    /// Random variations of images; the number is that of a kind of variation.
    Augmentation(u32),
    /// Anything else, told apart by number.
    Other(u32),
}

impl Purpose {
    fn code(self) -> u64 {
        match self {
            Self::Initialization => 1,
            Self::Shuffle => 2,
            Self::Augmentation(0) => 3,
            Self::Augmentation(kind) => 3 << 32 | u64::from(kind),
            Self::Dropout(layer) => 1 << 32 | u64::from(layer),
            Self::Other(number) => 2 << 32 | u64::from(number),
        }
    }
}

/// A seekable stream of random numbers: see the module's documentation.
#[derive(Debug, Clone)]
pub struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// The stream of `sample` for `purpose` in `epoch` of a run with `seed`.
    pub fn new(seed: u64, epoch: u64, purpose: Purpose, sample: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&epoch.to_le_bytes());
        key[16..24].copy_from_slice(&purpose.code().to_le_bytes());
        key[24..].copy_from_slice(b"nin v1\0\0");
        let mut generator = ChaCha8Rng::from_seed(key);
        generator.set_stream(sample);
        Self(generator)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Fills `bytes` with random bytes.
    pub fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// Uniform in `0..bound`, without bias (Lemire 2019, "Fast random integer generation in an interval").
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let low = product as u64;
            if low >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }

    /// Uniform in [0, 1), 53 random bits.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Normal with mean 0 and standard deviation 1 (Box and Muller 1958; one of the pair is dropped, so that each draw
    /// takes the same number of words).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    /// From the beta distribution of these two parameters, both at least 0.001: in [0, 1], with mean a / (a + b).
    pub fn beta(&mut self, a: f64, b: f64) -> f64 {
        // Of two gamma numbers the first's share. Small parameters make numbers too small for f64, whose logarithms are not.
        let (first, second) = (self.ln_gamma(a), self.ln_gamma(b));
        1.0 / (1.0 + (second - first).exp())
    }

    /// The logarithm of a number from the gamma distribution of this shape and scale 1 (Marsaglia and Tsang 2000, "A simple
    /// method for generating gamma variables"): that of shape + 1, times u^(1 / shape).
    fn ln_gamma(&mut self, shape: f64) -> f64 {
        let d = shape + 1.0 - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let (x, u) = (self.normal(), 1.0 - self.uniform());
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln() + (1.0 - self.uniform()).ln() / shape;
            }
        }
    }

    /// Fills `values` with normal numbers of the given standard deviation.
    pub fn fill_normal<T: Element>(&mut self, values: &mut [T], standard_deviation: f64) {
        for value in values {
            *value = T::from_f64(self.normal() * standard_deviation);
        }
    }

    /// Fills `values` uniformly from [-bound, bound).
    pub fn fill_uniform<T: Element>(&mut self, values: &mut [T], bound: f64) {
        for value in values {
            *value = T::from_f64((2.0 * self.uniform() - 1.0) * bound);
        }
    }

    /// Puts 0..n in a random order (Fisher and Yates).
    #[must_use]
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_functions_of_their_four_numbers() {
        let draw = |seed, epoch, purpose, sample| RandomStream::new(seed, epoch, purpose, sample).next_u64();
        let base = draw(1, 2, Purpose::Dropout(0), 3);
        assert_eq!(base, draw(1, 2, Purpose::Dropout(0), 3));
        for other in [
            draw(2, 2, Purpose::Dropout(0), 3),
            draw(1, 3, Purpose::Dropout(0), 3),
            draw(1, 2, Purpose::Dropout(1), 3),
            draw(1, 2, Purpose::Shuffle, 3),
            draw(1, 2, Purpose::Dropout(0), 4),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn normal_numbers_have_their_moments() {
        let mut values = vec![0.0f64; 100_000];
        RandomStream::new(5, 0, Purpose::Other(0), 0).fill_normal(&mut values, 2.0);
        let mean = values.iter().sum::<f64>() / 1e5;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.03 && (variance - 4.0).abs() < 0.1, "mean {mean}, variance {variance}");
    }

    #[test]
    fn gamma_and_beta_numbers_have_their_moments() {
        let mut stream = RandomStream::new(6, 0, Purpose::Other(0), 0);
        let mut moments = |draw: &dyn Fn(&mut RandomStream) -> f64| {
            let values: Vec<f64> = (0..100_000).map(|_| draw(&mut stream)).collect();
            let mean = values.iter().sum::<f64>() / 1e5;
            (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1e5)
        };
        for shape in [0.2, 1.0, 2.5] {
            let (mean, variance) = moments(&|stream| stream.ln_gamma(shape).exp());
            assert!((mean / shape - 1.0).abs() < 0.02, "mean {mean} of gamma({shape})");
            assert!((variance / shape - 1.0).abs() < 0.05, "variance {variance} of gamma({shape})");
        }
        for (a, b) in [(0.001, 0.001), (0.2, 0.2), (1.0, 1.0), (2.0, 5.0), (1000.0, 1000.0)] {
            let (mean, variance) = moments(&|stream| stream.beta(a, b));
            let expected = a / (a + b);
            assert!((mean / expected - 1.0).abs() < 0.02, "mean {mean} of beta({a}, {b})");
            let expected = a * b / ((a + b).powi(2) * (a + b + 1.0));
            assert!((variance / expected - 1.0).abs() < 0.05, "variance {variance} of beta({a}, {b})");
        }
    }

    #[test]
    fn below_is_uniform_and_a_permutation_has_every_index() {
        let mut stream = RandomStream::new(5, 0, Purpose::Shuffle, 0);
        let mut counts = [0; 7];
        for _ in 0..70_000 {
            counts[stream.below(7) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (9_600..10_400).contains(count)), "{counts:?}");
        let mut order = stream.permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
