//! Adam with decoupled weight decay, as PyTorch's `torch.optim.AdamW`.

use rayon::prelude::*;
use tensor::Tensor;

use super::group::Group;
use super::optimizer::{
    BLOCK, Gradients, Moved, Optimizer, OptimizerError, State, check_fraction, check_state, for_each_moved,
};
use crate::nn::Module;

// The names of the two moments and of the count of steps in the state.
const FIRST: &str = "exp_avg";
const SECOND: &str = "exp_avg_sq";
const STEP: &str = "step";

/// AdamW: steps by the running mean of the gradient over the root of that of its square (Kingma and Ba 2015, algorithm 1), beside
/// which weights shrink by `lr decay w` (Loshchilov and Hutter 2019, algorithm 2).
///
/// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
/// `w <- (1 - lr decay) w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)`, where t counts a parameter's steps from 1. The state
/// has `exp_avg` (m), `exp_avg_sq` (v) and `step` (t, a number) for each parameter that moved.
#[derive(Debug, Clone)]
pub struct AdamW {
    learning_rate: f64,
    betas: [f64; 2],
    epsilon: f64,
    weight_decay: f64,
    groups: Vec<Group>,
    state: State,
}

impl AdamW {
    /// AdamW at this learning rate, with PyTorch's defaults: betas 0.9 and 0.999, epsilon 1e-8, weight decay 0.01.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        Self {
            learning_rate,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 0.01,
            groups: Vec::new(),
            state: State::new(),
        }
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
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// With one more group, after those that there are.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }
}

/// The state tensor of this name, zeros if there was none.
fn entry<'a>(state: &'a mut State, name: &str, buffer: &str, like: &Tensor<f32>) -> &'a mut Tensor<f32> {
    state.entry(format!("{name}.{buffer}")).or_insert_with(|| Tensor::zeros(like.shape()))
}

impl Optimizer for AdamW {
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
        let [beta1, beta2] = self.betas;
        check_fraction("the first beta", beta1)?;
        check_fraction("the second beta", beta2)?;
        if !(self.epsilon >= 0.0 && self.epsilon.is_finite()) {
            let expected = "a finite number of at least 0";
            return Err(OptimizerError::Setting { name: "epsilon", expected, found: self.epsilon });
        }
        let (scale, epsilon, state) = (gradients.scale() as f32, self.epsilon as f32, &mut self.state);
        let settings = (self.learning_rate, self.weight_decay);
        for_each_moved(module, gradients, &self.groups, settings, |moved| {
            let Moved { name, parameter, gradient, rate, decay } = moved;
            let step = entry(state, &name, STEP, &Tensor::scalar(0.0));
            step.data_mut()[0] += 1.0;
            let count = f64::from(step.item());
            // In f64, as PyTorch has these numbers; what is done to elements is f32.
            let step_size = (rate / (1.0 - beta1.powf(count))) as f32;
            let root = (1.0 - beta2.powf(count)).sqrt() as f32;
            let (kept, new1, beta2, new2) =
                ((1.0 - rate * decay) as f32, (1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
            // Out of the map and back, so that both moments can be changed at once.
            let mut first =
                std::mem::replace(entry(state, &name, FIRST, &parameter.value), Tensor::scalar(0.0));
            let second = entry(state, &name, SECOND, &parameter.value);
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
            *entry(state, &name, FIRST, &parameter.value) = first;
        })
    }

    fn state(&self) -> State {
        self.state.clone()
    }

    fn load_state(&mut self, module: &dyn Module<f32>, state: State) -> Result<(), OptimizerError> {
        check_state(module, &state, &[(FIRST, false), (SECOND, false), (STEP, true)])?;
        self.state = state;
        Ok(())
    }
}
