//! The losses that compare two tensors element by element: one op with two distances, the squared difference ([`MseLoss`]) and,
//! of logits, the binary cross-entropy ([`BceWithLogits`]).

use super::checks::divides;
use super::elementwise::Pointwise;
use super::{Relu, Sigmoid};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure, expect_inputs};

/// The mean over all elements of the distance between x and a target of the same shape, which are the inputs; the output is a
/// scalar.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PairLoss<const LOGITS: bool> {
    /// The divisor of the sum over all elements; their number if not given. A micro-batch gives the whole batch's number, so that
    /// micro-batches' losses and gradients add up to the batch's.
    pub divisor: Option<f64>,
}

/// The loss of regression: the mean of (x - target)^2 (`torch.nn.MSELoss`).
pub type MseLoss = PairLoss<false>;

/// The loss of independent yes-or-no questions, the logistic function and the binary cross-entropy in one: the mean of
/// -(t log s + (1 - t) log(1 - s)) with s = sigmoid(x), of logits x and targets t from 0 to 1 (`torch.nn.BCEWithLogitsLoss`).
///
/// Computed as max(x, 0) - x t + log(1 + e^-|x|), which does not overflow. The gradient is (s - t) / divisor.
pub type BceWithLogits = PairLoss<true>;

impl<const LOGITS: bool> PairLoss<LOGITS> {
    /// The name in errors and profiles.
    pub const NAME: &'static str = if LOGITS { "bce_with_logits" } else { "mse_loss" };

    /// The distance of an element from its target.
    fn distance<T: Element>(x: T, t: T) -> T {
        if LOGITS { Relu.value(x) - x * t + log_1p_exp(-x.abs()) } else { (x - t) * (x - t) }
    }

    /// The derivatives of the distance with respect to the element and to its target.
    fn derivatives<T: Element>() -> [fn(T, T) -> T; 2] {
        if LOGITS {
            [|x, t| Sigmoid.value(x) - t, |x, _| -x]
        } else {
            [|x, t| T::from_f64(2.0) * (x - t), |x, t| T::from_f64(2.0) * (t - x)]
        }
    }

    fn divisor<T: Element>(&self, x: &Tensor<T>) -> T {
        T::from_f64(self.divisor.unwrap_or(x.len() as f64))
    }
}

impl<T: Element, const LOGITS: bool> Op<T> for PairLoss<LOGITS> {
    /// Both inputs.
    type Saved = [Tensor<T>; 2];

    const NAME: &'static str = Self::NAME;

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs(Self::NAME, inputs, 2)?;
        let [x, target] = [inputs[0], inputs[1]];
        ensure!(
            Self::NAME,
            x == target && x.elements() > 0,
            "expects an output and a target of one shape, found {x} and {target}"
        );
        divides(Self::NAME, self.divisor)?;
        Ok(Shape::scalar())
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Self::Saved) {
        let [x, target] = <[Tensor<T>; 2]>::try_from(inputs).expect("the op takes two inputs");
        let mut sum = T::ZERO;
        for (&x, &t) in x.data().iter().zip(target.data()) {
            sum += Self::distance(x, t);
        }
        let mut output = Tensor::empty_in(context.pool(), Shape::scalar());
        output.data_mut()[0] = sum / self.divisor(&x);
        (output, [x, target])
    }

    fn backward(&self, context: &Context, [x, target]: Self::Saved, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let scale = dy.item() / self.divisor(&x);
        for (input, of) in Self::derivatives().into_iter().enumerate() {
            sinks.add(input, || {
                let mut gradient = Tensor::empty_in(context.pool(), x.shape());
                let pairs = x.data().iter().zip(target.data());
                for (gradient, (&x, &t)) in gradient.data_mut().iter_mut().zip(pairs) {
                    *gradient = of(x, t) * scale;
                }
                gradient
            });
        }
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

    #[test]
    fn squares_by_hand() {
        let x = Tensor::from_slice([2, 2], &[1.0f64, 2.0, 3.0, -1.0]).unwrap();
        let target = Tensor::from_slice([2, 2], &[1.0, 0.0, 0.0, 1.0]).unwrap();
        let loss = |op: MseLoss| op.forward(&poisoned(), vec![x.clone(), target.clone()]).0.item();
        assert_eq!(loss(MseLoss::default()), (4.0 + 9.0 + 4.0) / 4.0);
        assert_eq!(loss(MseLoss { divisor: Some(34.0) }), 0.5);
    }

    #[test]
    fn cross_entropies_by_hand_and_extremes() {
        let loss = |x: &[f64], target: &[f64]| {
            let tensor = |data: &[f64]| Tensor::from_slice([data.len()], data).unwrap();
            BceWithLogits::default().forward(&poisoned(), vec![tensor(x), tensor(target)]).0.item()
        };
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
            check_gradients(&MseLoss { divisor }, &[random([3, 2], 1), random([3, 2], 2)]);
            check_gradients(&BceWithLogits { divisor }, &[random([3, 2], 1), target.clone()]);
        }
    }

    #[test]
    fn errors_name_sizes() {
        let error = |divisor, inputs: &[&[usize]]| refusal(&MseLoss { divisor }, inputs);
        let shapes = "mse_loss: expects an output and a target of one shape, found 4 x 1 and 4";
        assert_eq!(error(None, &[&[4, 1], &[4]]), shapes);
        assert_eq!(error(Some(f64::NAN), &[&[4], &[4]]), "mse_loss: the divisor must be above 0, found NaN");
        assert_eq!(error(None, &[&[4]]), "mse_loss: expects 2 inputs, found 1");
        let shapes = "bce_with_logits: expects an output and a target of one shape, found 4 x 3 and 4";
        assert_eq!(refusal(&BceWithLogits::default(), &[&[4, 3], &[4]]), shapes);
    }
}
