//! Weight gradients that are cheapest to add up before they are complete, from micro-batch to micro-batch.
//!
//! The way back from the Winograd domain is linear, so an accumulation group needs it once, not once a micro-batch. The gradient of a
//! fully connected weight is a product of a few rows, dy^T x, but as large as the weight: the rows of all micro-batches are
//! kept, and multiplied at once. A group gives its backward passes a [`WeightSums`] in their [`Context`](crate::Context); they add to it
//! instead of answering the gradient of a weight, and the group asks for the sum at its end.

use std::sync::{Mutex, PoisonError};

use super::ConvGeometry;
use super::direct::Masked;
use super::winograd::{Tile, WeightGradientAccumulator};
use crate::buffer_pool::Buffer;
use crate::context::Context;
use crate::ops::linear::Products;
use crate::simd::Isa;
use crate::tensor::Tensor;

/// The part of one weight's gradient that there is.
#[derive(Debug)]
enum Partial {
    /// The sum in the Winograd domain, of a convolution.
    Winograd(WeightGradientAccumulator),
    /// The factors dy (N x OUT) and x (N x IN) of each micro-batch, of a fully connected layer.
    Rows(Vec<[Buffer<f32>; 2]>),
}

/// See the module's documentation. One belongs to one accumulation group at a time: sums are made in the order of the calls.
#[derive(Debug, Default)]
pub struct WeightSums {
    /// By the weight: [`Tensor::address`].
    sums: Mutex<Vec<(usize, Partial)>>,
}

impl WeightSums {
    /// Runs `add` with what there is of a weight's gradient, which is made when it is first added to.
    fn update(&self, weight: usize, make: impl FnOnce() -> Partial, add: impl FnOnce(&mut Partial)) {
        // A sum is only ever whole or being added to by a thread that has panicked, and then the step is lost anyway.
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let position = sums.iter().position(|&(of, _)| of == weight).unwrap_or_else(|| {
            sums.push((weight, make()));
            sums.len() - 1
        });
        add(&mut sums[position].1);
    }

    /// Adds the gradient of a convolution's weight; the bias's gradient, O, is overwritten. See
    /// [`WeightGradientAccumulator::accumulate`].
    pub(super) fn add(
        &self,
        context: &Context,
        (weight, g, tile): (&Tensor<f32>, &ConvGeometry, Tile),
        x: &[f32],
        (dy, mask): Masked<'_>,
        db: Option<&mut [f32]>,
    ) {
        let make = || WeightGradientAccumulator::new(context.pool(), tile, g, Isa::current());
        self.update(
            weight.address(),
            || Partial::Winograd(make()),
            |partial| {
                if let Partial::Winograd(sum) = partial {
                    sum.accumulate(context.pool(), g, x, (dy, mask));
                    sum.finish_bias(db);
                }
            },
        );
    }

    /// Adds the gradient dy^T x (OUT x IN) of the fully connected weight at `weight`, for dy (N x OUT) and x (N x IN).
    pub(crate) fn add_rows(&self, context: &Context, weight: usize, dy: &[f32], x: &[f32]) {
        let kept = [dy, x].map(|rows| {
            let mut kept = context.pool().take::<f32>(rows.len());
            kept.copy_from_slice(rows);
            kept
        });
        self.update(
            weight,
            || Partial::Rows(Vec::new()),
            |partial| {
                if let Partial::Rows(factors) = partial {
                    factors.push(kept);
                }
            },
        );
    }

