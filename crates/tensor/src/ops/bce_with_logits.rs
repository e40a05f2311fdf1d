//! The loss of independent yes-or-no questions: the logistic function and the binary cross-entropy in one op.

use super::elementwise::Pointwise;
use super::mse_loss::{pair_loss, pair_loss_gradients, pair_loss_shape};
use super::{Relu, Sigmoid};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor};

/// The mean over all elements of -(t log s + (1 - t) log(1 - s)) with s = sigmoid(x); inputs are logits x and targets t of the same
/// shape, from 0 to 1, the output is a scalar (`torch.nn.BCEWithLogitsLoss`).
///
/// Computed as max(x, 0) - x t + log(1 + e^-|x|), which does not overflow. The gradient is (s - t) / divisor.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct BceWithLogits {
    /// The divisor of the sum over all elements; their number if not given. A micro-batch gives the whole batch's number, so that
    /// micro-batches' losses and gradients add up to the batch's.
    pub divisor: Option<f64>,
}

impl BceWithLogits {
    /// The name in errors and profiles.
    pub const NAME: &'static str = "bce_with_logits";
}

impl<T: Element> Op<T> for BceWithLogits {
    /// Both inputs.
    type Saved = [Tensor<T>; 2];

    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        pair_loss_shape(Self::NAME, inputs, self.divisor)
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Self::Saved) {
        pair_loss(context, inputs, self.divisor, |x, t| Relu.value(x) - x * t + log_1p_exp(-x.abs()))
    }

    fn backward(&self, context: &Context, saved: Self::Saved, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let gradients: [fn(T, T) -> T; 2] = [|x, t| Sigmoid.value(x) - t, |x, _| -x];
        pair_loss_gradients(context, &saved, self.divisor, dy.item(), sinks, gradients);
    }
}

/// log(1 + e^x) for x of at most 0.
fn log_1p_exp<T: Element>(x: T) -> T {
    (T::ONE + x.exp()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random, refusal};

    fn loss(x: &[f64], target: &[f64]) -> f64 {
        let tensor = |data: &[f64]| Tensor::from_slice([data.len()], data).unwrap();
        BceWithLogits::default().forward(&poisoned(), vec![tensor(x), tensor(target)]).0.item()
    }

    #[test]
    fn by_hand_and_extremes() {
        // sigmoid = 3/4, twice.
        let x = 3f64.ln();
        assert!((loss(&[x, x], &[1.0, 0.0]) - ((4.0f64 / 3.0).ln() + 4f64.ln()) / 2.0).abs() < 1e-12);
        assert_eq!(loss(&[1000.0, -1000.0], &[0.0, 1.0]), 1000.0);
        assert_eq!(loss(&[1000.0, -1000.0], &[1.0, 0.0]), 0.0);
        assert!(loss(&[f64::NAN], &[1.0]).is_nan());
    }

    #[test]
    fn gradients() {
        let target = Tensor::from_fn([3, 2], |i| i as f64 / 5.0);
        for divisor in [None, Some(7.0)] {
            check_gradients(&BceWithLogits { divisor }, &[random([3, 2], 1), target.clone()]);
        }
    }

    #[test]
    fn errors_name_sizes() {
        let error = "bce_with_logits: expects an output and a target of one shape, found 4 x 3 and 4";
        assert_eq!(refusal(&BceWithLogits::default(), &[&[4, 3], &[4]]), error);
    }
}
