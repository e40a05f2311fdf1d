//! Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch's `torch.optim.SGD`.

use rayon::prelude::*;

use super::group::Group;
use super::optimizer::{
    BLOCK, Base, Buffer, Gradients, Moved, Optimizer, OptimizerError, State, check_fraction,
};
use crate::nn::Module;

const BUFFERS: [Buffer; 1] = [("momentum_buffer", false)];

/// `v <- momentum v + (g + decay w)`, `w <- w - lr v` (or `w - lr (g + momentum v)` with Nesterov), d2l book section 12.6.
///
/// The first step of a parameter sets `v` to the gradient, as PyTorch does. The state has a `momentum_buffer` for each parameter
/// that moved, if there is momentum.
#[derive(Debug, Clone)]
pub struct Sgd {
    base: Base,
    momentum: f64,
    nesterov: bool,
    decoupled: bool,
}

impl Sgd {
    /// Plain gradient descent at this learning rate.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        Self { base: Base::new(learning_rate, 0.0), momentum: 0.0, nesterov: false, decoupled: false }
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
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.base.weight_decay = weight_decay;
        self
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
        self.base.groups.push(group);
        self
    }
}

impl Optimizer for Sgd {
    fn learning_rate(&self) -> f64 {
        self.base.learning_rate
    }

    fn set_learning_rate(&mut self, rate: f64) {
        self.base.learning_rate = rate;
    }

    fn update(
        &mut self,
        module: &mut dyn Module<f32>,
        gradients: Gradients<'_>,
    ) -> Result<(), OptimizerError> {
        check_fraction("momentum", self.momentum)?;
        let (scale, momentum, nesterov) = (gradients.scale() as f32, self.momentum as f32, self.nesterov);
        let (decoupled, buffers) = (self.decoupled, if momentum == 0.0 { &[][..] } else { &BUFFERS });
        self.base.step(module, gradients, buffers, |moved| {
            let Moved { parameter, gradient, rate, decay, first, state } = moved;
            // The two forms of decay: what is left of a weight, and what is added to its gradient.
            let (kept, decay) =
                if decoupled { ((1.0 - rate * decay) as f32, 0.0) } else { (1.0, decay as f32) };
            let (values, rate) = (parameter.value.data_mut(), rate as f32);
            if kept != 1.0 {
                values.par_chunks_mut(BLOCK).for_each(|block| block.iter_mut().for_each(|w| *w *= kept));
            }
            let [buffer] = state else {
                let blocks = values.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
                blocks.for_each(|(values, gradients)| {
                    for (value, &gradient) in values.iter_mut().zip(gradients) {
                        *value -= rate * (gradient * scale + decay * *value);
                    }
                });
                return;
            };
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
        self.base.state.clone()
    }

    fn load_state(&mut self, module: &dyn Module<f32>, state: State) -> Result<(), OptimizerError> {
        self.base.load_state(module, state, &BUFFERS)
    }
}
