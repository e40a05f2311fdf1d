//! [`Loss`]: what training makes small, a number for the network's output and a target.
//!
//! A target is an input of the loss, a tensor whose outermost axis is the samples: the numbers of the samples' classes, of shape
//! N, or dense values, such as probabilities or another image. Those have the output's shape if that has as many values for each
//! sample, whatever its axes; otherwise they are N x K, as the data have them. [`CrossEntropy`], [`Mse`] and [`BceWithLogits`]
//! are given; a function of two variables is a loss, too, and a closure by [`from_fn`]:
//!
//! ```
//! use nin::autograd::{AutogradError, Context, Tape, Var};
//! use nin::loss::Loss;
//! use nin::tensor::{Tensor, ops::Mean};
//!
//! /// Huber's: half the square of a difference d up to 1, and |d| - 1/2 beyond.
//! fn huber<'t>(output: Var<'t, f32>, target: Var<'t, f32>) -> Result<Var<'t, f32>, AutogradError> {
//!     let one = output.tape().constant(Tensor::scalar(1.0));
//!     let distance = output.sub(target)?.abs()?;
//!     let beyond = distance.clone().sub(one)?.relu()?;
//!     let within = distance.sub(beyond.clone())?;
//!     within.clone().mul(within)?.scale(0.5)?.add(beyond)?.mean(Mean::default())
//! }
//! let loss: &dyn Loss<f32> = &huber;
//!
//! let tape = Tape::new(Context::default());
//! let [output, target] = [[0.5, 3.0], [0.0, 0.0]].map(|row| tape.constant(Tensor::from_fn([2, 1], |i| row[i])));
//! assert_eq!(loss.mean(output, target)?.value().item(), (0.125 + 2.5) / 2.0);
//! # Ok::<(), AutogradError>(())
//! ```

use autograd::Var;
use tensor::{Element, Tensor, ops};

use crate::nn::Output;

/// A differentiable measure of how far an output is from a target.
///
/// The loss of a batch is a mean. A batch is computed in micro-batches, each of which answers its share: the sum of its samples'
/// losses over the divisor of the whole batch, so that shares, and their gradients, add up to the batch's.
pub trait Loss<T: Element>: Send + Sync {
    /// The number that the sum over a batch with this target, N or N x K, is divided by: the number of samples, unless the loss
    /// has a rule of its own. The mean over several batches is the sum of their sums over the sum of their divisors.
    fn divisor(&self, target: &Tensor<T>) -> f64 {
        samples(target) as f64
    }

    /// Tells whether a sample's loss depends on other samples, as contrastive losses do: then no batch is cut into micro-batches,
    /// and `share` gets all of it.
    fn looks_across(&self) -> bool {
        false
    }

    /// The sum of the samples' losses over `divisor`, a scalar.
    ///
    /// # Errors
    /// [`AutogradError::Shape`](autograd::AutogradError::Shape) if output and target do not fit the loss or each other.
    fn share<'t>(&self, output: Var<'t, T>, target: Var<'t, T>, divisor: f64) -> Output<'t, T>;

    /// The mean loss of a whole batch, a scalar, as a loop without micro-batches has it.
    ///
    /// # Errors
    /// As [`Loss::share`].
    fn mean<'t>(&self, output: Var<'t, T>, target: Var<'t, T>) -> Output<'t, T> {
        let divisor = self.divisor(target.value());
        self.share(output, target, divisor)
    }
}

/// N of a target; 1 for a number.
fn samples<T: Element>(target: &Tensor<T>) -> usize {
    target.shape().first().copied().unwrap_or(1)
}

/// Softmax cross-entropy of N x K logits against N class labels or N x K probabilities (`torch.nn.CrossEntropyLoss`).
///
/// With class weights, a batch's mean is weighted by those of its labels; that against probabilities is over N, as in PyTorch.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CrossEntropy {
    /// The share of the target spread evenly over all classes, from 0 to 1.
    pub label_smoothing: f64,
    /// The weight of each class, K numbers of at least 0; all 1 if not given.
    pub weights: Option<Vec<f64>>,
}

impl CrossEntropy {
    fn op(&self, divisor: Option<f64>) -> ops::SoftmaxCrossEntropy {
        let Self { label_smoothing, weights } = self.clone();
        ops::SoftmaxCrossEntropy { label_smoothing, weights, divisor }
    }
}

impl<T: Element> Loss<T> for CrossEntropy {
    fn divisor(&self, target: &Tensor<T>) -> f64 {
        self.op(None).total_weight(target)
    }

    fn share<'t>(&self, output: Var<'t, T>, target: Var<'t, T>, divisor: f64) -> Output<'t, T> {
        output.softmax_cross_entropy(target, self.op(Some(divisor)))
    }
}

/// The mean squared difference from a target of the output's shape (`torch.nn.MSELoss`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mse;

impl<T: Element> Loss<T> for Mse {
    fn divisor(&self, target: &Tensor<T>) -> f64 {
        target.len() as f64
    }

