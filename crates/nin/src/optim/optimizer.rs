//! [`Optimizer`]: what moves the parameters of a module, with the gradients it is given and the state it keeps by name.

use std::collections::BTreeMap;
use std::fmt::Debug;

use rayon::prelude::*;
use tensor::{Shape, Tensor};

use super::group::Group;
use crate::nn::{Module, Parameter, check_names, parameters, parameters_mut, update_buffers};

/// Elements that one task updates at least.
pub(super) const BLOCK: usize = 4096;

/// State tensors by name: the parameter's name, a dot, and PyTorch's name of the buffer, as in `0.weight.momentum_buffer`.
pub type State = BTreeMap<String, Tensor<f32>>;

/// Moves the parameters of a module against their gradients.
///
/// One step reads as in PyTorch: `optimizer.step(&mut net, gradients)?`. An optimizer of one's own is a [`Rule`], or implements
/// five methods; a run then trains with it, saves its state and goes on from it.
pub trait Optimizer: Debug + Send {
    /// The learning rate of the next step, before the factors of groups.
    fn learning_rate(&self) -> f64;

    /// Sets the learning rate of the next step: what a [`Scheduler`](super::Scheduler) says, as a rule.
    fn set_learning_rate(&mut self, rate: f64);

    /// Moves every parameter by one step. A parameter that needs no gradient stays as it is.
    ///
    /// The result must not depend on how the work is spread over threads.
    ///
    /// # Errors
    /// [`OptimizerError`] if the settings cannot work, the gradients are not those of the module, or two of its parameters have
    /// one name; nothing is changed then.
    fn update(
        &mut self,
        module: &mut dyn Module<f32>,
        gradients: Gradients<'_>,
    ) -> Result<(), OptimizerError>;

    /// Ends a step: [`Optimizer::update`], then the buffers, such as running statistics ([`update_buffers`]).
    ///
    /// # Errors
    /// As [`Optimizer::update`].
    fn step(&mut self, module: &mut dyn Module<f32>, gradients: Gradients<'_>) -> Result<(), OptimizerError> {
        self.update(module, gradients)?;
        update_buffers(module);
        Ok(())
    }

    /// Everything that the next step depends on besides parameters and settings: empty before the first step. Tensors share their
    /// elements.
    fn state(&self) -> State;

    /// Puts a saved state back; an empty one is that of an optimizer that has not stepped.
    ///
    /// # Errors
    /// [`OptimizerError::State`] if a tensor is none of this optimizer's for this module, or two parameters have one name;
    /// nothing is changed then.
    fn load_state(&mut self, module: &dyn Module<f32>, state: State) -> Result<(), OptimizerError>;
}

/// The reason why an optimizer cannot step or go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerError {
    /// A setting cannot work, a group has no parameter, two parameters have one name, or there is not a gradient of each
    /// parameter's shape: which, what was expected and what was found.
    #[error("optimizer: {0}")]
    Step(String),
    /// A saved tensor is not part of the optimizer's state for this module: its name, what was expected and what was found. Or
    /// two parameters of the module have one name.
    #[error("optimizer state: {0}")]
    State(String),
}

/// The gradients of a step: a tensor for each parameter, in the order of [`parameters`], and a factor on all of them.
#[derive(Debug, Clone, Copy)]
pub struct Gradients<'a> {
    tensors: &'a [Tensor<f32>],
    scale: f64,
}

impl<'a> Gradients<'a> {
    /// These gradients as they are.
    #[must_use]
    pub fn new(tensors: &'a [Tensor<f32>]) -> Self {
        Self { tensors, scale: 1.0 }
    }

