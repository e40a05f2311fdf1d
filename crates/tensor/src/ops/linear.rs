//! The fully connected layer.
//!
//! Training cuts a batch into micro-batches of a few images, so x and dy are a few rows and the weight is what takes time: it
//! is large (AlexNet's first is 105 MB), and read or written once in each product. The products therefore go over the weight in
//! blocks of [`ROW_BLOCK`] rows, in the order of memory and without packing it.

use super::broadcast::reduce;
use super::checks::is_vector;
use crate::buffer_pool::Buffer;
use crate::gemm::gemm_strided;
use crate::simd::Isa;
use crate::sink::Deferred;
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure};

/// `y = x w^T + b`: the inputs are x (N x IN), w (OUT x IN) and, if there are three, b (OUT); the output is N x OUT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Linear;

/// Rows of the weight that are read or written side by side: few enough for the memory's prefetchers to follow each.
const ROW_BLOCK: usize = 16;
/// Rows of x that one pass over the weight serves.
const ROWS: usize = 48;

/// The product that the layer's are made of, which each element type has in the form that suits it; by default the portable one.
pub trait LinearProduct: Sized {
    /// `C = A B`, or `C += A B` if `accumulate`, of m, n and k: A with a (row, column) stride in elements, B and C row by row.
    fn product([m, n, k]: [usize; 3], a: (&[Self], [usize; 2]), b: &[Self], c: &mut [Self], accumulate: bool)
    where
        Self: Element,
    {
        Self::matmul([m, k, n], a, (b, [n, 1]), c, accumulate);
    }
}

impl LinearProduct for f64 {}

impl LinearProduct for f32 {
    fn product(sizes: [usize; 3], a: (&[f32], [usize; 2]), b: &[f32], c: &mut [f32], accumulate: bool) {
        gemm_strided(Isa::current(), sizes, a, (b, sizes[1]), (c, sizes[1]), accumulate);
    }
}

/// `y += x w^T`. Extents are N, IN and OUT, as in the gradients below.
fn add_product<T: Element>(
    context: &Context,
    [_, features, outputs]: [usize; 3],
    x: &[T],
    w: &[T],
    y: &mut [T],
) {
    if features == 0 || outputs == 0 {
        return;
    }
    for (x, y) in x.chunks(ROWS * features).zip(y.chunks_mut(ROWS * outputs)) {
        let rows = y.len() / outputs;
        // The product wants the columns of its right operand side by side, which makes x^T of x, and gives y^T.
        let mut transposed = context.pool().take::<T>(rows * (features + ROW_BLOCK));
        let (x_transposed, sums) = transposed.split_at_mut(rows * features);
        for (row, x) in x.chunks_exact(features).enumerate() {
            for (place, &value) in x_transposed[row..].iter_mut().step_by(rows).zip(x) {
                *place = value;
            }
        }
        for (block, w) in w.chunks(ROW_BLOCK * features).enumerate() {
            let (height, a) = (w.len() / features, (w, [features, 1]));
            T::product([height, rows, features], a, x_transposed, sums, false);
            for (output, sums) in sums[..height * rows].chunks_exact(rows).enumerate() {
                for (row, &sum) in sums.iter().enumerate() {
                    y[row * outputs + block * ROW_BLOCK + output] += sum;
                }
            }
        }
    }
}

/// `dx += dy w`.
fn add_input_gradient<T: Element>([n, features, outputs]: [usize; 3], dy: &[T], w: &[T], dx: &mut [T]) {
    if features == 0 || n == 0 {
        return;
    }
    for (block, w) in w.chunks(ROW_BLOCK * features).enumerate() {
        let (height, dy) = (w.len() / features, &dy[block * ROW_BLOCK..]);
        T::product([n, features, height], (dy, [outputs, 1]), w, dx, true);
    }
}

/// `dw = dy^T x`, or `dw += dy^T x` if `accumulate`.
fn weight_gradient<T: Element>(
    [n, features, outputs]: [usize; 3],
    dy: &[T],
    x: &[T],
    accumulate: bool,
    dw: &mut [T],
) {
    if features == 0 || n == 0 {
        if !accumulate {
            dw.fill(T::ZERO);
        }
        return;
    }
    for (block, dw) in dw.chunks_mut(ROW_BLOCK * features).enumerate() {
        let (height, dy) = (dw.len() / features, &dy[block * ROW_BLOCK..]);
        T::product([height, features, n], (dy, [1, outputs]), x, dw, accumulate);
    }
}

