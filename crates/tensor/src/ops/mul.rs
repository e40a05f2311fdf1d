//! The product of two tensors, element by element.

use super::broadcast::{broadcast_shape, combine, reduce, shifts_samples};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, expect_inputs};

/// `y = a b` element by element, with both inputs broadcast by NumPy's rules as in [`Add`](super::Add).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mul;

impl<T: Element> Op<T> for Mul {
    /// The inputs.
    type Saved = [Tensor<T>; 2];

    const NAME: &'static str = "mul";

    fn looks_across(&self, inputs: &[Shape], of_samples: &[bool]) -> bool {
        shifts_samples(inputs, of_samples)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("mul", inputs, 2)?;
        broadcast_shape("mul", inputs[0], inputs[1])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, [Tensor<T>; 2]) {
        let [a, b] = <[Tensor<T>; 2]>::try_from(inputs).expect("mul takes two inputs");
        let saved = [a.clone(), b.clone()]; // so neither is changed in place
        (combine(context.pool(), a, b, |a, b| a * b), saved)
    }

    fn backward(&self, context: &Context, saved: [Tensor<T>; 2], dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        for input in [0, 1] {
            sinks.add(input, || {
                let other = saved[1 - input].clone();
                let product = combine(context.pool(), dy.clone(), other, |dy, other| dy * other);
                reduce(context.pool(), product, saved[input].shape())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_broadcast_gradients, poisoned, refusal};

    #[test]
    fn a_row_times_a_column() {
        let row = Tensor::from_slice([3], &[1.0f32, 2.0, 3.0]).unwrap();
        let column = Tensor::from_slice([2, 1], &[10.0, -1.0]).unwrap();
        let (y, _) = Mul.forward(&poisoned(), vec![row, column]);
        assert_eq!((&*y.shape(), y.data()), (&[2, 3][..], &[10.0, 20.0, 30.0, -1.0, -2.0, -3.0][..]));
    }

    #[test]
    fn errors_name_sizes() {
        let error = "mul: 2 x 3 and 3 x 3 do not broadcast: 2 and 3 differ and neither is 1";
        assert_eq!(refusal(&Mul, &[&[2, 3], &[3, 3]]), error);
    }

    #[test]
    fn gradients() {
        check_broadcast_gradients(&Mul);
    }
}
