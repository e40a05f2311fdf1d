//! [`Module`]: what every layer and network is.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::Arc;

use autograd::{AutogradError, Bound, Context, Graph, Plan, TapeGradients, Var};
use tensor::init::Init;
use tensor::{Element, Shape, Tensor, UnaryOp};

use super::parameter::Parameter;
use crate::optim::matches;

/// A variable that an op made, or why it could not.
pub(crate) type Output<'t, T> = Result<Var<'t, T>, AutogradError>;

/// A layer or a network: a function of one variable with parameters of its own.
///
/// A module of one's own writes [`Module::forward`] as in PyTorch, with whatever branches it likes, and names its fields:
///
/// ```
/// use nin::autograd::{AutogradError, Var};
/// use nin::nn::{Conv2d, Module};
/// use nin::tensor::Element;
///
/// /// x + conv(relu(x)).
/// #[derive(Debug)]
/// struct Residual<T: Element> {
///     conv: Conv2d<T>,
/// }
///
/// impl<T: Element> Module<T> for Residual<T> {
///     fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
///         self.conv.forward(x.clone().relu()?)?.add(x)
///     }
///
///     nin::visit_fields!(T: conv);
/// }
/// ```
///
/// Every op of the `tensor` crate that takes one input and has no parameters is a module as it is: [`Relu`](super::Relu),
/// [`MaxPool2d`](super::MaxPool2d), [`Flatten`](super::Flatten) and so on.
pub trait Module<T: Element>: Debug + Send + Sync {
    /// Applies the layer. It runs on shapes alone where a [`Graph`] is traced, as training and prediction do: if what it does
    /// depends on values, see [`gradients_of`].
    ///
    /// # Errors
    /// [`AutogradError::Shape`] if the input does not fit.
    fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError>;

    /// The plan of a pass over an input of this shape in these surroundings. It is traced anew; [`Planned`](super::Planned) keeps
    /// it.
    ///
    /// # Errors
    /// [`AutogradError::Shape`], naming the layer, if the input does not fit.
    fn plan(&self, context: &Context, input: Shape) -> Result<Arc<Plan<T>>, AutogradError> {
        let graph = Graph::trace(context, input, |x| self.forward(x))?;
        Ok(Arc::new(if context.grad_enabled { Plan::new(graph, false) } else { Plan::inference(graph) }))
    }

    /// Calls `visit` with the name and value of each parameter, in the order of PyTorch's `state_dict`, each name beginning with
    /// `path` and a dot if there is a path. [`visit_fields!`](crate::visit_fields) writes it. Optimizers and files know
    /// parameters by their names, and refuse a module that gives one name twice.
    fn visit<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        let _ = (path, visit);
    }

    /// [`Module::visit`] for parameters to be changed.
    fn visit_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        let _ = (path, visit);
    }
}

/// Every op without parameters is a module.
impl<T: Element, O: UnaryOp + Clone> Module<T> for O {
    fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        x.tape().apply(self.clone(), [x])
    }
}

/// A boxed module is what is in the box, with its names: for lists of modules of several types, and networks that are chosen
/// while the program runs.
impl<T: Element> Module<T> for Box<dyn Module<T>> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        (**self).forward(x)
    }

    fn plan(&self, context: &Context, input: Shape) -> Result<Arc<Plan<T>>, AutogradError> {
        (**self).plan(context, input)
    }

    fn visit<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        (**self).visit(path, visit);
    }

    fn visit_mut<'a>(&'a mut self, path: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        (**self).visit_mut(path, visit);
    }
}

/// Writes [`Module::visit`] and [`Module::visit_mut`] for a module: the element type, a colon, and the fields in PyTorch's order.
/// Fields are modules, parameters, or an `Option`, `Box` or `Vec` of those ([`nn::Visit`](crate::nn::Visit)). Names are those of
/// the fields, with a number in a list: `convs.0.weight`.
#[macro_export]
macro_rules! visit_fields {
    ($element:ty: $($field:ident),+ $(,)?) => {
        fn visit<'a>(&'a self, path: &str, visit: &mut dyn FnMut(String, &'a $crate::nn::Parameter<$element>)) {
            $($crate::nn::Visit::<$element, _>::visit_part(
                &self.$field,
                &$crate::nn::join(path, stringify!($field)),
                visit,
            );)+
        }

        fn visit_mut<'a>(
            &'a mut self,
            path: &str,
            visit: &mut dyn FnMut(String, &'a mut $crate::nn::Parameter<$element>),
        ) {
            $($crate::nn::Visit::<$element, _>::visit_part_mut(
                &mut self.$field,
                &$crate::nn::join(path, stringify!($field)),
                visit,
            );)+
        }
    };
}

