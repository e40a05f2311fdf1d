//! Normalization layers, with PyTorch's names of parameters and settings.

use autograd::Var;
use tensor::ops::batch_norm2d::{BatchStatistics, Statistic};
use tensor::{Element, ops};

use super::module::{Module, Output};
use super::parameter::Parameter;

/// A weight that begins as ones, and a bias that begins as zeros: both stay so when networks are initialized.
fn scale_and_shift<T: Element>(channels: usize) -> [Parameter<T>; 2] {
    [1.0, 0.0].map(|value| Parameter::constant([channels], value))
}

/// Each image's channels in groups, by their own mean and variance: weight C, bias C. See [`ops::GroupNorm`].
#[derive(Debug)]
pub struct GroupNorm<T: Element> {
    weight: Parameter<T>,
    bias: Parameter<T>,
    op: ops::GroupNorm,
}

impl<T: Element> GroupNorm<T> {
    /// So many groups of so many channels in all, with an eps of 1e-5.
    #[must_use]
    pub fn new(groups: usize, channels: usize) -> Self {
        let [weight, bias] = scale_and_shift(channels);
        Self { weight, bias, op: ops::GroupNorm::new(groups) }
    }
}

impl<T: Element> Module<T> for GroupNorm<T> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        let (weight, bias) = (self.weight.on(&x), self.bias.on(&x));
        x.group_norm(weight, bias, self.op)
    }

    crate::visit_fields!(T: weight, bias);
}

/// Each channel by the mean and variance of the whole batch in training, and by the running ones in evaluation: weight C, bias C.
/// See [`ops::BatchNorm2d`].
///
/// While weight and bias are frozen ([`freeze`](super::freeze)), training normalizes by the running ones, too, which then stay as
/// they are (`eval()` of the layer in PyTorch).
///
/// The running mean and (unbiased) variance are buffers: saved with the parameters, under PyTorch's names `running_mean` and
/// `running_var`, and moved when a step is over ([`update_buffers`](super::update_buffers)). On a [`Tape`](autograd::Tape) the
/// batch is the tensor at hand; [`Workers`](crate::train::Workers) joins the micro-batches of a step at this layer.
#[derive(Debug)]
pub struct BatchNorm2d<T: Element> {
    weight: Parameter<T>,
    bias: Parameter<T>,
    running_mean: Parameter<T>,
    running_var: Parameter<T>,
    op: ops::BatchNorm2d,
}

impl<T: Element> BatchNorm2d<T> {
    /// So many channels, with PyTorch's eps of 1e-5 and momentum of 0.1.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self::with_settings(channels, 1e-5, 0.1)
    }

    /// So many channels, an eps that is added to variances, and the momentum: the weight of a new batch in the running
    /// statistics.
    #[must_use]
    pub fn with_settings(channels: usize, eps: f64, momentum: f64) -> Self {
        let [weight, bias] = scale_and_shift(channels);
        let seen = BatchStatistics::default();
        let running = |start, statistic| Parameter::running(channels, start, &seen, statistic, momentum);
        let (running_mean, running_var) = (running(0.0, Statistic::Mean), running(1.0, Statistic::Variance));
        let op = ops::BatchNorm2d { eps, statistics: Some(seen) };
        Self { weight, bias, running_mean, running_var, op }
    }
}

impl<T: Element> Module<T> for BatchNorm2d<T> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        let (weight, bias) = (self.weight.on(&x), self.bias.on(&x));
        let frozen = !self.weight.requires_grad && !self.bias.requires_grad;
        let running = (frozen || !x.tape().context().training)
            .then(|| [&self.running_mean, &self.running_var].map(|own| own.on(&x)));
        x.batch_norm2d(weight, bias, running, self.op.clone())
    }

    crate::visit_fields!(T: weight, bias, running_mean, running_var);
}

#[cfg(test)]
mod tests {
    use autograd::Tape;
    use tensor::init::Init;
    use tensor::{BufferPool, Context, Tensor};

    use super::*;
    use crate::nn::{freeze, initialize, output_shape, parameter_count, parameters, update_buffers};

    fn ramp() -> Tensor<f64> {
        Tensor::from_fn([2, 4, 3, 3], |i| (i * i % 37) as f64)
    }

    #[test]
    fn parameters_have_the_names_of_pytorch_and_begin_as_the_identity() {
        let mut layers: [Box<dyn Module<f64>>; 2] =
            [Box::new(GroupNorm::new(2, 4)), Box::new(BatchNorm2d::new(4))];
        for layer in &mut layers {
            initialize(&mut **layer, Init::Normal(0.5), Init::Normal(0.5), 7);
            let found: Vec<_> = parameters(&**layer)
                .into_iter()
                .map(|(name, p)| (name, p.value.data().to_vec(), p.decays))
                .collect();
            let expected = [("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)];
            let expected = expected.map(|(name, value)| (name.to_owned(), vec![value; 4], false));
            assert_eq!(found, expected[..found.len()]);
            assert_eq!(parameter_count(&**layer), 8);
            let tape = Tape::new(Context::default());
            let y = layer.forward(tape.constant(ramp())).unwrap();
            assert_eq!(output_shape(&**layer, [2, 4, 3, 3].into()), Ok(y.shape()));
            assert!(y.value().data().iter().sum::<f64>().abs() < 1e-9, "{layer:?}");
            assert!(output_shape(&**layer, [2, 3, 3, 3].into()).is_err());
        }
    }

    #[test]
    fn a_frozen_one_is_the_same_function_in_training() {
        let mut layer = BatchNorm2d::<f64>::new(4);
        let train = |layer: &BatchNorm2d<f64>| {
            let tape = Tape::new(Context::default());
            layer.forward(tape.constant(ramp())).unwrap().value().clone()
        };
        let mut frozen = |pattern| {
            assert_eq!(freeze(&mut layer, pattern), 1);
            let before = layer.running_mean.value.clone();
            let y = train(&layer);
            update_buffers(&mut layer);
            (layer.running_mean.value == before, y)
        };
        assert!(!frozen("weight").0, "its bias learns");
        let (stays, trained) = frozen("bias");
        assert!(stays);
        let tape = Tape::new(Context::evaluation(BufferPool::new()));
        assert_eq!(&trained, layer.forward(tape.constant(ramp())).unwrap().value());
    }

    #[test]
    fn evaluation_uses_what_training_has_seen() {
        let mut layer = BatchNorm2d::<f64>::with_settings(4, 1e-5, 1.0);
        update_buffers(&mut layer);
        assert_eq!(layer.running_var.value.data(), [1.0; 4]);
        let tape = Tape::new(Context::default());
        let trained = layer.forward(tape.constant(ramp())).unwrap().value().clone();
        update_buffers(&mut layer);
        let tape = Tape::new(Context::evaluation(BufferPool::new()));
        let evaluated = layer.forward(tape.constant(ramp())).unwrap().value().clone();
        // The running variance is the unbiased one, of 18 elements.
        let ratio = (17.0f64 / 18.0).sqrt();
        for (trained, evaluated) in trained.data().iter().zip(evaluated.data()) {
            assert!((trained * ratio - evaluated).abs() < 1e-6, "{trained} and {evaluated}");
        }
    }
}
