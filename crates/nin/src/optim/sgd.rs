//! Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch's `torch.optim.SGD`.

use rayon::prelude::*;
use tensor::Tensor;

use crate::nn::Parameter;

/// Elements that one task updates: two such blocks of four arrays fit a level-1 cache.
const BLOCK: usize = 4096;

/// `v <- momentum v + (g + decay w)`, `w <- w - lr v` (or `w - lr (g + momentum v)` with Nesterov), d2l book section 12.6.
///
/// The first step of a parameter sets `v` to the gradient, as PyTorch does.
#[derive(Debug)]
pub struct Sgd {
    /// The factor on the old velocity; 0 for plain gradient descent.
    pub momentum: f64,
    /// Whether to look ahead by one step of momentum (Sutskever et al. 2013).
    pub nesterov: bool,
    /// L2 penalty, on parameters that decay: weights, not biases.
    pub weight_decay: f64,
    /// A velocity for each parameter, in the order of the network; empty before the first step or without momentum.
    velocities: Vec<Tensor<f32>>,
}

/// The factor that brings gradients of this Euclidean norm down to `limit`: 1 if they are below it.
#[must_use]
pub fn clip_scale(norm: f64, limit: Option<f64>) -> f64 {
    match limit {
        Some(limit) if norm > limit => limit / norm,
        _ => 1.0,
    }
}

impl Sgd {
    /// An optimiser that has not stepped yet.
    #[must_use]
    pub fn new(momentum: f64, nesterov: bool, weight_decay: f64) -> Self {
        Self { momentum, nesterov, weight_decay, velocities: Vec::new() }
    }

    /// The velocities, in the order of the parameters: empty before the first step or without momentum.
    #[must_use]
    pub fn velocities(&self) -> &[Tensor<f32>] {
        &self.velocities
    }

    /// Puts saved velocities back.
    pub fn set_velocities(&mut self, velocities: Vec<Tensor<f32>>) {
        self.velocities = velocities;
    }

    /// Moves every parameter by one step. `gradients` has a tensor for each parameter, in the same order, and is multiplied
    /// by `scale` first ([`clip_scale`]).
    ///
    /// Element by element, so the result does not depend on how the work is spread over threads.
    ///
    /// # Panics
    /// If the gradients or the velocities do not have the parameters' shapes.
    pub fn step(
        &mut self,
        learning_rate: f64,
        scale: f64,
        parameters: &mut [&mut Parameter<f32>],
        gradients: &[Tensor<f32>],
    ) {
        assert_eq!(parameters.len(), gradients.len(), "one gradient for each parameter");
        let first = self.velocities.is_empty() && self.momentum != 0.0;
        if first {
            self.velocities =
                parameters.iter().map(|parameter| Tensor::zeros(parameter.value.shape())).collect();
        }
        let (rate, scale, momentum, nesterov) =
            (learning_rate as f32, scale as f32, self.momentum as f32, self.nesterov);
        for (index, parameter) in parameters.iter_mut().enumerate() {
            let decay = if parameter.decays { self.weight_decay as f32 } else { 0.0 };
            let gradient = &gradients[index];
            assert_eq!(parameter.value.shape(), gradient.shape(), "gradient of parameter {index}");
            let values = parameter.value.data_mut();
            let Some(velocity) = self.velocities.get_mut(index) else {
                let blocks = values.par_chunks_mut(BLOCK).zip(gradient.data().par_chunks(BLOCK));
                blocks.for_each(|(values, gradients)| {
                    for (value, &gradient) in values.iter_mut().zip(gradients) {
                        *value -= rate * (gradient * scale + decay * *value);
                    }
                });
                continue;
            };
            assert_eq!(velocity.shape(), gradient.shape(), "velocity of parameter {index}");
            let blocks = values
                .par_chunks_mut(BLOCK)
                .zip(gradient.data().par_chunks(BLOCK))
                .zip(velocity.data_mut().par_chunks_mut(BLOCK));
            blocks.for_each(|((values, gradients), velocities)| {
                for ((value, &gradient), velocity) in values.iter_mut().zip(gradients).zip(velocities) {
                    let gradient = gradient * scale + decay * *value;
                    *velocity = if first { gradient } else { momentum * *velocity + gradient };
                    *value -= rate * if nesterov { gradient + momentum * *velocity } else { *velocity };
                }
            });
        }
    }
}