/// Applies a part of a module under its name, which nodes of a graph and errors of shapes then bear.
///
/// # Errors
/// As [`Module::forward`].
pub fn scoped<'t, T: Element>(
    name: &str,
    part: &dyn Module<T>,
    x: Var<'t, T>,
) -> Result<Var<'t, T>, AutogradError> {
    x.tape().scope(name, || part.forward(x))
}

/// The path of a part: the path of the whole, a dot, and the part's name.
pub fn join(path: &str, name: impl std::fmt::Display) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}.{name}") }
}

/// Every parameter and buffer with its name, in the order of PyTorch's `state_dict`.
pub fn parameters<T: Element>(module: &dyn Module<T>) -> Vec<(String, &Parameter<T>)> {
    let mut all = Vec::new();
    module.visit("", &mut |name, parameter| all.push((name, parameter)));
    all
}

/// The value of every parameter and buffer with its name, in the order of [`parameters`].
pub(crate) fn values<T: Element>(module: &dyn Module<T>) -> Vec<(String, &Tensor<T>)> {
    parameters(module).into_iter().map(|(name, own)| (name, &own.value)).collect()
}

/// Every parameter and buffer with its name, to be changed.
pub fn parameters_mut<T: Element>(module: &mut dyn Module<T>) -> Vec<(String, &mut Parameter<T>)> {
    let mut all = Vec::new();
    module.visit_mut("", &mut |name, parameter| all.push((name, parameter)));
    all
}

/// The gradients that a [`Tape`](autograd::Tape) answers, as an optimizer takes them: a tensor for each of [`parameters`], in
/// their order, zeros where the loss does not depend on the parameter.
///
/// For a module whose control flow depends on values: it cannot be traced, which [`Workers`](crate::train::Workers) do, and runs
/// on a tape for each batch.
///
/// ```
/// use nin::autograd::{Context, Tape};
/// use nin::loss::{Loss, Mse};
/// use nin::nn::{Linear, Module, gradients_of, parameters};
/// use nin::optim::{Gradients, Optimizer, Sgd};
/// use nin::tensor::Tensor;
///
/// let mut net = Linear::<f32>::new(1, 1);
/// let tape = Tape::new(Context::default());
/// let [x, target] = [2.0, 1.0].map(|value| tape.constant(Tensor::full([1, 1], value)));
/// let loss = Mse.mean(net.forward(x)?, target)?;
/// let gradients = gradients_of(&net, &tape.backward(loss)?);
/// Sgd::new(0.1).step(&mut net, Gradients::new(&gradients))?;
/// assert_eq!(parameters(&net)[0].1.value.data(), [0.4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gradients_of<T: Element>(module: &dyn Module<T>, gradients: &TapeGradients<T>) -> Vec<Tensor<T>> {
    let of = |own: &Parameter<T>| gradients.parameter(own.identity).cloned();
    let all = parameters(module).into_iter();
    all.map(|(_, own)| of(own).unwrap_or_else(|| Tensor::zeros(own.value.shape()))).collect()
}

/// Refuses names of which two are the same: a module's [`Module::visit`] has to tell its parameters apart.
pub(crate) fn check_names<'a>(names: impl IntoIterator<Item = &'a String>) -> Result<(), String> {
    let mut known = BTreeSet::new();
    match names.into_iter().find(|&name| !known.insert(name)) {
        Some(name) => Err(format!("two parameters are called {name}")),
        None => Ok(()),
    }
}

/// Freezes the parameters whose names match a pattern, in which `*` stands for any text (`0.*`), and says how many they are: no
/// gradient of theirs is computed, and optimizers leave them as they are (`requires_grad = False` in PyTorch). What comes before
/// the first parameter that learns has no backward pass at all. A [`BatchNorm2d`](super::BatchNorm2d) whose weight and bias are
/// frozen normalizes by its running statistics, which stay as they are.
pub fn freeze<T: Element>(module: &mut dyn Module<T>, pattern: &str) -> usize {
    set_requires_grad(module, pattern, false)
}

/// Takes back what [`freeze`] did to the parameters whose names match a pattern, and says how many they are: they learn from the
/// next step on (`requires_grad = True`). With state that an optimizer has of them from before it goes on.
pub fn unfreeze<T: Element>(module: &mut dyn Module<T>, pattern: &str) -> usize {
    set_requires_grad(module, pattern, true)
}

fn set_requires_grad<T: Element>(module: &mut dyn Module<T>, pattern: &str, learns: bool) -> usize {
    let all = parameters_mut(module).into_iter();
    let matching = all.filter(|(name, own)| !own.is_buffer() && matches(pattern, name));
    matching.map(|(_, own)| own.requires_grad = learns).count()
}

