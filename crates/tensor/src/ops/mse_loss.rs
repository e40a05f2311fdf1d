//! The loss of regression: the mean of the squared differences.

use crate::op::expect_inputs;
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor};

/// The mean over all elements of (x - target)^2; inputs are x and a target of the same shape, the output is a scalar
/// (`torch.nn.MSELoss`).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MseLoss {
    /// The divisor of the sum over all elements; their number if not given. A micro-batch gives the whole batch's number, so that
    /// micro-batches' losses and gradients add up to the batch's.
    pub divisor: Option<f64>,
}

impl MseLoss {
    /// The name in errors and profiles.
    pub const NAME: &'static str = "mse_loss";
}

impl<T: Element> Op<T> for MseLoss {
    /// Both inputs.
    type Saved = [Tensor<T>; 2];

    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        elementwise_loss_shape(Self::NAME, inputs, self.divisor)
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Self::Saved) {
        let [x, target] = <[Tensor<T>; 2]>::try_from(inputs).expect("the op takes two inputs");
        let mut sum = T::ZERO;
        for (&x, &t) in x.data().iter().zip(target.data()) {
            sum += (x - t) * (x - t);
        }
        let mut output = Tensor::empty_in(context.pool(), Shape::scalar());
        output.data_mut()[0] = sum / divisor(self.divisor, x.len());
        (output, [x, target])
    }

    fn backward(&self, context: &Context, [x, target]: Self::Saved, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let scale = dy.item() / divisor(self.divisor, x.len());
        let gradient = |of: fn(T, T) -> T| {
            let mut gradient = Tensor::empty_in(context.pool(), x.shape());
            let inputs = x.data().iter().zip(target.data());
            for (g, (&x, &t)) in gradient.data_mut().iter_mut().zip(inputs) {
                *g = of(x, t) * scale;
            }
            gradient
        };
        sinks.add(0, || gradient(|x, t| T::from_f64(2.0) * (x - t)));
        sinks.add(1, || gradient(|x, t| T::from_f64(2.0) * (t - x)));
    }
}

/// The shape rule of losses that compare two tensors of the same shape element by element.
pub(super) fn elementwise_loss_shape(
    op: &'static str,
    inputs: &[Shape],
    divisor: Option<f64>,
) -> Result<Shape, ShapeError> {
    expect_inputs(op, inputs, 2)?;
    if inputs[0] != inputs[1] || inputs[0].elements() == 0 {
        let message =
            format!("expects an output and a target of one shape, found {} and {}", inputs[0], inputs[1]);
        return Err(ShapeError::new(op, message));
    }
    match divisor {
        Some(divisor) if !(divisor.is_finite() && divisor > 0.0) => {
            Err(ShapeError::new(op, format!("the divisor must be above 0, found {divisor}")))
        }
        _ => Ok(Shape::scalar()),
    }
}

/// The divisor that is given, or else the number of elements.
pub(super) fn divisor<T: Element>(given: Option<f64>, elements: usize) -> T {
    T::from_f64(given.unwrap_or(elements as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn by_hand() {
        let x = Tensor::from_slice([2, 2], &[1.0f64, 2.0, 3.0, -1.0]).unwrap();
        let target = Tensor::from_slice([2, 2], &[1.0, 0.0, 0.0, 1.0]).unwrap();
        let loss = |op: MseLoss| op.forward(&poisoned(), vec![x.clone(), target.clone()]).0.item();
        assert_eq!(loss(MseLoss::default()), (4.0 + 9.0 + 4.0) / 4.0);
        assert_eq!(loss(MseLoss { divisor: Some(34.0) }), 0.5);
    }

    #[test]
    fn gradients() {
        for divisor in [None, Some(7.0)] {
            check_gradients(&MseLoss { divisor }, &[random([3, 2], 1), random([3, 2], 2)]);
        }
    }

    #[test]
    fn errors_name_sizes() {
        let error = |divisor, inputs: &[Shape]| {
            Op::<f32>::output_shape(&MseLoss { divisor }, inputs).unwrap_err().to_string()
        };
        assert_eq!(
            error(None, &[Shape::from([4, 1]), Shape::from([4])]),
            "mse_loss: expects an output and a target of one shape, found 4 x 1 and 4"
        );
        let fits = [Shape::from([4]); 2];
        assert_eq!(error(Some(f64::NAN), &fits), "mse_loss: the divisor must be above 0, found NaN");
        assert_eq!(error(None, &fits[..1]), "mse_loss: expects 2 inputs, found 1");
    }
}
