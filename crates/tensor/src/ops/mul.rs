//! The product of two tensors, element by element.

use super::broadcast::{broadcast_shape, combine, reduce};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, expect_inputs};

/// `y = a b` element by element, with both inputs broadcast by NumPy's rules as in [`Add`](super::Add).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mul;

impl<T: Element> Op<T> for Mul {
    /// The inputs.
    type Saved = [Tensor<T>; 2];

    fn name(&self) -> &'static str {
        "mul"
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

    fn backward(
        &self,
        context: &Context,
        saved: [Tensor<T>; 2],
        grad_output: Tensor<T>,
        sinks: &mut Sinks<'_, T>,
    ) {
        for input in [0, 1] {
            sinks.add(input, || {
                let other = saved[1 - input].clone();
                let product = combine(context.pool(), grad_output.clone(), other, |dy, other| dy * other);
                reduce(context.pool(), product, saved[input].shape())
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random};

    #[test]
    fn a_row_times_a_column() {
        let row = Tensor::from_slice([3], &[1.0f32, 2.0, 3.0]).unwrap();
        let column = Tensor::from_slice([2, 1], &[10.0, -1.0]).unwrap();
        let (y, saved) = Mul.forward(&poisoned(), vec![row, column]);
        assert_eq!(y.shape(), Shape::from([2, 3]));
        assert_eq!(y.data(), [10.0, 20.0, 30.0, -1.0, -2.0, -3.0]);
        let gradients = Mul.gradients(&poisoned(), saved, Tensor::full([2, 3], 1.0), &[true, true]);
        assert_eq!(gradients[0].as_ref().unwrap().data(), [9.0, 9.0, 9.0]);
        assert_eq!(gradients[1].as_ref().unwrap().data(), [6.0, 6.0]);
    }

    #[test]
    fn errors_name_sizes() {
        let error = Op::<f32>::output_shape(&Mul, &[[2, 3].into(), [3, 3].into()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "mul: 2 x 3 and 3 x 3 do not broadcast: 2 and 3 differ and neither is 1"
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
            check_gradients(&Mul, &[random(a, 1), random(b, 2)]);
            check_some_gradients(&Mul, &[random(a, 1), random(b, 2)], &[true, false]);
        }
    }
}
