//! The optimizers, each declared in this file alone: its name, its settings and its [`Rule`].

use rayon::prelude::*;

use super::optimizer::{
    AT_LEAST_0, BLOCK, ByRule, FRACTION, Moved, Optimizer, OptimizerError, Rule, StateTensor, check,
};
use crate::names::choices;
use crate::train::Settings;

choices! {
    /// An optimizer by its name.
    "optimizer" enum OptimizerKind {
        /// The optimizer with what the settings of a run say.
        #[must_use]
        pub fn build(settings: &Settings) -> Box<dyn Optimizer>;

        /// Stochastic gradient descent, with momentum if there is any.
        Sgd = "sgd" => {
            configured(settings, Sgd::new(settings.lr).momentum(settings.momentum).nesterov(settings.nesterov))
        },
        /// Adam with decoupled weight decay, for learning rates such as 0.001.
        AdamW = "adamw" => configured(settings, AdamW::new(settings.lr)),
        /// RMSprop, with momentum if there is any, for learning rates such as 0.001.
        RmsProp = "rmsprop" => configured(settings, RmsProp::new(settings.lr).momentum(settings.momentum)),
    }
}

/// The optimizer with those settings that all have.
fn configured<R: Rule + 'static>(settings: &Settings, optimizer: ByRule<R>) -> Box<dyn Optimizer> {
    let groups = settings.lr_of.iter().flat_map(|factors| factors.0.clone());
    Box::new(optimizer.weight_decay(settings.weight_decay).groups(groups))
}

impl OptimizerKind {
    /// The settings of a run that change nothing in it.
    pub(crate) fn ignores(self) -> &'static [&'static str] {
        match self {
            Self::Sgd => &[],
            Self::AdamW => &["momentum", "nesterov"],
            Self::RmsProp => &["nesterov"],
        }
    }
}

/// Stochastic gradient descent with momentum, Nesterov's variant and weight decay, as PyTorch's `torch.optim.SGD`.
///
/// `v <- momentum v + (g + decay w)`, `w <- w - lr v` (or `w - lr (g + momentum v)` with Nesterov), d2l book section 12.6. The
/// first step of a parameter sets `v` to the gradient, as PyTorch does. The state has a `momentum_buffer` for each parameter that
/// moved, if there is momentum.
pub type Sgd = ByRule<SgdRule>;

/// The rule of [`Sgd`].
#[derive(Debug, Clone, Default)]
pub struct SgdRule {
    momentum: f64,
    nesterov: bool,
    decoupled: bool,
}

impl Sgd {
    /// Plain gradient descent at this learning rate.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        Self::by(SgdRule::default(), learning_rate, 0.0)
    }

    /// With this factor on the old momentum buffer, at least 0 and below 1.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        self.with(|rule| rule.momentum = momentum)
    }

    /// Looks ahead by one step of momentum (Sutskever et al. 2013).
    #[must_use]
    pub fn nesterov(self, nesterov: bool) -> Self {
        self.with(|rule| rule.nesterov = nesterov)
    }

    /// Shrinks the weights by `lr decay w` beside the step instead of going through the gradient and the
    /// momentum (SGDW, Loshchilov and Hutter 2019, algorithm 1).
    #[must_use]
    pub fn decoupled(self, decoupled: bool) -> Self {
        self.with(|rule| rule.decoupled = decoupled)
    }
}

impl Rule for SgdRule {
    const STATE: &'static [StateTensor] = &[StateTensor::of_parameter("momentum_buffer")];

