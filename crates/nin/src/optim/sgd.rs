//! Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch's `torch.optim.SGD`.

use rayon::prelude::*;
use tensor::Tensor;

use super::group::Group;
use super::optimizer::{
    BLOCK, Gradients, Moved, Optimizer, OptimizerError, State, check_fraction, check_state, for_each_moved,
};
use crate::nn::Module;

/// The name of a momentum buffer in the state.
const MOMENTUM_BUFFER: &str = "momentum_buffer";

/// `v <- momentum v + (g + decay w)`, `w <- w - lr v` (or `w - lr (g + momentum v)` with Nesterov), d2l book section 12.6.
///
/// The first step of a parameter sets `v` to the gradient, as PyTorch does. The state has a `momentum_buffer` for each parameter
/// that moved, if there is momentum.
#[derive(Debug, Clone)]
pub struct Sgd {
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    decoupled: bool,
    groups: Vec<Group>,
    state: State,
}

impl Sgd {
    /// Plain gradient descent at this learning rate.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            decoupled: false,
            groups: Vec::new(),
            state: State::new(),
        }
    }

    /// With this factor on the old momentum buffer, at least 0 and below 1.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Whether to look ahead by one step of momentum (Sutskever et al. 2013).
    #[must_use]
    pub fn nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }

    /// With an L2 penalty on weights, not on biases.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Whether the decay shrinks the weights by `lr decay w` beside the step instead of going through the gradient and the
    /// momentum (SGDW, Loshchilov and Hutter 2019, algorithm 1).
    #[must_use]
    pub fn decoupled(self, decoupled: bool) -> Self {
        Self { decoupled, ..self }
    }

    /// With one more group, after those that there are.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }
}

impl Optimizer for Sgd {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn set_learning_rate(&mut self, rate: f64) {
        self.learning_rate = rate;
    }

    fn update(
        &mut self,
        module: &mut dyn Module<f32>,
        gradients: Gradients<'_>,
    ) -> Result<(), OptimizerError> {
        check_fraction("momentum", self.momentum)?;
        let (scale, momentum, nesterov) = (gradients.scale() as f32, self.momentum as f32, self.nesterov);
        let (decoupled, state) = (self.decoupled, &mut self.state);
        let settings = (self.learning_rate, self.weight_decay);
        for_each_moved(module, gradients, &self.groups, settings, |moved| {
            let Moved { mut name, parameter, gradient, rate, decay } = moved;
            // The two forms of decay: what is left of a weight, and what is added to its gradient.
            let (kept, decay) =
                if decoupled { ((1.0 - rate * decay) as f32, 0.0) } else { (1.0, decay as f32) };
            let (shape, rate) = (parameter.value.shape(), rate as f32);
            let values = parameter.value.data_mut();
            if kept != 1.0 {
                values.par_chunks_mut(BLOCK).for_each(|block| block.iter_mut().for_each(|w| *w *= kept));
            }
            if momentum == 0.0 {
                let blocks = values.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
                blocks.for_each(|(values, gradients)| {
                    for (value, &gradient) in values.iter_mut().zip(gradients) {
                        *value -= rate * (gradient * scale + decay * *value);
                    }
                });
                return;
            }
            name.push('.');
            name.push_str(MOMENTUM_BUFFER);
            let first = !state.contains_key(&name);
            let buffer = state.entry(name).or_insert_with(|| Tensor::zeros(shape));
            let blocks = values
                .par_chunks_mut(BLOCK)
                .zip(gradient.par_chunks(BLOCK))
                .zip(buffer.data_mut().par_chunks_mut(BLOCK));
            blocks.for_each(|((values, gradients), buffers)| {
                for ((value, &gradient), buffer) in values.iter_mut().zip(gradients).zip(buffers) {
                    let gradient = gradient * scale + decay * *value;
                    *buffer = if first { gradient } else { momentum * *buffer + gradient };
                    *value -= rate * if nesterov { gradient + momentum * *buffer } else { *buffer };
                }
            });
        })
    }

    fn state(&self) -> State {
        self.state.clone()
    }

    fn load_state(&mut self, module: &dyn Module<f32>, state: State) -> Result<(), OptimizerError> {
        check_state(module, &state, &[(MOMENTUM_BUFFER, false)])?;
        self.state = state;
        Ok(())
    }
}