    /// Adds what was summed up for `weight` to `gradient`, of the same shape, and begins anew. Whether there was anything.
    ///
    /// # Panics
    /// If the gradient does not have the weight's shape.
    pub fn finish(&self, weight: &Tensor<f32>, gradient: &mut Tensor<f32>) -> bool {
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(position) = sums.iter().position(|&(of, _)| of == weight.address()) else { return false };
        match sums.remove(position).1 {
            Partial::Winograd(mut sum) => sum.finish(gradient.data_mut(), None, true),
            Partial::Rows(factors) => {
                let [dy, x] = [0, 1].map(|factor| {
                    let rows = factors.iter().map(|pair| &*pair[factor]);
                    let mut all = factors[0][factor].home().take::<f32>(rows.clone().map(<[f32]>::len).sum());
                    let mut rest = &mut *all;
                    for rows in rows {
                        let (own, behind) = rest.split_at_mut(rows.len());
                        own.copy_from_slice(rows);
                        rest = behind;
                    }
                    all
                });
                let [outputs, features] = [weight.shape()[0], weight.shape()[1]];
                let n = dy.len().checked_div(outputs).unwrap_or(0);
                f32::weight_gradient([n, features, outputs], &dy, &x, true, gradient.data_mut());
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::{ConvAlgorithm, Convolution, Wanted, backward};
    use crate::op::Op;
    use crate::ops::Linear;
    use crate::testing::poisoned;
    use std::sync::Arc;

    fn numbers(shape: [usize; 4], step: usize) -> Tensor<f32> {
        Tensor::from_fn(shape, |i| (i * step % 23) as f32 / 23.0 - 0.4)
    }

    #[test]
    fn micro_batches_summed_in_the_domain_are_the_sum_of_their_gradients() {
        let (shape, channels) = ([2, 16, 9, 9], 32);
        let w = numbers([channels, 16, 3, 3], 5);
        let g = ConvGeometry::new(shape.into(), w.shape(), [1, 1], [1, 1], [1, 1], 1).unwrap();
        let wanted = Wanted { input: false, weight: true, bias: true };
        let plain = Context { conv: ConvAlgorithm::Winograd(None), ..poisoned() };
        let summing = Context { weight_sums: Some(Arc::default()), ..plain.clone() };
        let mut expected = Tensor::<f32>::full(w.shape(), 1.0);
        for micro_batch in 1..4 {
            let (x, dy) = (numbers(shape, micro_batch), numbers([2, channels, 9, 9], micro_batch + 7));
            let layer = Convolution { geometry: g, weight: &w, bias: None, relu: true };
            let one = backward(&plain, &layer, &x, Some(&dy), dy.clone(), wanted);
            let other = backward(&summing, &layer, &x, Some(&dy), dy.clone(), wanted);
            expected.add_assign(&one.weight.unwrap());
            assert!(other.weight.is_none(), "the gradient of a summed weight is not answered");
            assert_eq!(other.bias, one.bias);
        }
        let sums = summing.weight_sums.unwrap();
        assert!(!sums.finish(&numbers([channels, 16, 3, 3], 5), &mut expected.clone()), "another weight");
        let mut found = Tensor::full(w.shape(), 1.0);
        assert!(sums.finish(&w, &mut found));
        for (found, expected) in found.data().iter().zip(expected.data()) {
            assert!((found - expected).abs() < 1e-3, "{found}, expected {expected}");
        }
        assert!(!sums.finish(&w, &mut found), "a sum is asked for once");
    }

    #[test]
    fn rows_of_micro_batches_multiplied_at_once_are_the_sum_of_their_gradients() {
        let w = Tensor::<f32>::from_fn([37, 50], |i| (i % 11) as f32 - 5.0);
        let plain = poisoned();
        let summing = Context { weight_sums: Some(Arc::default()), ..plain.clone() };
        let mut expected = Tensor::<f32>::full(w.shape(), 1.0);
        for micro_batch in 1..4 {
            let x = Tensor::from_fn([micro_batch, 50], |i| (i * (micro_batch + 5) % 23) as f32 / 23.0 - 0.4);
            let dy = Tensor::from_fn([micro_batch, 37], |i| (i * (micro_batch + 8) % 19) as f32 / 19.0 - 0.5);
            let gradients = |context: &Context| {
                let (_, saved) = Linear.forward(context, vec![x.clone(), w.clone()]);
                Linear.backward(context, saved, dy.clone(), &[true, true])
            };
            let (one, other) = (gradients(&plain), gradients(&summing));
            expected.add_assign(one[1].as_ref().unwrap());
            assert_eq!(other[0], one[0]);
            assert!(other[1].is_none(), "the gradient of a summed weight is not answered");
        }
        let sums = summing.weight_sums.unwrap();
        let mut found = Tensor::full(w.shape(), 1.0);
        assert!(sums.finish(&w, &mut found));
        for (found, expected) in found.data().iter().zip(expected.data()) {
            assert!((found - expected).abs() < 1e-5, "{found}, expected {expected}");
        }
        assert!(!sums.finish(&w, &mut found), "a sum is asked for once");
    }
}
