//! Softmax: numbers become probabilities.

use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// `y_k = e^(x_k) / sum of e^(x_j)` along an axis. The largest x is subtracted first, so that no exponential overflows.
///
/// Before a cross-entropy, use [`SoftmaxCrossEntropy`](super::SoftmaxCrossEntropy) on the logits instead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Softmax {
    /// The axis along which the outputs sum to 1; the last if not given.
    pub axis: Option<usize>,
}

impl Softmax {
    /// (axes before, the axis, axes after), each as one extent.
    fn extents(&self, shape: Shape) -> Result<[usize; 3], ShapeError> {
        let axis = self.axis.unwrap_or(shape.len().saturating_sub(1));
        if axis >= shape.len() {
            let message = format!("axis {axis} is not one of the {} axes of {shape}", shape.len());
            return Err(ShapeError::new("softmax", message));
        }
        Ok([shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product()])
    }
}

impl<T: Element> Op<T> for Softmax {
    /// The output.
    type Saved = Tensor<T>;

    fn name(&self) -> &'static str {
        "softmax"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("softmax", inputs, 1)?;
        self.extents(inputs[0])?;
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Tensor<T>) {
        let x = only(inputs);
        let [before, classes, after] = self.extents(x.shape()).expect("the shapes were checked");
        let mut y = Tensor::uninit_in(context.pool(), x.shape());
        let (x, out) = (x.data(), y.data_mut());
        for group in 0..before * after {
            let start = group / after * classes * after + group % after;
            let indices = (0..classes).map(|k| start + k * after);
            let largest = indices
                .clone()
                .fold(T::NEG_INFINITY, |largest, i| if x[i] > largest { x[i] } else { largest });
            let mut sum = T::ZERO;
            for i in indices.clone() {
                out[i] = (x[i] - largest).exp();
                sum += out[i];
            }
            for i in indices {
                out[i] = out[i] / sum;
            }
        }
        (y.clone(), y)
    }

    fn backward(
        &self,
        _: &Context,
        y: Tensor<T>,
        mut grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        if !wanted[0] {
            return vec![None];
        }
        // dx = y (dy - sum of y dy).
        let [before, classes, after] = self.extents(y.shape()).expect("the shapes were checked");
        let (y, gradient) = (y.data(), grad_output.data_mut());
        for group in 0..before * after {
            let start = group / after * classes * after + group % after;
            let indices = (0..classes).map(|k| start + k * after);
            let mean: T = indices.clone().map(|i| y[i] * gradient[i]).sum();
            for i in indices {
                gradient[i] = y[i] * (gradient[i] - mean);
            }
        }
        vec![Some(grad_output)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn by_hand_along_either_axis() {
        let x = Tensor::from_slice([2, 2], &[0.0f64, 3f64.ln(), 1000.0, 1000.0]).unwrap();
        let (rows, _) = Softmax::default().forward(&poisoned(), vec![x]);
        for (y, expected) in rows.data().iter().zip([0.25, 0.75, 0.5, 0.5]) {
            assert!((y - expected).abs() < 1e-12);
        }
        let x = Tensor::from_slice([2, 2], &[0.0f64, 7.0, 3f64.ln(), 7.0]).unwrap();
        let (columns, _) = Softmax { axis: Some(0) }.forward(&poisoned(), vec![x]);
        for (y, expected) in columns.data().iter().zip([0.25, 0.5, 0.75, 0.5]) {
            assert!((y - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn errors_name_axes() {
        let shape = |op: Softmax, input: &[usize]| Op::<f32>::output_shape(&op, &[Shape::new(input)]);
        assert_eq!(
            shape(Softmax { axis: Some(2) }, &[2, 3]).unwrap_err().to_string(),
            "softmax: axis 2 is not one of the 2 axes of 2 x 3"
        );
        assert!(shape(Softmax::default(), &[]).is_err());
    }

    #[test]
    fn gradients() {
        for axis in [None, Some(0), Some(1), Some(2)] {
            check_gradients(&Softmax { axis }, &[random([2, 3, 2, 4], 1)]);
        }
    }
}