    fn state(&self) -> &'static [StateTensor] {
        if self.momentum == 0.0 { &[] } else { Self::STATE }
    }

    fn check(&self) -> Result<(), OptimizerError> {
        check("momentum", self.momentum, FRACTION)
    }

    fn step(&self, moved: Moved<'_>) {
        let Moved { parameter, gradient, scale, rate, decay, first, state } = moved;
        let (momentum, nesterov) = (self.momentum as f32, self.nesterov);
        // The two forms of decay: what is left of a weight, and what is added to its gradient.
        let (kept, decay) =
            if self.decoupled { ((1.0 - rate * decay) as f32, 0.0) } else { (1.0, decay as f32) };
        let rate = rate as f32;
        let values = parameter.value.data_mut();
        if kept != 1.0 {
            values.par_iter_mut().with_min_len(BLOCK).for_each(move |value| *value *= kept);
        }
        // Closures own their numbers: behind references the loops would read them anew for each element.
        let elements = values.par_iter_mut().zip(gradient).with_min_len(BLOCK);
        let [buffer] = state else {
            return elements.for_each(move |(value, &gradient)| {
                *value -= rate * (gradient * scale + decay * *value);
            });
        };
        elements.zip(buffer.data_mut()).for_each(move |((value, &gradient), buffer)| {
            let gradient = gradient * scale + decay * *value;
            *buffer = if first { gradient } else { momentum * *buffer + gradient };
            *value -= rate * if nesterov { gradient + momentum * *buffer } else { *buffer };
        });
    }
}

/// Adam with decoupled weight decay, as PyTorch's `torch.optim.AdamW`: steps by the running mean of the gradient over the root of
/// that of its square (Kingma and Ba 2015, algorithm 1), beside which weights shrink by `lr decay w` (Loshchilov and Hutter 2019,
/// algorithm 2).
///
/// `m <- b1 m + (1 - b1) g`, `v <- b2 v + (1 - b2) g^2`,
/// `w <- (1 - lr decay) w - lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps)`, where t counts a parameter's steps from 1. The
/// state has `exp_avg` (m), `exp_avg_sq` (v) and `step` (t, a number) for each parameter that moved.
pub type AdamW = ByRule<AdamWRule>;

/// The rule of [`AdamW`].
#[derive(Debug, Clone)]
pub struct AdamWRule {
    betas: [f64; 2],
    epsilon: f64,
}

impl AdamW {
    /// AdamW at this learning rate, with PyTorch's defaults: betas 0.9 and 0.999, epsilon 1e-8, weight decay 0.01.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        Self::by(AdamWRule { betas: [0.9, 0.999], epsilon: 1e-8 }, learning_rate, 0.01)
    }

    /// With these factors on the old means of the gradient and of its square, each at least 0 and below 1.
    #[must_use]
    pub fn betas(self, first: f64, second: f64) -> Self {
        self.with(|rule| rule.betas = [first, second])
    }

    /// With this number added to the root in the divisor.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        self.with(|rule| rule.epsilon = epsilon)
    }
}

impl Rule for AdamWRule {
    const STATE: &'static [StateTensor] = &[
        StateTensor::of_parameter("exp_avg"),
        StateTensor::of_parameter("exp_avg_sq"),
        StateTensor::number("step"),
    ];

    fn check(&self) -> Result<(), OptimizerError> {
        check("the first beta", self.betas[0], FRACTION)?;
        check("the second beta", self.betas[1], FRACTION)?;
        check("epsilon", self.epsilon, AT_LEAST_0)
    }

    fn step(&self, moved: Moved<'_>) {
        let Moved { parameter, gradient, scale, rate, decay, state, .. } = moved;
        let [first, second, step] = state else { unreachable!("a tensor for each buffer") };
        let [beta1, beta2] = self.betas;
        step.data_mut()[0] += 1.0;
        let count = f64::from(step.item());
        // In f64, as PyTorch has these numbers; what is done to elements is f32.
        let step_size = (rate / (1.0 - beta1.powf(count))) as f32;
        let root = (1.0 - beta2.powf(count)).sqrt() as f32;
        let (kept, new1, beta2, new2) =
            ((1.0 - rate * decay) as f32, (1.0 - beta1) as f32, beta2 as f32, (1.0 - beta2) as f32);
        let epsilon = self.epsilon as f32;
        let moments = first.data_mut().par_iter_mut().zip(second.data_mut());
        let elements = parameter.value.data_mut().par_iter_mut().zip(gradient).zip(moments);
        elements.with_min_len(BLOCK).for_each(move |((value, &gradient), (mean, square))| {
            let gradient = gradient * scale;
            *mean += new1 * (gradient - *mean);
            *square = beta2 * *square + new2 * gradient * gradient;
            *value = kept * *value - step_size * *mean / (square.sqrt() / root + epsilon);
        });
    }
}

