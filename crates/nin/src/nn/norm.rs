//! Normalization layers, with PyTorch's names of parameters and settings.

use autograd::Var;
use tensor::ops::batch_norm2d::{BatchStatistics, update_running};
use tensor::{Element, Op, Shape, ShapeError, Tensor, ops};

use super::layers::Output;
use super::module::Module;
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
    fn kind(&self) -> String {
        format!("GroupNorm({}, {})", self.op.groups, self.weight.value.len())
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        let (weight, bias) = (self.weight.on(&x), self.bias.on(&x));
        x.group_norm(weight, bias, self.op)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&self.op, &[input, self.weight.value.shape(), self.bias.value.shape()])
    }

    fn visit<'a>(&'a self, prefix: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        visit(format!("{prefix}weight"), &self.weight);
        visit(format!("{prefix}bias"), &self.bias);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        visit(format!("{prefix}weight"), &mut self.weight);
        visit(format!("{prefix}bias"), &mut self.bias);
    }
}

/// Each channel by the mean and variance of the tensor at hand in training, and by the running ones in evaluation: weight C, bias C. See
/// [`ops::BatchNorm2d`].
///
/// [`Lanes`](crate::train::Lanes) gives it a micro-batch at a time, each of which is then normalized by itself, and checkpoints do
/// not hold the running statistics: for those of whole batches, train on a [`Tape`](autograd::Tape) of the whole batch.
///
/// A forward pass in training keeps the statistics of its tensor, the last pass wins, and [`BatchNorm2d::update_running`] moves the
/// running ones: by the owner of the step, once it is over, so that no result depends on threads.
#[derive(Debug)]
pub struct BatchNorm2d<T: Element> {
    weight: Parameter<T>,
    bias: Parameter<T>,
    /// The running mean, C, zeros at first. PyTorch's buffer `running_mean`.
    pub running_mean: Tensor<T>,
    /// The running unbiased variance, C, ones at first. PyTorch's buffer `running_var`.
    pub running_var: Tensor<T>,
    /// Batches that the running statistics have seen. PyTorch's buffer `num_batches_tracked`.
    pub num_batches_tracked: u64,
    /// The weight of a new batch in the running statistics.
    pub momentum: f64,
    eps: f64,
    statistics: BatchStatistics,
}

impl<T: Element> BatchNorm2d<T> {
    /// So many channels, with PyTorch's eps of 1e-5 and momentum of 0.1.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        let [weight, bias] = scale_and_shift(channels);
        let [running_mean, running_var] = [T::ZERO, T::ONE].map(|value| Tensor::full([channels], value));
        Self {
            weight,
            bias,
            running_mean,
            running_var,
            num_batches_tracked: 0,
            momentum: 0.1,
            eps: 1e-5,
            statistics: BatchStatistics::default(),
        }
    }

    /// Moves the running statistics towards those of the last forward pass in training, if there was one since the last call.
    pub fn update_running(&mut self) {
        let batch = self.statistics.take();
        if batch.is_empty() {
            return;
        }
        let (mean, var) = (self.running_mean.data_mut(), self.running_var.data_mut());
        update_running(mean, var, &batch, self.momentum);
        self.num_batches_tracked += 1;
    }
}

impl<T: Element> Module<T> for BatchNorm2d<T> {
    fn kind(&self) -> String {
        format!("BatchNorm2d({})", self.weight.value.len())
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        let (weight, bias, tape) = (self.weight.on(&x), self.bias.on(&x), x.tape());
        if tape.context().training {
            let op = ops::BatchNorm2d { eps: self.eps, statistics: Some(self.statistics.clone()) };
            return x.batch_norm2d(weight, bias, None, op);
        }
        let running = [&self.running_mean, &self.running_var].map(|buffer| tape.constant(buffer.clone()));
        x.batch_norm2d(weight, bias, Some(running), ops::BatchNorm2d { eps: self.eps, statistics: None })
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        let channels = self.weight.value.shape();
        let op = ops::BatchNorm2d { eps: self.eps, statistics: None };
        Op::<T>::output_shape(&op, &[input, channels, channels, channels, channels])
    }

    fn visit<'a>(&'a self, prefix: &str, visit: &mut dyn FnMut(String, &'a Parameter<T>)) {
        visit(format!("{prefix}weight"), &self.weight);
        visit(format!("{prefix}bias"), &self.bias);
    }

    fn visit_mut<'a>(&'a mut self, prefix: &str, visit: &mut dyn FnMut(String, &'a mut Parameter<T>)) {
        visit(format!("{prefix}weight"), &mut self.weight);
        visit(format!("{prefix}bias"), &mut self.bias);
    }
}

#[cfg(test)]
mod tests {
    use autograd::Tape;
    use tensor::init::Init;
    use tensor::{BufferPool, Context};

    use super::*;
    use crate::nn::{initialise, parameters};

    fn ramp() -> Tensor<f64> {
        Tensor::from_fn([2, 4, 3, 3], |i| (i * i % 37) as f64)
    }

    #[test]
    fn parameters_have_the_names_of_pytorch_and_begin_as_the_identity() {
        let mut layers: [Box<dyn Module<f64>>; 2] =
            [Box::new(GroupNorm::new(2, 4)), Box::new(BatchNorm2d::new(4))];
        for layer in &mut layers {
            initialise(&mut **layer, Init::Normal(0.5), Init::Normal(0.5), 7);
            let found: Vec<_> = parameters(&**layer)
                .into_iter()
                .map(|(name, p)| (name, p.value.data().to_vec(), p.decays))
                .collect();
            let expected =
                [("weight".to_owned(), vec![1.0; 4], false), ("bias".to_owned(), vec![0.0; 4], false)];
            assert_eq!(found, expected);
            let tape = Tape::new(Context::default());
            let y = layer.forward(tape.constant(ramp())).unwrap();
            assert_eq!(layer.output_shape([2, 4, 3, 3].into()), Ok(y.shape()));
            assert!(y.value().data().iter().sum::<f64>().abs() < 1e-9, "{}", layer.kind());
            assert!(layer.output_shape([2, 3, 3, 3].into()).is_err());
        }
    }

    #[test]
    fn evaluation_uses_what_training_has_seen() {
        let mut layer = BatchNorm2d::<f64>::new(4);
        layer.momentum = 1.0;
        layer.update_running();
        assert_eq!(layer.num_batches_tracked, 0);
        let tape = Tape::new(Context::default());
        let trained = layer.forward(tape.constant(ramp())).unwrap().value().clone();
        layer.update_running();
        assert_eq!(layer.num_batches_tracked, 1);
        let tape = Tape::new(Context::evaluation(BufferPool::new()));
        let evaluated = layer.forward(tape.constant(ramp())).unwrap().value().clone();
        // The running variance is the unbiased one, of 18 elements.
        let ratio = (17.0f64 / 18.0).sqrt();
        for (trained, evaluated) in trained.data().iter().zip(evaluated.data()) {
            assert!((trained * ratio - evaluated).abs() < 1e-6, "{trained} and {evaluated}");
        }
    }
}
