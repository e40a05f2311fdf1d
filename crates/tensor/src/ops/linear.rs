//! The fully connected layer.
//!
//! Training cuts a batch into micro-batches of a few images, so x and dy are a few rows and the weight is what takes time: it
//! is large (AlexNet's first is 105 MB), and read or written once in each product. In `f32` the products therefore go over the
//! weight in bands of [`BAND`] rows, in the order of memory and without packing it.

use super::broadcast::reduce;
use crate::gemm::{MatrixRef, gemm_strided};
use crate::simd::Isa;
use crate::{Context, Element, Op, Shape, ShapeError, Tensor};

/// `y = x w^T + b`: the inputs are x (N x IN), w (OUT x IN) and, if there are three, b (OUT); the output is N x OUT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Linear;

/// Rows of the weight that are read or written side by side: few enough for the memory's prefetchers to follow each.
const BAND: usize = 16;
/// Rows of x that one pass over the weight serves.
const ROWS: usize = 48;

/// The products of the layer, which each element type has in the form that suits it; by default the portable matrix product.
///
/// Extents are N, IN and OUT; x is N x IN, w is OUT x IN and y is N x OUT.
pub trait Products: Sized {
    /// `y += x w^T`.
    fn add_product(_: &Context, extents: [usize; 3], x: &[Self], w: &[Self], y: &mut [Self])
    where
        Self: Element,
    {
        let [_, features, outputs] = extents;
        Self::matmul(extents, x, [features, 1], w, [1, features], true, y, [outputs, 1]);
    }

    /// `dx += dy w`.
    fn add_input_gradient([n, features, outputs]: [usize; 3], dy: &[Self], w: &[Self], dx: &mut [Self])
    where
        Self: Element,
    {
        let strides = [features, 1];
        Self::matmul([n, outputs, features], dy, [outputs, 1], w, strides, true, dx, strides);
    }

    /// `dw = dy^T x`, or `dw += dy^T x` if `accumulate`.
    fn weight_gradient(
        [n, features, outputs]: [usize; 3],
        dy: &[Self],
        x: &[Self],
        accumulate: bool,
        dw: &mut [Self],
    ) where
        Self: Element,
    {
        let strides = [features, 1];
        Self::matmul([outputs, n, features], dy, [1, outputs], x, strides, accumulate, dw, strides);
    }

    /// Leaves dy and x to [`Context::weight_sums`], which makes one product of those of many micro-batches. Tells whether it
    /// did.
    fn keep_factors(_: &Context, _w: &Tensor<Self>, _dy: &[Self], _x: &[Self]) -> bool
    where
        Self: Element,
    {
        false
    }
}

impl Products for f64 {}

impl Products for f32 {
    fn add_product(
        context: &Context,
        [_, features, outputs]: [usize; 3],
        x: &[f32],
        w: &[f32],
        y: &mut [f32],
    ) {
        if features == 0 || outputs == 0 {
            return;
        }
        let isa = Isa::current();
        for (x, y) in x.chunks(ROWS * features).zip(y.chunks_mut(ROWS * outputs)) {
            let rows = y.len() / outputs;
            // The kernel wants the columns of its right operand side by side, which makes x^T of x, and gives y^T.
            let mut transposed = context.pool().take::<f32>(rows * (features + BAND));
            let (x_transposed, sums) = transposed.split_at_mut(rows * features);
            for (row, x) in x.chunks_exact(features).enumerate() {
                for (place, &value) in x_transposed[row..].iter_mut().step_by(rows).zip(x) {
                    *place = value;
                }
            }
            for (band, w) in w.chunks(BAND * features).enumerate() {
                let height = w.len() / features;
                let a = MatrixRef { data: w, strides: [features, 1] };
                gemm_strided(isa, [height, rows, features], a, (x_transposed, rows), (sums, rows), false);
                for (output, sums) in sums[..height * rows].chunks_exact(rows).enumerate() {
                    for (row, sum) in sums.iter().enumerate() {
                        y[row * outputs + band * BAND + output] += sum;
                    }
                }
            }
        }
    }

    fn add_input_gradient([n, features, outputs]: [usize; 3], dy: &[f32], w: &[f32], dx: &mut [f32]) {
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

    fn weight_gradient(
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

    fn keep_factors(context: &Context, w: &Tensor<f32>, dy: &[f32], x: &[f32]) -> bool {
        let Some(sums) = &context.weight_sums else { return false };
        sums.add_rows(context, w.address(), dy, x);
        true
    }
}

/// Inputs of the forward pass, for the backward pass.
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

    fn describe(&self, inputs: &[Shape]) -> String {
        match inputs.get(1).map(|weight| &**weight) {
            Some([outputs, inputs]) => format!("Linear({inputs}, {outputs})"),
            _ => "Linear".to_owned(),
        }
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        2 * (inputs[0][0] * inputs[1].elements()) as u64
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
        let mut y = Tensor::empty_in(context.pool(), [n, outputs]);
        if let Some(bias) = &bias
            && outputs > 0
        {
            y.data_mut().chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias.data()));
        } else {
            y.data_mut().fill(T::ZERO);
        }
        T::add_product(context, [n, features, outputs], x.data(), w.data(), y.data_mut());
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
        let (extents, dy) = ([x.shape()[0], x.shape()[1], w.shape()[0]], grad_output.data());
        let grad_x = wanted[0].then(|| {
            let mut dx = Tensor::zeros_in(context.pool(), x.shape());
            T::add_input_gradient(extents, dy, w.data(), dx.data_mut());
            dx
        });
        let grad_w = (wanted[1] && !T::keep_factors(context, &w, dy, x.data())).then(|| {
            let mut dw = Tensor::empty_in(context.pool(), w.shape());
            T::weight_gradient(extents, dy, x.data(), false, dw.data_mut());
            dw
        });
        let grad_b = (has_bias && wanted[2])
            .then(|| reduce(context.pool(), grad_output.clone(), Shape::from([w.shape()[0]])));
        let mut gradients = vec![grad_x, grad_w];
        gradients.extend(has_bias.then_some(grad_b));
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
            let part = x.narrow_in(poisoned().pool(), from, to);
            let (part, _) = Linear.forward(&poisoned(), vec![part, w.clone()]);
            assert_eq!(part.data(), &whole.data()[from * 10..to * 10]);
        }
    }

    /// `f32` goes over the weight in bands, `f64` does not.
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