    /// The tensors, which are yet to be multiplied by [`Gradients::scale`].
    #[must_use]
    pub fn tensors(&self) -> &'a [Tensor<f32>] {
        self.tensors
    }

    /// The factor on all tensors.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// All gradients times a factor. No pass over memory: the optimizer multiplies when it reads them.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self { scale: self.scale * factor, ..self }
    }

    /// The Euclidean norm of all gradients together, summed in f64 in the parameters' order.
    #[must_use]
    pub fn norm(&self) -> f64 {
        const BLOCK: usize = 1 << 14;
        let blocks: Vec<_> = self.tensors.iter().flat_map(|gradient| gradient.data().chunks(BLOCK)).collect();
        let sums: Vec<f64> = blocks
            .into_par_iter()
            .map(|block| block.iter().map(|&g| f64::from(g) * f64::from(g)).sum())
            .collect();
        self.scale * sums.iter().sum::<f64>().sqrt()
    }

    /// All gradients brought down to a Euclidean norm of `limit`, if it is larger (`torch.nn.utils.clip_grad_norm_`).
    #[must_use]
    pub fn clip_norm(self, limit: f64) -> Self {
        let norm = self.norm();
        if norm > limit { self.scaled(limit / norm) } else { self }
    }
}

impl<'a> From<&'a [Tensor<f32>]> for Gradients<'a> {
    fn from(tensors: &'a [Tensor<f32>]) -> Self {
        Self::new(tensors)
    }
}

/// A tensor that a [`Rule`] keeps for each parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateTensor {
    /// PyTorch's name of it, as `momentum_buffer`.
    pub name: &'static str,
    /// True if it is a number, as the count of steps, and not of its parameter's shape.
    pub is_number: bool,
}

impl StateTensor {
    /// One of the parameter's shape.
    #[must_use]
    pub const fn of_parameter(name: &'static str) -> Self {
        Self { name, is_number: false }
    }

    /// A number.
    #[must_use]
    pub const fn number(name: &'static str) -> Self {
        Self { name, is_number: true }
    }

    fn shape(self, parameter: &Parameter<f32>) -> Shape {
        if self.is_number { Shape::scalar() } else { parameter.value.shape() }
    }
}

/// A parameter that a step moves, with what its group says and what is known from earlier steps.
#[derive(Debug)]
pub struct Moved<'a> {
    /// The parameter.
    pub parameter: &'a mut Parameter<f32>,
    /// Its gradient, which is yet to be multiplied by `scale`.
    pub gradient: &'a [f32],
    /// The factor on the gradient.
    pub scale: f32,
    /// The learning rate with the group's factor.
    pub rate: f64,
    /// The weight decay.
    pub decay: f64,
    /// True in the parameter's first step.
    pub first: bool,
    /// A tensor for each [`StateTensor`] of the rule, zeros in the first step.
    pub state: &'a mut [Tensor<f32>],
}

/// The way a step moves one parameter: all that tells optimizers apart which move each parameter by itself.
pub trait Rule: Debug + Send {
    /// All that the state may have for a parameter.
    const STATE: &'static [StateTensor];

    /// That which it has with these settings.
    fn state(&self) -> &'static [StateTensor] {
        Self::STATE
    }

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// [`OptimizerError::Step`].
    fn check(&self) -> Result<(), OptimizerError>;

    /// Moves the parameter and its state.
    fn step(&self, moved: Moved<'_>);
}

/// The [`Optimizer`] of a [`Rule`]: learning rate, weight decay, groups and state are the same for all.
#[derive(Debug, Clone)]
pub struct ByRule<R> {
    rule: R,
    learning_rate: f64,
    weight_decay: f64,
    groups: Vec<Group>,
    state: State,
}

impl<R: Rule> ByRule<R> {
    /// The rule at this learning rate, with this weight decay.
    #[must_use]
    pub fn by(rule: R, learning_rate: f64, weight_decay: f64) -> Self {
        Self { rule, learning_rate, weight_decay, groups: Vec::new(), state: State::new() }
    }