/// A plan of the module with the values of its parameters, each under its number among [`parameters`].
///
/// # Panics
/// If the plan is another module's, or the module does not visit a parameter that its forward pass uses.
pub fn bound<T: Element>(module: &dyn Module<T>, plan: Arc<Plan<T>>, context: &Context) -> Bound<T> {
    let parameters = parameters(module);
    Bound::new(plan, context, |identity| {
        let number = parameters.iter().position(|(_, own)| own.identity == identity);
        let number = number.expect(
            "a parameter that the forward pass uses is not visited: its module lacks `nin::visit_fields!`",
        );
        (number, parameters[number].1.value.clone())
    })
}

/// The number of numbers that training may change by gradients: all parameters, without buffers.
pub fn parameter_count<T: Element>(module: &dyn Module<T>) -> usize {
    let all = parameters(module);
    all.iter().filter(|(_, own)| !own.is_buffer()).map(|(_, own)| own.value.len()).sum()
}

/// The shape of the output for an input of this shape, by running [`Module::forward`] on shapes alone.
///
/// # Errors
/// [`AutogradError::Shape`], naming the layer, if the input does not fit.
pub fn output_shape<T: Element>(module: &dyn Module<T>, input: Shape) -> Result<Shape, AutogradError> {
    Ok(Graph::trace(&Context::default(), input, |x| module.forward(x))?.output_shape())
}

/// Fills every parameter anew: weights by one scheme, biases by another. Each draws from its own stream of the seed. A
/// [`Parameter::constant`] becomes that constant.
pub fn initialize<T: Element>(module: &mut dyn Module<T>, weights: Init, biases: Init, seed: u64) {
    for (index, (_, parameter)) in parameters_mut(module).into_iter().enumerate() {
        if let Some(value) = parameter.constant {
            parameter.value = Tensor::full(parameter.value.shape(), T::from_f64(value));
            continue;
        }
        let scheme = if parameter.decays { weights } else { biases };
        parameter.value = scheme.fill(parameter.value.shape(), parameter.fans, seed, index as u64);
    }
}

/// Moves every buffer as the last forward pass in training says, such as running statistics toward the batch's. The owner of a
/// step calls it once the step is over, so that no result depends on threads; [`Optimizer::step`](crate::optim::Optimizer::step)
/// does.
pub fn update_buffers<T: Element>(module: &mut dyn Module<T>) {
    module.visit_mut("", &mut |_, parameter| parameter.update_buffer());
}

#[cfg(test)]
mod tests {
    use autograd::Tape;

    use super::*;
    use crate::loss::{Loss, Mse};
    use crate::nn::{Linear, Output};
    use crate::optim::{Gradients, Optimizer, Sgd};

    /// One layer for inputs above 0, another one, twice, for others; and one that is never used.
    #[derive(Debug)]
    struct Choosing {
        above: Linear<f32>,
        below: Linear<f32>,
        never: Linear<f32>,
    }

    impl Module<f32> for Choosing {
        fn forward<'t>(&self, x: Var<'t, f32>) -> Output<'t, f32> {
            if x.value().item() > 0.0 {
                self.above.forward(x)
            } else {
                self.below.forward(self.below.forward(x)?)
            }
        }

        crate::visit_fields!(f32: above, below, never);
    }

    #[test]
    fn a_module_that_looks_at_values_learns_on_a_tape() {
        let layer = || Linear::new(1, 1);
        let mut net = Choosing { above: layer(), below: layer(), never: layer() };
        initialize(&mut net, Init::Constant(0.5), Init::Constant(0.0), 0);
        let number = |value| Tensor::full([1, 1], value);
        let mut step = |x: f32, target: f32| {
            let tape = Tape::new(Context::default());
            let output = net.forward(tape.constant(number(x))).unwrap();
            let loss = Mse.mean(output, tape.constant(number(target))).unwrap();
            let loss_now = loss.value().item();
            let gradients = gradients_of(&net, &tape.backward(loss).unwrap());
            Sgd::new(0.05).step(&mut net, Gradients::new(&gradients)).unwrap();
            (loss_now, gradients.iter().map(Tensor::item).collect::<Vec<_>>())
        };
        // 0.5 x 2 is 2 below its target: the slope of the square is -4, times the input for the weight.
        assert_eq!(step(2.0, 3.0), (4.0, vec![-8.0, -4.0, 0.0, 0.0, 0.0, 0.0]));
        // 0.5 x (0.5 x -4) is -1 and 1 above: a slope of 2, times -2 from the second layer and 0.5 x -4 from the first; times
        // 1.5.
        assert_eq!(step(-4.0, -2.0), (1.0, vec![0.0, 0.0, -8.0, 3.0, 0.0, 0.0]));
        for _ in 0..100 {
            step(2.0, 3.0);
        }
        assert!(step(2.0, 3.0).0 < 1e-6);
    }
}
