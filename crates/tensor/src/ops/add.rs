//! The sum of two tensors.

use super::broadcast::{broadcast_shape, combine, reduce};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, expect_inputs};

/// `y = a + b`, with both inputs broadcast by NumPy's rules: shapes are aligned at their last axes, and an extent of 1 is
/// repeated. The gradient of a repeated input is summed over its repetitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Add;

impl<T: Element> Op<T> for Add {
    /// The shapes of the inputs.
    type Saved = [Shape; 2];

    fn name(&self) -> &'static str {
        "add"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("add", inputs, 2)?;
        broadcast_shape("add", inputs[0], inputs[1])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, [Shape; 2]) {
        let [a, b] = <[Tensor<T>; 2]>::try_from(inputs).expect("add takes two inputs");
        let shapes = [a.shape(), b.shape()];
        (combine(context.pool(), a, b, |a, b| a + b), shapes)
    }

    fn backward(
        &self,
        context: &Context,
        shapes: [Shape; 2],
        grad_output: Tensor<T>,
        sinks: &mut Sinks<'_, T>,
    ) {
        for input in [0, 1] {
            sinks.add(input, || reduce(context.pool(), grad_output.clone(), shapes[input]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random};

    #[test]
    fn a_bias_is_added_to_each_channel() {
        let x = Tensor::from_fn([1, 2, 1, 2], |i| i as f32);
        let bias = Tensor::from_slice([2, 1, 1], &[10.0, 20.0]).unwrap();
        let address = x.data().as_ptr();
        let (y, shapes) = Add.forward(&poisoned(), vec![x, bias]);
        assert_eq!(y.data(), [10.0, 11.0, 22.0, 23.0]);
        assert_eq!(y.data().as_ptr(), address, "in place where no one else holds the input");
        let dy = Tensor::from_slice([1, 2, 1, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        let gradients = Add.gradients(&poisoned(), shapes, dy.clone(), &[true, true]);
        assert_eq!(gradients[0], Some(dy));
        assert_eq!(gradients[1].as_ref().unwrap().data(), [3.0, 7.0]);
    }

    #[test]
    fn a_shared_input_is_not_changed() {
        let x = Tensor::full([2, 2], 1.0f32);
        let (y, _) = Add.forward(&poisoned(), vec![x.clone(), x.clone()]);
        assert_eq!((x.data(), y.data()), (&[1.0; 4][..], &[2.0; 4][..]));
    }

    #[test]
    fn errors_name_sizes() {
        let error = Op::<f32>::output_shape(&Add, &[[2, 3].into(), [4].into()]).unwrap_err();
        assert_eq!(error.to_string(), "add: 2 x 3 and 4 do not broadcast: 3 and 4 differ and neither is 1");
        assert_eq!(
            Op::<f32>::output_shape(&Add, &[[2].into()]).unwrap_err().to_string(),
            "add: expects 2 inputs, found 1"
        );
    }

    #[test]
    fn gradients() {
        for (a, b) in [
            (&[2, 3, 2, 2][..], &[3, 1, 1][..]),
            (&[3, 1], &[2, 1, 4]),
            (&[], &[2, 2]),
            (&[4], &[4]),
            (&[1, 4], &[4]),
        ] {
            check_gradients(&Add, &[random(a, 1), random(b, 2)]);
            check_some_gradients(&Add, &[random(a, 1), random(b, 2)], &[false, true]);
        }
    }
}
