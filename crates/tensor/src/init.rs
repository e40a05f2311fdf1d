//! Initial weights.
//!
//! A weight of O x C x KH x KW (or OUT x IN) has fan-in C KH KW (IN) and fan-out O KH KW (OUT). Each parameter draws from
//! its own stream, so one layer's numbers do not depend on the others.

use crate::{Element, Purpose, RandomStream, Shape, Tensor};

/// The first values of a weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform in +-sqrt(6 / (fan-in + fan-out)): Glorot and Bengio 2010, equation 16; the d2l book's choice.
    XavierUniform,
    /// Normal with standard deviation sqrt(2 / fan-in): He et al. 2015, equation 10; keeps the signal's size through ReLU.
    HeNormal,
    /// Uniform in +-sqrt(6 / fan-in): the same variance as [`Init::HeNormal`].
    HeUniform,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in +-1 / sqrt(fan-in): what PyTorch does for convolutions and linear layers, weights and biases.
    PyTorch,
    /// The same value everywhere.
    Constant(f64),
}

/// Fan-in and fan-out of a weight: its extents are output, input, and then the window.
pub fn fans(weight: Shape) -> (usize, usize) {
    let window: usize = weight.iter().skip(2).product();
    let outputs = weight.first().copied().unwrap_or(1);
    let inputs = weight.get(1).copied().unwrap_or(1);
    (inputs * window, outputs * window)
}

impl Init {
    /// A tensor of this shape, filled. `fan_in` and `fan_out` are those of the layer's weight (a bias has none of its own),
    /// and `index` is the parameter's number in its network.
    pub fn fill<T: Element>(
        self,
        shape: Shape,
        (fan_in, fan_out): (usize, usize),
        seed: u64,
        index: u64,
    ) -> Tensor<T> {
        let mut tensor = Tensor::zeros(shape);
        let mut stream = RandomStream::new(seed, 0, Purpose::Initialization, index);
        let (fan_in, fan_out) = (fan_in.max(1) as f64, fan_out.max(1) as f64);
        let data = tensor.data_mut();
        match self {
            Self::XavierUniform => stream.fill_uniform(data, (6.0 / (fan_in + fan_out)).sqrt()),
            Self::HeNormal => stream.fill_normal(data, (2.0 / fan_in).sqrt()),
            Self::HeUniform => stream.fill_uniform(data, (6.0 / fan_in).sqrt()),
            Self::Normal(deviation) => stream.fill_normal(data, deviation),
            Self::PyTorch => stream.fill_uniform(data, fan_in.sqrt().recip()),
            Self::Constant(value) => data.fill(T::from_f64(value)),
        }
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(init: Init) -> (f64, f64, f64) {
        let shape = Shape::from([64, 32, 3, 3]);
        let weight: Tensor<f64> = init.fill(shape, fans(shape), 3, 0);
        let n = weight.len() as f64;
        let mean = weight.data().iter().sum::<f64>() / n;
        let deviation = (weight.data().iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n).sqrt();
        let largest = weight.data().iter().fold(0.0, |largest: f64, w| largest.max(w.abs()));
        (mean, deviation, largest)
    }

    #[test]
    fn deviations_are_those_of_the_papers() {
        assert_eq!(fans([64, 32, 3, 3].into()), (288, 576));
        for (init, deviation, bound) in [
            (Init::XavierUniform, (2.0f64 / 864.0).sqrt(), (6.0f64 / 864.0).sqrt()),
            (Init::HeNormal, (2.0f64 / 288.0).sqrt(), f64::INFINITY),
            (Init::HeUniform, (2.0f64 / 288.0).sqrt(), (6.0f64 / 288.0).sqrt()),
            (Init::Normal(0.01), 0.01, f64::INFINITY),
            (Init::PyTorch, (1.0f64 / 864.0).sqrt(), (1.0f64 / 288.0).sqrt()),
        ] {
            let (mean, measured, largest) = moments(init);
            assert!(mean.abs() < deviation / 50.0, "{init:?}: mean {mean}");
            assert!(
                (measured / deviation - 1.0).abs() < 0.02,
                "{init:?}: deviation {measured}, not {deviation}"
            );
            assert!(largest <= bound, "{init:?}: {largest} lies beyond {bound}");
        }
        assert_eq!(moments(Init::Constant(1.0)), (1.0, 0.0, 1.0));
    }

    #[test]
    fn parameters_have_streams_of_their_own() {
        let shape = Shape::from([4, 4]);
        let fill = |seed, index| Init::HeNormal.fill::<f32>(shape, fans(shape), seed, index);
        assert_eq!(fill(1, 0), fill(1, 0));
        assert_ne!(fill(1, 0), fill(1, 1));
        assert_ne!(fill(1, 0), fill(2, 0));
    }
}
