//! The sum of two tensors.

use super::broadcast::{broadcast_shape, combine, reduce, shifts_samples};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, expect_inputs};

/// `y = a + b`, with both inputs broadcast by NumPy's rules: shapes are aligned at their last axes, and an extent of 1 is
/// repeated. The gradient of a repeated input is summed over its repetitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Add;

impl<T: Element> Op<T> for Add {
    /// The shapes of the inputs.
    type Saved = [Shape; 2];

    const NAME: &'static str = "add";

    fn looks_across(&self, inputs: &[Shape], of_samples: &[bool]) -> bool {
        shifts_samples(inputs, of_samples)
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

    fn backward(&self, context: &Context, shapes: [Shape; 2], dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        for input in [0, 1] {
            sinks.add(input, || reduce(context.pool(), dy.clone(), shapes[input]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_broadcast_gradients, poisoned, refusal};

    #[test]
    fn a_bias_is_added_to_each_channel_in_place() {
        let x = Tensor::from_fn([1, 2, 1, 2], |i| i as f32);
        let bias = Tensor::from_slice([2, 1, 1], &[10.0, 20.0]).unwrap();
        let address = x.data().as_ptr();
        let (y, _) = Add.forward(&poisoned(), vec![x, bias]);
        assert_eq!((y.data(), y.data().as_ptr()), (&[10.0, 11.0, 22.0, 23.0][..], address));
    }

    #[test]
    fn errors_name_sizes() {
        let error = "add: 2 x 3 and 4 do not broadcast: 3 and 4 differ and neither is 1";
        assert_eq!(refusal(&Add, &[&[2, 3], &[4]]), error);
        assert_eq!(refusal(&Add, &[&[2]]), "add: expects 2 inputs, found 1");
    }

    #[test]
    fn gradients() {
        check_broadcast_gradients(&Add);
    }
}
