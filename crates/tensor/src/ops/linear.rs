//! The fully connected layer.

use crate::context::Context;
use crate::element::Element;
use crate::op::Op;
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// `y = x w^T + b`: the inputs are x (N x IN), w (OUT x IN) and, if there are three, b (OUT); the output is N x OUT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Linear;

/// What the backward pass of a linear layer needs.
#[derive(Debug)]
pub struct Saved<T: Element> {
    x: Tensor<T>,
    w: Tensor<T>,
    has_bias: bool,
}

impl<T: Element> Op<T> for Linear {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "linear"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let error = |message| Err(ShapeError::new("linear", message));
        let (&[x, w] | &[x, w, _]) = inputs else {
            return error(format!("expects x, w and maybe b, found {} inputs", inputs.len()));
        };
        let [n, x_features] = x.matrix("linear")?;
        let &[outputs, w_features] = &*w else {
            return error(format!("weight expects OUT x IN, found {w}"));
        };
        if x_features != w_features {
            return error(format!("weight expects {w_features} input features, input has {x_features}"));
        }
        if let Some(bias) = inputs.get(2)
            && **bias != [outputs]
        {
            return error(format!("bias expects OUT = {outputs}, found {bias}"));
        }
        Ok(Shape::from([n, outputs]))
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        let mut inputs = inputs.into_iter();
        let (x, w, bias) = (inputs.next(), inputs.next(), inputs.next());
        let (x, w) = (x.expect("linear has an input"), w.expect("linear has a weight"));
        let [n, features, outputs] = [x.shape()[0], x.shape()[1], w.shape()[0]];
        let mut y = Tensor::uninit_in(context.pool(), [n, outputs]);
        let y_data = y.data_mut();
        if let Some(bias) = &bias
            && outputs > 0
        {
            y_data.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias.data()));
        } else {
            y_data.fill(T::ZERO);
        }
        // Always added to what is there, so that IN = 0 gives the bias alone.
        T::matmul(
            [n, features, outputs],
            x.data(),
            [features, 1],
            w.data(),
            [1, features],
            true,
            y_data,
            [outputs, 1],
        );
        (y, Saved { x, w, has_bias: bias.is_some() })
    }

    fn backward(
        &self,
        context: &Context,
        saved: Saved<T>,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        let Saved { x, w, has_bias } = saved;
        let [n, features, outputs] = [x.shape()[0], x.shape()[1], w.shape()[0]];
        let dy = grad_output.data();
        let grad_x = wanted[0].then(|| {
            let mut dx = Tensor::zeros_in(context.pool(), x.shape());
            let strides = [features, 1];
            T::matmul(
                [n, outputs, features],
                dy,
                [outputs, 1],
                w.data(),
                strides,
                true,
                dx.data_mut(),
                strides,
            );
            dx
        });
        let grad_w = wanted[1].then(|| {
            let mut dw = Tensor::zeros_in(context.pool(), w.shape());
            let strides = [features, 1];
            T::matmul(
                [outputs, n, features],
                dy,
                [1, outputs],
                x.data(),
                strides,
                true,
                dw.data_mut(),
                strides,
            );
            dw
        });
        let mut gradients = vec![grad_x, grad_w];
        if has_bias {
            gradients.push(wanted[2].then(|| {
                let mut db = Tensor::zeros_in(context.pool(), [outputs]);
                let sums = db.data_mut();
                for row in dy.chunks_exact(outputs.max(1)) {
                    for (sum, &dy) in sums.iter_mut().zip(row) {
                        *sum += dy;
                    }
                }
                db
            }));
        }
        gradients
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random};

    #[test]
    fn a_small_product() {
        let x = Tensor::from_slice([2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let w = Tensor::from_slice([2, 3], &[1.0, 0.0, -1.0, 0.5, 0.5, 0.5]).unwrap();
        let b = Tensor::from_slice([2], &[10.0, 20.0]).unwrap();
        let (y, saved) = Linear.forward(&poisoned(), vec![x, w, b]);
        assert_eq!(y.data(), [8.0, 23.0, 8.0, 27.5]);
        let dy = Tensor::from_slice([2, 2], &[1.0, 0.0, 0.0, 2.0]).unwrap();
        let gradients = Linear.backward(&poisoned(), saved, dy, &[true; 3]);
        let data = |i: usize| gradients[i].as_ref().unwrap().data();
        assert_eq!(data(0), [1.0, 0.0, -1.0, 1.0, 1.0, 1.0]);
        assert_eq!(data(1), [1.0, 2.0, 3.0, 8.0, 10.0, 12.0]);
        assert_eq!(data(2), [1.0, 2.0]);
    }

    #[test]
    fn a_samples_bits_do_not_depend_on_its_batch() {
        let (x, w) = (random([37, 300], 1).cast::<f32>(), random([10, 300], 2).cast::<f32>());
        let (whole, _) = Linear.forward(&poisoned(), vec![x.clone(), w.clone()]);
        for (from, to) in [(0, 1), (5, 13), (36, 37)] {
            let part = x.entries_in(poisoned().pool(), from, to);
            let (part, _) = Linear.forward(&poisoned(), vec![part, w.clone()]);
            assert_eq!(part.data(), &whole.data()[from * 10..to * 10]);
        }
    }

    #[test]
    fn errors_name_sizes() {
        let shape = |inputs: &[Shape]| Op::<f32>::output_shape(&Linear, inputs).unwrap_err().to_string();
        let [x, w, b] = [Shape::from([4, 8]), Shape::from([3, 9]), Shape::from([4])];
        assert_eq!(shape(&[x, w]), "linear: weight expects 9 input features, input has 8");
        assert_eq!(shape(&[x, [3, 8].into(), b]), "linear: bias expects OUT = 3, found 4");
        assert_eq!(shape(&[x]), "linear: expects x, w and maybe b, found 1 inputs");
        assert_eq!(shape(&[x, b]), "linear: weight expects OUT x IN, found 4");
        assert_eq!(shape(&[b, w]), "linear: expects a matrix of two axes, input is 4");
    }

    #[test]
    fn gradients() {
        let (x, w, b) = (random([3, 5], 1), random([4, 5], 2), random([4], 3));
        check_gradients(&Linear, &[x.clone(), w.clone()]);
        check_gradients(&Linear, &[x.clone(), w.clone(), b.clone()]);
        check_some_gradients(&Linear, &[x, w, b], &[false, true, false]);
    }
}
