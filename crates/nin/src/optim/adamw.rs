//! Adam with decoupled weight decay, as PyTorch's `torch.optim.AdamW`.

use rayon::prelude::*;

use super::group::Group;
use super::optimizer::{
    BLOCK, Base, Buffer, Gradients, Moved, Optimizer, OptimizerError, State, check_fraction, check_setting,
};
use crate::nn::Module;

/// The two moments and the count of steps.
const BUFFERS: [Buffer; 3] = [("exp_avg", false), ("exp_avg_sq", false), ("step", true)];

/// AdamW: steps by the running mean of the gradient over the root of that of its square (Kingma and Ba 2015, algorithm 1), beside
/// which weights shrink by `lr decay w` (Loshchilov and Hutter 2019, algorithm 2).
///
/// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
/// `w <- (1 - lr decay) w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)`, where t counts a parameter's steps from 1. The state
/// has `exp_avg` (m), `exp_avg_sq` (v) and `step` (t, a number) for each parameter that moved.
#[derive(Debug, Clone)]
pub struct AdamW {
    base: Base,
    betas: [f64; 2],
    epsilon: f64,
}

impl AdamW {
    /// AdamW at this learning rate, with PyTorch's defaults: betas 0.9 and 0.999, epsilon 1e-8, weight decay 0.01.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        Self { base: Base::new(learning_rate, 0.01), betas: [0.9, 0.999], epsilon: 1e-8 }
    }

    /// With these factors on the old means of the gradient and of its square, each at least 0 and below 1.
    #[must_use]
    pub fn betas(self, first: f64, second: f64) -> Self {
        Self { betas: [first, second], ..self }
    }

    /// With this number added to the root in the divisor.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        Self { epsilon, ..self }
    }

    /// With this decoupled decay of weights, not of biases.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.base.weight_decay = weight_decay;
        self
    }

    /// With one more group, after those that there are.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.base.groups.push(group);
        self
    }
}

impl Optimizer for AdamW {
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
        let [beta1, beta2] = self.betas;
        check_fraction("the first beta", beta1)?;
        check_fraction("the second beta", beta2)?;
        check_setting("epsilon", self.epsilon)?;
        let (scale, epsilon) = (gradients.scale() as f32, self.epsilon as f32);
        self.base.step(module, gradients, &BUFFERS, |moved| {
            let Moved { parameter, gradient, rate, decay, state, .. } = moved;
            let [first, second, step] = state else { unreachable!("a tensor for each buffer") };
            step.data_mut()[0] += 1.0;
            let count = f64::from(step.item());
            // In f64, as PyTorch has these numbers; what is done to elements is f32.
            let step_size = (rate / (1.0 - beta1.powf(count))) as f32;
            let root = (1.0 - beta2.powf(count)).sqrt() as f32;
            let (kept, new1, beta2, new2) =
                ((1.0 - rate * decay) as f32, (1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
            let blocks = parameter
                .value
                .data_mut()
                .par_chunks_mut(BLOCK)
                .zip(gradient.par_chunks(BLOCK))
                .zip(first.data_mut().par_chunks_mut(BLOCK))
                .zip(second.data_mut().par_chunks_mut(BLOCK));
            blocks.for_each(|(((values, gradients), means), squares)| {
                let moments = means.iter_mut().zip(squares);
                for ((value, &gradient), (mean, square)) in values.iter_mut().zip(gradients).zip(moments) {
                    let gradient = gradient * scale;
                    *mean += new1 * (gradient - *mean);
                    *square = beta2 * *square + new2 * gradient * gradient;
                    *value = kept * *value - step_size * *mean / (square.sqrt() / root + epsilon);
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
