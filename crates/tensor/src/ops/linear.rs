//! The fully connected layer.
//!
//! Training cuts a batch into shards of a few images, so x and dy are a few rows and the weight is what takes time: it is
//! large (AlexNet's first is 105 MB), and read or written once in each product. In `f32` the products therefore walk over the
//! weight in bands of [`BAND`] rows, in the order of memory and without packing it.

use crate::context::Context;
use crate::element::Element;
use crate::gemm::{MatrixRef, gemm_strided};
use crate::op::Op;
use crate::shape::{Shape, ShapeError};
use crate::simd::Isa;
use crate::tensor::Tensor;

/// `y = x w^T + b`: the inputs are x (N x IN), w (OUT x IN) and, if there are three, b (OUT); the output is N x OUT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Linear;

/// Rows of the weight that are read or written side by side: few enough for the memory's prefetchers to follow each.
const BAND: usize = 16;
/// Rows of x that one walk over the weight serves.
const ROWS: usize = 48;

/// `y += x w^T` for x (N x IN), w (OUT x IN) and y (N x OUT).
fn add_product(context: &Context, [_, features, outputs]: [usize; 3], x: &[f32], w: &[f32], y: &mut [f32]) {
    if features == 0 || outputs == 0 {
        return;
    }
    let isa = Isa::current();
    for (x, y) in x.chunks(ROWS * features).zip(y.chunks_mut(ROWS * outputs)) {
        let rows = y.len() / outputs;
        // The kernel wants the columns of its right operand side by side, which makes x^T of x, and gives y^T.
        let mut turned = context.pool().take::<f32>(rows * (features + BAND));
        let (x_turned, sums) = turned.split_at_mut(rows * features);
        for (row, x) in x.chunks_exact(features).enumerate() {
            for (place, &value) in x_turned[row..].iter_mut().step_by(rows).zip(x) {
                *place = value;
            }
        }
        for (band, w) in w.chunks(BAND * features).enumerate() {
            let height = w.len() / features;
            let a = MatrixRef { data: w, strides: [features, 1] };
            gemm_strided(isa, [height, rows, features], a, (x_turned, rows), (sums, rows), false);
            for (output, sums) in sums[..height * rows].chunks_exact(rows).enumerate() {
                for (row, sum) in sums.iter().enumerate() {
                    y[row * outputs + band * BAND + output] += sum;
                }
            }
        }
    }
}

/// `dx = dy w` for dy (N x OUT), w (OUT x IN) and dx (N x IN), which holds zeros.
fn input_gradient([n, features, outputs]: [usize; 3], dy: &[f32], w: &[f32], dx: &mut [f32]) {
    if features == 0 || n == 0 {
        return;
    }
    let isa = Isa::current();
    for (band, w) in w.chunks(BAND * features).enumerate() {
        let height = w.len() / features;
        let a = MatrixRef { data: &dy[band * BAND..], strides: [outputs, 1] };
        gemm_strided(isa, [n, features, height], a, (w, features), (dx, features), true);
    }
}

/// `dw = dy^T x` for dy (N x OUT), x (N x IN) and dw (OUT x IN), overwritten, or added to if `accumulate`.
pub(crate) fn weight_gradient(
    [n, features, outputs]: [usize; 3],
    dy: &[f32],
    x: &[f32],
    accumulate: bool,
    dw: &mut [f32],
) {
    if features == 0 || n == 0 {
        if !accumulate {
            dw.fill(0.0);
        }
        return;
    }
    let isa = Isa::current();
    for (band, dw) in dw.chunks_mut(BAND * features).enumerate() {
        let height = dw.len() / features;
        let a = MatrixRef { data: &dy[band * BAND..], strides: [1, outputs] };
        gemm_strided(isa, [height, features, n], a, (x, features), (dw, features), accumulate);
    }
}

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
        if let Some(bias) = &bias
            && outputs > 0
        {
            y.data_mut().chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias.data()));
        } else {
            y.data_mut().fill(T::ZERO);
        }
        let extents = [n, features, outputs];
        match (T::as_f32(x.data()), T::as_f32(w.data()), T::as_f32_mut(y.data_mut())) {
            (Some(x), Some(w), Some(y)) => add_product(context, extents, x, w, y),
            _ => {
                let (x, w, y) = (x.data(), w.data(), y.data_mut());
                T::matmul(extents, x, [features, 1], w, [1, features], true, y, [outputs, 1]);
            }
        }
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
        let (extents, strides, dy) = ([n, features, outputs], [features, 1], grad_output.data());
        let grad_x = wanted[0].then(|| {
            let mut dx = Tensor::zeros_in(context.pool(), x.shape());
            match (T::as_f32(dy), T::as_f32(w.data()), T::as_f32_mut(dx.data_mut())) {
                (Some(dy), Some(w), Some(dx)) => input_gradient(extents, dy, w, dx),
                _ => {
                    let (w, dx) = (w.data(), dx.data_mut());
                    T::matmul([n, outputs, features], dy, [outputs, 1], w, strides, true, dx, strides);
                }
            }
            dx
        });
        let summed = match (&context.weight_sums, T::as_f32(dy), T::as_f32(x.data())) {
            (Some(sums), Some(dy), Some(x)) if wanted[1] => {
                sums.add_rows(context, w.address(), dy, x);
                true
            }
            _ => false,
        };
        let grad_w = (wanted[1] && !summed).then(|| {
            let mut dw = Tensor::uninit_in(context.pool(), w.shape());
            match (T::as_f32(dy), T::as_f32(x.data()), T::as_f32_mut(dw.data_mut())) {
                (Some(dy), Some(x), Some(dw)) => weight_gradient(extents, dy, x, false, dw),
                _ => {
                    let (x, dw) = (x.data(), dw.data_mut());
                    dw.fill(T::ZERO);
                    T::matmul([outputs, n, features], dy, [1, outputs], x, strides, true, dw, strides);
                }
            }
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

    /// `f32` walks over the weight in bands, `f64` does not.
    #[test]
    fn both_element_types_agree_for_any_sizes() {
        for (n, features, outputs) in [
            (1, 1, 1),
            (3, 70, 15),
            (4, 129, 16),
            (5, 64, 33),
            (47, 20, 50),
            (49, 33, 7),
            (97, 2, 18),
            (2, 0, 3),
            (2, 3, 0),
        ] {
            let [x, w, b, dy] = [
                [n, features].into(),
                [outputs, features].into(),
                Shape::from([outputs]),
                [n, outputs].into(),
            ]
            .map(|shape: Shape| random(shape, 1 + shape.elements() as u64));
            let single = |tensor: &Tensor<f64>| tensor.cast::<f32>();
            let (y, saved) = Linear.forward(&poisoned(), vec![x.clone(), w.clone(), b.clone()]);
            let (y32, saved32) = Linear.forward(&poisoned(), vec![single(&x), single(&w), single(&b)]);
            let all = Linear.backward(&poisoned(), saved, dy.clone(), &[true; 3]);
            let all32 = Linear.backward(&poisoned(), saved32, single(&dy), &[true; 3]);
            let pairs = all.iter().zip(&all32).map(|(a, b)| (a.as_ref().unwrap(), b.as_ref().unwrap()));
            for (part, (expected, found)) in [(&y, &y32)].into_iter().chain(pairs).enumerate() {
                assert_eq!(expected.shape(), found.shape());
                for (&expected, &found) in expected.data().iter().zip(found.data()) {
                    let error = (expected - f64::from(found)).abs();
                    assert!(
                        error < 1e-4,
                        "{n} x {features} to {outputs}, part {part}: {found}, expected {expected}"
                    );
                }
            }
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