/// RMSprop, as PyTorch's `torch.optim.RMSprop` without centering: steps by the gradient over the root of the running mean of its
/// square (Tieleman and Hinton 2012, lecture 6.5), d2l book section 12.8.
///
/// With `g + decay w` for g: `s <- a s + (1 - a) g^2`, `v <- momentum v + g / (sqrt(s) + eps)`, `w <- w - lr v`. The state has
/// `square_avg` (s) and, if there is momentum, `momentum_buffer` (v) for each parameter that moved.
pub type RmsProp = ByRule<RmsPropRule>;

/// The rule of [`RmsProp`].
#[derive(Debug, Clone)]
pub struct RmsPropRule {
    alpha: f64,
    epsilon: f64,
    momentum: f64,
}

impl RmsProp {
    /// RMSprop at this learning rate, with PyTorch's defaults: alpha 0.99, epsilon 1e-8, no momentum, no weight decay.
    #[must_use]
    pub fn new(learning_rate: f64) -> Self {
        Self::by(RmsPropRule { alpha: 0.99, epsilon: 1e-8, momentum: 0.0 }, learning_rate, 0.0)
    }

    /// With this factor on the old mean of the gradient's square, at least 0 and below 1.
    #[must_use]
    pub fn alpha(self, alpha: f64) -> Self {
        self.with(|rule| rule.alpha = alpha)
    }

    /// With this number added to the root in the divisor.
    #[must_use]
    pub fn epsilon(self, epsilon: f64) -> Self {
        self.with(|rule| rule.epsilon = epsilon)
    }

    /// With this factor on the old momentum buffer, at least 0 and below 1.
    #[must_use]
    pub fn momentum(self, momentum: f64) -> Self {
        self.with(|rule| rule.momentum = momentum)
    }
}

impl Rule for RmsPropRule {
    const STATE: &'static [StateTensor] =
        &[StateTensor::of_parameter("square_avg"), StateTensor::of_parameter("momentum_buffer")];

    fn state(&self) -> &'static [StateTensor] {
        if self.momentum == 0.0 { &Self::STATE[..1] } else { Self::STATE }
    }

    fn check(&self) -> Result<(), OptimizerError> {
        check("alpha", self.alpha, FRACTION)?;
        check("momentum", self.momentum, FRACTION)?;
        check("epsilon", self.epsilon, AT_LEAST_0)
    }

    fn step(&self, moved: Moved<'_>) {
        let Moved { parameter, gradient, scale, rate, decay, state, .. } = moved;
        let [squares, momenta @ ..] = state else { unreachable!("a tensor for each buffer") };
        let (alpha, new, epsilon) = (self.alpha as f32, (1.0 - self.alpha) as f32, self.epsilon as f32);
        let (rate, decay, momentum) = (rate as f32, decay as f32, self.momentum as f32);
        let direction = move |value: f32, gradient: f32, square: &mut f32| {
            let gradient = gradient * scale + decay * value;
            *square = alpha * *square + new * gradient * gradient;
            gradient / (square.sqrt() + epsilon)
        };
        let values = parameter.value.data_mut().par_iter_mut();
        let elements = values.zip(gradient).zip(squares.data_mut()).with_min_len(BLOCK);
        let [buffer] = momenta else {
            return elements.for_each(move |((value, &gradient), square)| {
                *value -= rate * direction(*value, gradient, square);
            });
        };
        elements.zip(buffer.data_mut()).for_each(move |(((value, &gradient), square), buffer)| {
            *buffer = momentum * *buffer + direction(*value, gradient, square);
            *value -= rate * *buffer;
        });
    }
}