    /// With this decay of weights, not of biases: an L2 penalty, or decoupled from the gradient, as the rule has it.
    #[must_use]
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// With more groups, after those that there are.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = Group>) -> Self {
        self.groups.extend(groups);
        self
    }

    /// With one more group, after those that there are.
    #[must_use]
    pub fn group(self, group: Group) -> Self {
        self.groups([group])
    }

    /// With another setting of the rule.
    pub(super) fn with(mut self, change: impl FnOnce(&mut R)) -> Self {
        change(&mut self.rule);
        self
    }
}

impl<R: Rule> Optimizer for ByRule<R> {
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
        self.rule.check()?;
        let refuse = |message: String| Err(OptimizerError::Step(message));
        check("learning rate", self.learning_rate, AT_LEAST_0)?;
        check("weight decay", self.weight_decay, AT_LEAST_0)?;
        let (all, tensors, kept) = (parameters_mut(module), gradients.tensors(), self.rule.state());
        check_names(all.iter().map(|(name, _)| name)).map_err(OptimizerError::Step)?;
        if tensors.len() != all.len() {
            return refuse(format!("{} gradients for {} parameters", tensors.len(), all.len()));
        }
        for ((name, parameter), gradient) in all.iter().zip(tensors) {
            let (gradient, expected) = (gradient.shape(), parameter.value.shape());
            if gradient != expected {
                return refuse(format!("the gradient of {name} is {gradient}, expected {expected}"));
            }
        }
        for group in &self.groups {
            check("rate of a group", group.rate, AT_LEAST_0)?;
            check("weight decay of a group", group.weight_decay.unwrap_or(0.0), AT_LEAST_0)?;
            if !all.iter().any(|(name, _)| group.contains(name)) {
                let known: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
                let (pattern, known) = (&group.pattern, known.join(", "));
                return refuse(format!(
                    "no parameter's name matches the group {pattern:?}; there are: {known}"
                ));
            }
        }
        for ((name, parameter), gradient) in all.into_iter().zip(tensors) {
            let group = self.groups.iter().find(|group| group.contains(&name));
            let factor = group.map_or(1.0, |group| group.rate);
            if factor == 0.0 || !parameter.requires_grad {
                continue;
            }
            let usual = if parameter.decays { self.weight_decay } else { 0.0 };
            let decay = group.and_then(|group| group.weight_decay).unwrap_or(usual);
            let (gradient, scale) = (gradient.data(), gradients.scale() as f32);
            let rate = self.learning_rate * factor;
            let names: Vec<String> = kept.iter().map(|own| format!("{name}.{}", own.name)).collect();
            let first = names.iter().any(|name| !self.state.contains_key(name));
            // Out of the map and back, so that all can be changed at once.
            let take = |(name, kept): (&String, &StateTensor)| {
                let zeros = || Tensor::zeros(kept.shape(parameter));
                self.state.remove(name).unwrap_or_else(zeros)
            };
            let mut own: Vec<Tensor<f32>> = names.iter().zip(kept).map(take).collect();
            self.rule.step(Moved { parameter, gradient, scale, rate, decay, first, state: &mut own });
            self.state.extend(names.into_iter().zip(own));
        }
        Ok(())
    }

    fn state(&self) -> State {
        self.state.clone()
    }

    fn load_state(&mut self, module: &dyn Module<f32>, state: State) -> Result<(), OptimizerError> {
        let all = parameters(module);
        check_names(all.iter().map(|(name, _)| name)).map_err(OptimizerError::State)?;
        for (name, tensor) in &state {
            let own = name.rsplit_once('.').and_then(|(owner, kept)| {
                let (_, parameter) = all.iter().find(|(name, _)| name == owner)?;
                Some(R::STATE.iter().find(|own| own.name == kept)?.shape(parameter))
            });
            if own == Some(tensor.shape()) {
                continue;
            }
            let expected = own.map_or_else(
                || {
                    let names: Vec<&str> = R::STATE.iter().map(|own| own.name).collect();
                    format!("{} of one of the network's {} parameters", names.join(" or "), all.len())
                },
                |shape| shape.to_string(),
            );
            let message = format!("tensor {name} is {}, expected {expected}", tensor.shape());
            return Err(OptimizerError::State(message));
        }
        self.state = state;
        Ok(())
    }
}