/// The gradient of a weight as the product that it is: a few rows, where the gradient is as large as the weight.
#[derive(Debug)]
struct Factors<T: Element> {
    /// OUT and IN.
    extents: [usize; 2],
    /// dy (N x OUT) and x (N x IN) of each micro-batch.
    rows: Vec<[Buffer<T>; 2]>,
}

impl<T: Element> Deferred<T> for Factors<T> {
    fn shape(&self) -> Shape {
        self.extents.into()
    }

    fn finish(&mut self, gradient: &mut [T], add: bool) {
        let [dy, x] = [0, 1].map(|factor| {
            let rows = self.rows.iter().map(|pair| &*pair[factor]);
            let mut all = self.rows[0][factor].home().take::<T>(rows.clone().map(<[T]>::len).sum());
            let mut rest = &mut *all;
            for rows in rows {
                let (own, behind) = rest.split_at_mut(rows.len());
                own.copy_from_slice(rows);
                rest = behind;
            }
            all
        });
        let [outputs, features] = self.extents;
        let n = dy.len().checked_div(outputs).unwrap_or(0);
        weight_gradient([n, features, outputs], &dy, &x, add, gradient);
    }
}

impl<T: Element> Op<T> for Linear {
    /// x and w.
    type Saved = [Tensor<T>; 2];

    const NAME: &'static str = "linear";

    fn describe(&self, inputs: &[Shape]) -> String {
        match inputs.get(1).map(|weight| &**weight) {
            Some([outputs, inputs]) => format!("Linear({inputs}, {outputs})"),
            _ => "Linear".to_owned(),
        }
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        2u64.saturating_mul(inputs[0][0] as u64).saturating_mul(inputs[1].elements() as u64)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let found = inputs.len();
        ensure!("linear", [2, 3].contains(&found), "expects x, w and maybe b, found {found} inputs");
        let ([n, features], w) = (inputs[0].matrix("linear")?, inputs[1]);
        ensure!("linear", w.len() == 2, "weight expects OUT x IN, found {w}");
        let [outputs, expected] = [w[0], w[1]];
        ensure!(
            "linear",
            features == expected,
            "weight expects {expected} input features, input has {features}"
        );
        if let Some(&bias) = inputs.get(2) {
            is_vector("linear", "bias", bias, ("OUT", outputs))?;
        }
        Shape::checked(&[n, outputs])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Self::Saved) {
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
        add_product(context, [n, features, outputs], x.data(), w.data(), y.data_mut());
        (y, [x, w])
    }