    fn share<'t>(&self, output: Var<'t, T>, target: Var<'t, T>, divisor: f64) -> Output<'t, T> {
        output.mse_loss(target, ops::MseLoss { divisor: Some(divisor) })
    }
}

/// Binary cross-entropy of logits against a target of the same shape, from 0 to 1 (`torch.nn.BCEWithLogitsLoss`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BceWithLogits;

impl<T: Element> Loss<T> for BceWithLogits {
    fn divisor(&self, target: &Tensor<T>) -> f64 {
        target.len() as f64
    }

    fn share<'t>(&self, output: Var<'t, T>, target: Var<'t, T>, divisor: f64) -> Output<'t, T> {
        output.bce_with_logits(target, ops::BceWithLogits { divisor: Some(divisor) })
    }
}

/// The loss of a closure of (output, target), whose types it tells the compiler: a function is a [`Loss`] without it.
///
/// ```
/// use nin::loss::from_fn;
/// use nin::tensor::ops::Mean;
///
/// let power = 1.5;
/// // The mean of |output - target| to a power.
/// let loss = from_fn(move |output, target| {
///     output.sub(target)?.abs()?.log()?.scale(power)?.exp()?.mean(Mean::default())
/// });
/// # let _: &dyn nin::loss::Loss<f32> = &loss;
/// ```
pub fn from_fn<F>(loss: F) -> F
where
    F: for<'t> Fn(Var<'t, f32>, Var<'t, f32>) -> Output<'t, f32> + Send + Sync,
{
    loss
}

/// A function of (output, target) that answers the mean over the samples that it is given.
impl<T: Element, F> Loss<T> for F
where
    F: for<'t> Fn(Var<'t, T>, Var<'t, T>) -> Output<'t, T> + Send + Sync,
{
    fn share<'t>(&self, output: Var<'t, T>, target: Var<'t, T>, divisor: f64) -> Output<'t, T> {
        let share = samples(target.value()) as f64 / divisor;
        self(output, target)?.scale(share)
    }
}

#[cfg(test)]
mod tests {
    use autograd::{Context, Tape};
    use tensor::BufferPool;
    use tensor::ops::Mean;

    use super::*;

    fn logits() -> Tensor<f64> {
        Tensor::from_fn([5, 3], |i| (i as f64 * 0.7).sin())
    }

    fn labels() -> Tensor<f64> {
        Tensor::from_slice([5], &[0.0, 2.0, 1.0, 1.0, 2.0]).unwrap()
    }

    fn dense() -> Tensor<f64> {
        Tensor::from_fn([5, 3], |i| (i % 4) as f64 / 4.0)
    }

    fn squared<'t>(output: Var<'t, f64>, target: Var<'t, f64>) -> Output<'t, f64> {
        let difference = output.sub(target)?;
        difference.clone().mul(difference)?.mean(Mean::default())
    }

    fn all() -> Vec<(Box<dyn Loss<f64>>, Tensor<f64>)> {
        let weighted = CrossEntropy { label_smoothing: 0.1, weights: Some(vec![0.5, 1.0, 3.0]) };
        vec![
            (Box::new(CrossEntropy::default()), labels()),
            (Box::new(weighted.clone()), labels()),
            (Box::new(weighted), dense()),
            (Box::new(Mse), dense()),
            (Box::new(BceWithLogits), dense()),
            (Box::new(squared), dense()),
        ]
    }

    #[test]
    fn shares_of_micro_batches_add_up_to_the_mean() {
        for (index, (loss, target)) in all().into_iter().enumerate() {
            let tape = Tape::new(Context::default());
            let constant = |tensor: &Tensor<f64>| tape.constant(tensor.clone());
            let mean = loss.mean(constant(&logits()), constant(&target)).unwrap().value().item();
            let divisor = loss.divisor(&target);
            let share = |from, to| {
                let part = |all: &Tensor<f64>| constant(&all.narrow_in(BufferPool::global(), from, to));
                loss.share(part(&logits()), part(&target), divisor).unwrap().value().item()
            };
            assert!((share(0, 2) + share(2, 5) - mean).abs() < 1e-12, "loss {index}");
        }
    }

    #[test]
    fn targets_that_do_not_fit_are_refused() {
        let tape = Tape::new(Context::default());
        let refused = |loss: &dyn Loss<f64>, target: Tensor<f64>| {
            loss.mean(tape.constant(logits()), tape.constant(target)).unwrap_err().to_string()
        };
        assert!(refused(&Mse, labels()).ends_with("found 5 x 3 and 5"));
        let narrow = dense().narrow_in(BufferPool::global(), 0, 4);
        assert!(refused(&CrossEntropy::default(), narrow).ends_with("logits of 5 x 3 and targets of 4 x 3"));
        let mut other = labels();
        other.data_mut()[3] = 3.0;
        assert!(
            refused(&CrossEntropy::default(), other)
                .ends_with("label 3 of sample 3 is not below K = 3 classes")
        );
        let weights = Some(vec![1.0; 2]);
        let short = CrossEntropy { weights, ..CrossEntropy::default() };
        assert!(refused(&short, labels()).contains("expects K = 3 class weights, found 2"));
    }
}