/// The values that can work: as an error says it, and their test.
pub(crate) type Bounds<T> = (&'static str, fn(T) -> bool);

pub(crate) const AT_LEAST_0: Bounds<f64> =
    ("a finite number of at least 0", |number| number.is_finite() && number >= 0.0);
pub(crate) const FRACTION: Bounds<f64> = ("at least 0 and below 1", |number| (0.0..1.0).contains(&number));

/// Refuses a number that is out of its bounds.
pub(super) fn check(name: &str, found: f64, (expected, holds): Bounds<f64>) -> Result<(), OptimizerError> {
    if holds(found) {
        return Ok(());
    }
    Err(OptimizerError::Step(format!("{name}: expected {expected}, found {found}")))
}

#[cfg(test)]
mod tests {
    use autograd::{AutogradError, Var};

    use super::*;
    use crate::checkpoint::{load_parameters, save_parameters};
    use crate::nn::{Linear, Sequential};
    use crate::optim::Sgd;
    use crate::testing::{images, loader, place};
    use crate::train::{Settings, Trainer};

    /// Two layers under one name.
    #[derive(Debug)]
    struct Twins(Linear<f32>, Linear<f32>);

    impl Module<f32> for Twins {
        fn forward<'t>(&self, x: Var<'t, f32>) -> Result<Var<'t, f32>, AutogradError> {
            self.1.forward(self.0.forward(x)?)
        }

        fn visit<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<f32>)) {
            [&self.0, &self.1].into_iter().for_each(|layer| layer.visit(path, visit));
        }

        fn visit_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<f32>)) {
            [&mut self.0, &mut self.1].into_iter().for_each(|layer| layer.visit_mut(path, visit));
        }
    }

    /// They would share a momentum buffer, and a place in a file.
    #[test]
    fn parameters_of_one_name_are_refused() {
        let mut twins = Twins(Linear::new(1, 1), Linear::new(1, 1));
        for (_, parameter) in parameters_mut(&mut twins) {
            parameter.value.data_mut()[0] = 1.0;
        }
        let values = |module: &Twins| {
            parameters(module).into_iter().map(|(_, own)| own.value.data()[0]).collect::<Vec<_>>()
        };
        let gradients: Vec<_> =
            parameters(&twins).iter().map(|(_, own)| Tensor::full(own.value.shape(), 1.0)).collect();
        let mut sgd = Sgd::new(0.1).momentum(0.9);
        let error = sgd.step(&mut twins, Gradients::new(&gradients));
        assert_eq!(error, Err(OptimizerError::Step("two parameters are called weight".to_owned())));
        assert!(sgd.state().is_empty() && values(&twins) == [1.0; 4], "nothing is changed");
        let error = sgd.load_state(&twins, State::new());
        assert_eq!(error, Err(OptimizerError::State("two parameters are called weight".to_owned())));

        let (_folder, path) = place("model.safetensors");
        let error = save_parameters(&path, &twins).unwrap_err().to_string();
        assert!(
            error.ends_with("model.safetensors: two tensors are called bias") && !path.exists(),
            "{error}"
        );
        save_parameters(&path, &twins.0).unwrap();
        let error = load_parameters(&path, &mut twins).unwrap_err().to_string();
        assert!(error.ends_with("two parameters are called weight"), "{error}");

        let network = Sequential::new().with(crate::nn::Flatten).with(twins);
        let loader = || loader(&images([1; 3], [0; 4]), 128);
        let trainer = Trainer::of_parts(Settings::default(), network, loader(), loader(), 1);
        assert_eq!(trainer.unwrap_err().to_string(), "two parameters are called 1.weight");
    }
}
