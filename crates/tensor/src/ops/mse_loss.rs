//! The loss of regression: the mean of the squared differences.

use super::checks::divides;
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, expect_inputs};

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
        pair_loss_shape(Self::NAME, inputs, self.divisor)
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Self::Saved) {
        pair_loss(context, inputs, self.divisor, |x, t| (x - t) * (x - t))
    }

    fn backward(&self, context: &Context, saved: Self::Saved, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let gradients: [fn(T, T) -> T; 2] =
            [|x, t| T::from_f64(2.0) * (x - t), |x, t| T::from_f64(2.0) * (t - x)];
        pair_loss_gradients(context, &saved, self.divisor, dy.item(), sinks, gradients);
    }
}

/// The shape rule of losses that compare two tensors of the same shape element by element.
pub(super) fn pair_loss_shape(
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
    divides(op, divisor)?;
    Ok(Shape::scalar())
}

/// The sum of `value` over the elements of both inputs, over the divisor, by default their number; and the inputs.
pub(super) fn pair_loss<T: Element>(
    context: &Context,
    inputs: Vec<Tensor<T>>,
    divisor: Option<f64>,
    value: impl Fn(T, T) -> T,
) -> (Tensor<T>, [Tensor<T>; 2]) {
    let [x, target] = <[Tensor<T>; 2]>::try_from(inputs).expect("the op takes two inputs");
    let mut sum = T::ZERO;
    for (&x, &t) in x.data().iter().zip(target.data()) {
        sum += value(x, t);
    }
    let mut output = Tensor::empty_in(context.pool(), Shape::scalar());
    output.data_mut()[0] = sum / T::from_f64(divisor.unwrap_or(x.len() as f64));
    (output, [x, target])
}

/// Adds the gradients of [`pair_loss`], given those of `value` with respect to x and to the target.
pub(super) fn pair_loss_gradients<T: Element>(
    context: &Context,
    [x, target]: &[Tensor<T>; 2],
    divisor: Option<f64>,
    dy: T,
    sinks: &mut Sinks<'_, T>,
    gradients: [fn(T, T) -> T; 2],
) {
    let scale = dy / T::from_f64(divisor.unwrap_or(x.len() as f64));
    for (input, of) in gradients.into_iter().enumerate() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random, refusal};

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
        let error = |divisor, inputs: &[&[usize]]| refusal(&MseLoss { divisor }, inputs);
        let shapes = "mse_loss: expects an output and a target of one shape, found 4 x 1 and 4";
        assert_eq!(error(None, &[&[4, 1], &[4]]), shapes);
        assert_eq!(error(Some(f64::NAN), &[&[4], &[4]]), "mse_loss: the divisor must be above 0, found NaN");
        assert_eq!(error(None, &[&[4]]), "mse_loss: expects 2 inputs, found 1");
    }
}