    fn backward(&self, context: &Context, [x, w]: Self::Saved, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let extents = [x.shape()[0], x.shape()[1], w.shape()[0]];
        sinks.add(0, || {
            let mut dx = Tensor::zeros_in(context.pool(), x.shape());
            add_input_gradient(extents, dy.data(), w.data(), dx.data_mut());
            dx
        });
        if let Some(sum) = sinks.get(1) {
            // Rows are kept, so that those of all micro-batches are multiplied at once.
            let rows = [&dy, &x].map(|rows| {
                let mut kept = context.pool().take::<T>(rows.len());
                kept.copy_from_slice(rows.data());
                kept
            });
            let extents = [extents[2], extents[1]];
            let make = |_: &_| Factors { extents, rows: Vec::new() };
            sum.add_deferred(context.pool(), make, |own| own.extents == extents, |own| own.rows.push(rows));
        }
        sinks.add(2, || reduce(context.pool(), dy, Shape::from([extents[2]])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GradientSum;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random, refusal};

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

    #[test]
    fn output_and_gradients_are_those_of_the_definition_for_any_sizes() {
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
            let shapes: [Shape; 4] =
                [[n, features].into(), [outputs, features].into(), [outputs].into(), [n, outputs].into()];
            let [x, w, b, dy] = shapes.map(|shape| random(shape, 1 + shape.elements() as u64));
            let sum = |len, product: &dyn Fn(usize) -> f64| (0..len).map(product).sum::<f64>();
            let (x_at, w_at) = (|i, p| x.data()[i * features + p], |o, p| w.data()[o * features + p]);
            let dy_at = |i, o| dy.data()[i * outputs + o];
            let each = |rows, columns: usize, element: &dyn Fn(usize, usize) -> f64| {
                Tensor::from_fn([rows, columns], |at| element(at / columns, at % columns))
            };
            let expected = [
                each(n, outputs, &|i, o| b.data()[o] + sum(features, &|p| x_at(i, p) * w_at(o, p))),
                each(n, features, &|i, p| sum(outputs, &|o| dy_at(i, o) * w_at(o, p))),
                each(outputs, features, &|o, p| sum(n, &|i| dy_at(i, o) * x_at(i, p))),
                Tensor::from_fn([outputs], |o| sum(n, &|i| dy_at(i, o))),
            ];
            let single = |tensor: &Tensor<f64>| tensor.cast::<f32>();
            let (y32, saved32) = Linear.forward(&poisoned(), vec![single(&x), single(&w), single(&b)]);
            let all32 = Linear.gradients(&poisoned(), saved32, single(&dy), &[true; 3]);
            let (y, saved) = Linear.forward(&poisoned(), vec![x.clone(), w.clone(), b.clone()]);
            let all = Linear.gradients(&poisoned(), saved, dy.clone(), &[true; 3]);
            let double = std::iter::once(y).chain(all.into_iter().flatten());
            let single = std::iter::once(y32).chain(all32.into_iter().flatten());
            for (part, (expected, (double, single))) in expected.iter().zip(double.zip(single)).enumerate() {
                for (found, bound) in [(double, 1e-13), (single.cast(), 1e-4)] {
                    assert_eq!(expected.shape(), found.shape());
                    for (expected, found) in expected.data().iter().zip(found.data()) {
                        assert!(
                            (expected - found).abs() < bound,
                            "{n} x {features} to {outputs}, part {part}: {found}, expected {expected}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rows_of_micro_batches_multiplied_at_once_are_the_sum_of_their_gradients() {
        let w = Tensor::<f32>::from_fn([37, 50], |i| (i % 11) as f32 - 5.0);
        let (context, mut expected) = (poisoned(), Tensor::full(w.shape(), 0.0));
        let mut kept = [GradientSum::new()];
        for micro_batch in 1..4 {
            let x = Tensor::from_fn([micro_batch, 50], |i| (i * (micro_batch + 5) % 23) as f32 / 23.0 - 0.4);
            let dy = Tensor::from_fn([micro_batch, 37], |i| (i * (micro_batch + 8) % 19) as f32 / 19.0 - 0.5);
            let saved = || Linear.forward(&context, vec![x.clone(), w.clone()]).1;
            Linear.backward(&context, saved(), dy.clone(), &mut Sinks::new(&mut kept, &[None, Some(0)]));
            assert!(kept[0].is_deferred());
            let alone = Linear.gradients(&context, saved(), dy.clone(), &[false, true]);
            expected.add_assign(alone[1].as_ref().unwrap());
        }
        let [kept] = kept;
        let found = kept.finish(context.pool()).unwrap();
        for (found, expected) in found.data().iter().zip(expected.data()) {
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
    }

    #[test]
    fn errors_name_sizes() {
        let [x, w, b] = [&[4, 8][..], &[3, 9], &[4]];
        for (inputs, expected) in [
            (&[x, w][..], "weight expects 9 input features, input has 8"),
            (&[x, &[3, 8], b], "bias expects OUT = 3, found 4"),
            (&[x], "expects x, w and maybe b, found 1 inputs"),
            (&[x, b], "weight expects OUT x IN, found 4"),
            (&[b, w], "expects a matrix of two axes, input is 4"),
        ] {
            assert_eq!(refusal(&Linear, inputs), format!("linear: {expected}"));
        }
        let most = 1 << (usize::BITS - 1);
        let expected = format!("shape: [{most}, 2] are more elements than can be counted");
        assert_eq!(refusal(&Linear, &[&[most, 1], &[2, 1]]), expected);
        let flops = Op::<f32>::flops(&Linear, &[[most / 2, 1].into(), [2, 1].into()]);
        assert_eq!(flops, u64::try_from(2 * most as u128).unwrap_or(u64::MAX));
    }

    #[test]
    fn gradients() {
        let (x, w, b) = (random([3, 5], 1), random([4, 5], 2), random([4], 3));
        check_gradients(&Linear, &[x.clone(), w.clone()]);
        check_gradients(&Linear, &[x.clone(), w.clone(), b.clone()]);
        check_some_gradients(&Linear, &[x, w, b], &[false, true, false]);
    }
}
