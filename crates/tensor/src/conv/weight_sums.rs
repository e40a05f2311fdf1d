//! Weight gradients that are cheapest to add up before they are complete, from shard to shard.
//!
//! The way back from the Winograd domain is linear, so a lane of many shards needs it once, not once a shard. The gradient of a
//! fully connected weight is a product of a few rows, dy^T x, but as large as the weight: the rows of all shards are kept, and
//! multiplied at once. A lane gives its backward passes a [`WeightSums`] in their [`Context`](crate::Context); they add to it
//! instead of answering the gradient of a weight, and the lane asks for the sum at its end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ConvGeometry;
use super::winograd::{Tile, WeightGradientAccumulator};
use crate::buffer_pool::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::ops::linear;
use crate::simd::Isa;
use crate::tensor::Tensor;

/// The factors of the gradient of one fully connected weight.
#[derive(Debug)]
struct Rows {
    /// The weight: [`Tensor::address`].
    weight: usize,
    /// IN and OUT.
    extents: [usize; 2],
    /// Of each shard dy (N x OUT) and x (N x IN).
    shards: Vec<[Buffer<f32>; 2]>,
}

impl Rows {
    /// Adds the gradient, OUT x IN.
    fn finish(&self, gradient: &mut [f32]) {
        let [mut dy, mut x] = [0, 1].map(|factor| {
            let len = self.shards.iter().map(|shard| shard[factor].len()).sum();
            self.shards[0][factor].home().take::<f32>(len)
        });
        let (mut dy_rest, mut x_rest) = (&mut *dy, &mut *x);
        for shard in &self.shards {
            for (rest, rows) in [&mut dy_rest, &mut x_rest].into_iter().zip(shard) {
                let (own, behind) = std::mem::take(rest).split_at_mut(rows.len());
                own.copy_from_slice(rows);
                *rest = behind;
            }
        }
        let [features, outputs] = self.extents;
        let n = dy.len().checked_div(outputs).unwrap_or(0);
        linear::weight_gradient([n, features, outputs], &dy, &x, true, gradient);
    }
}

/// The sum of one convolution weight's gradients.
#[derive(Debug)]
struct Sum {
    /// The weight: [`Tensor::address`].
    weight: usize,
    tile: Tile,
    accumulator: WeightGradientAccumulator,
}

/// See the module's documentation. One belongs to one lane at a time: sums are made in the order of the calls.
#[derive(Debug, Default)]
pub struct WeightSums {
    sums: Mutex<Vec<Sum>>,
    rows: Mutex<Vec<Rows>>,
}

/// A sum is only ever whole or being added to by a thread that has panicked, and then the step is lost anyway.
fn lock<S>(sums: &Mutex<Vec<S>>) -> MutexGuard<'_, Vec<S>> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}

impl WeightSums {
    /// Adds the gradient of the weight at `weight`; the bias's gradient, O, is overwritten. See
    /// [`WeightGradientAccumulator::accumulate`].
    pub(super) fn add(
        &self,
        context: &Context,
        g: &ConvGeometry,
        (weight, tile): (usize, Tile),
        x: &[f32],
        dy: &[f32],
        mask: Option<&[f32]>,
        db: Option<&mut [f32]>,
    ) {
        let mut sums = lock(&self.sums);
        let position = sums.iter().position(|sum| sum.weight == weight && sum.tile == tile);
        let position = position.unwrap_or_else(|| {
            let accumulator = WeightGradientAccumulator::new(context.pool(), tile, g, Isa::current());
            sums.push(Sum { weight, tile, accumulator });
            sums.len() - 1
        });
        let sum = &mut sums[position].accumulator;
        sum.accumulate(context.pool(), g, x, dy, mask);
        sum.finish_bias(db);
    }

    /// Adds the gradient dy^T x (OUT x IN) of the fully connected weight at `weight`, for dy (N x OUT) and x (N x IN).
    pub(crate) fn add_rows(
        &self,
        context: &Context,
        weight: usize,
        extents: [usize; 2],
        dy: &[f32],
        x: &[f32],
    ) {
        let kept = [dy, x].map(|rows| {
            let mut kept = context.pool().take::<f32>(rows.len());
            kept.copy_from_slice(rows);
            kept
        });
        let mut all = lock(&self.rows);
        match all.iter_mut().find(|rows| rows.weight == weight) {
            Some(rows) => rows.shards.push(kept),
            None => all.push(Rows { weight, extents, shards: vec![kept] }),
        }
    }

    /// Adds what was summed up for `weight` to `gradient`, of the same shape, and begins anew. Whether there was anything.
    ///
    /// # Panics
    /// If the gradient does not have the weight's shape.
    pub fn finish<T: Element>(&self, weight: &Tensor<T>, gradient: &mut Tensor<T>) -> bool {
        let mut found = false;
        lock(&self.sums).retain_mut(|sum| {
            if sum.weight != weight.address() {
                return true;
            }
            let gradient =
                T::as_f32_mut(gradient.data_mut()).expect("only f32 is summed in the Winograd domain");
            sum.accumulator.finish(gradient, None, true);
            found = true;
            false
        });
        lock(&self.rows).retain(|rows| {
            if rows.weight != weight.address() {
                return true;
            }
            rows.finish(T::as_f32_mut(gradient.data_mut()).expect("only f32 is kept as rows"));
            found = true;
            false
        });
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::{ConvPath, Wanted, backward};
    use crate::op::Op;
    use crate::ops::Linear;
    use crate::testing::poisoned;
    use std::sync::Arc;

    fn numbers(shape: [usize; 4], step: usize) -> Tensor<f32> {
        Tensor::from_fn(shape, |i| (i * step % 23) as f32 / 23.0 - 0.4)
    }

    #[test]
    fn shards_summed_in_the_domain_are_the_sum_of_their_gradients() {
        let (shape, channels) = ([2, 16, 9, 9], 32);
        let w = numbers([channels, 16, 3, 3], 5);
        let g = ConvGeometry::new(shape.into(), w.shape(), [1, 1], [1, 1], [1, 1], 1).unwrap();
        let wanted = Wanted { input: false, weight: true, bias: true };
        let plain = Context { conv: ConvPath::Winograd, ..poisoned() };
        let summing = Context { weight_sums: Some(Arc::default()), ..plain.clone() };
        let mut expected = Tensor::<f32>::full(w.shape(), 1.0);
        for shard in 1..4 {
            let (x, dy) = (numbers(shape, shard), numbers([2, channels, 9, 9], shard + 7));
            let one = backward(&plain, &g, &x, &w, dy.clone(), Some(&dy), wanted);
            let other = backward(&summing, &g, &x, &w, dy.clone(), Some(&dy), wanted);
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
    fn rows_of_shards_multiplied_at_once_are_the_sum_of_their_gradients() {
        let w = Tensor::<f32>::from_fn([37, 50], |i| (i % 11) as f32 - 5.0);
        let plain = poisoned();
        let summing = Context { weight_sums: Some(Arc::default()), ..plain.clone() };
        let mut expected = Tensor::<f32>::full(w.shape(), 1.0);
        for shard in 1..4 {
            let x = Tensor::from_fn([shard, 50], |i| (i * (shard + 5) % 23) as f32 / 23.0 - 0.4);
            let dy = Tensor::from_fn([shard, 37], |i| (i * (shard + 8) % 19) as f32 / 19.0 - 0.5);
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
