//! The difference of two tensors.

use super::broadcast::{broadcast_shape, combine, reduce, shifts_samples};
use super::scale::Scale;
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, UnaryOp, expect_inputs};

/// `y = a - b`, with both inputs broadcast by NumPy's rules as in [`Add`](super::Add).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sub;

impl<T: Element> Op<T> for Sub {
    /// The shapes of the inputs.
    type Saved = [Shape; 2];

    const NAME: &'static str = "sub";

    fn looks_across(&self, inputs: &[Shape], of_samples: &[bool]) -> bool {
        shifts_samples(inputs, of_samples)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("sub", inputs, 2)?;
        broadcast_shape("sub", inputs[0], inputs[1])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, [Shape; 2]) {
        let [a, b] = <[Tensor<T>; 2]>::try_from(inputs).expect("sub takes two inputs");
        let shapes = [a.shape(), b.shape()];
        (combine(context.pool(), a, b, |a, b| a - b), shapes)
    }

    fn backward(&self, context: &Context, shapes: [Shape; 2], dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        sinks.add(0, || reduce(context.pool(), dy.clone(), shapes[0]));
        sinks.add(1, || {
            let sum = reduce(context.pool(), dy, shapes[1]);
            Scale { factor: -1.0 }.compute(context, sum).0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_broadcast_gradients, poisoned, refusal};

    #[test]
    fn whichever_input_is_overwritten() {
        let of = |a: &[usize], b: &[usize]| {
            let a = Tensor::from_fn(Shape::new(a), |i| 10.0 * (i as f32 + 1.0));
            let b = Tensor::from_fn(Shape::new(b), |i| i as f32 + 1.0);
            Sub.forward(&poisoned(), vec![a, b]).0.data().to_vec()
        };
        assert_eq!(of(&[2], &[2, 1]), [9.0, 19.0, 8.0, 18.0]);
        assert_eq!(of(&[2], &[1]), [9.0, 19.0]);
        assert_eq!(of(&[1], &[2]), [9.0, 8.0]);
        assert_eq!(of(&[2], &[2]), [9.0, 18.0]);
    }

    #[test]
    fn errors_name_sizes() {
        let error = "sub: 2 x 3 and 4 do not broadcast: 3 and 4 differ and neither is 1";
        assert_eq!(refusal(&Sub, &[&[2, 3], &[4]]), error);
        assert_eq!(refusal(&Sub, &[&[2]]), "sub: expects 2 inputs, found 1");
    }

    #[test]
    fn gradients() {
        check_broadcast_gradients(&Sub);
    }
}
