//! Weight gradients that stay in the Winograd domain from shard to shard.
//!
//! The way back from the domain is linear, so a lane of many shards needs it once, not once a shard. Such a lane gives
//! its backward passes a [`WeightSums`] in their [`Context`](crate::Context); they add to it instead of answering the
//! gradient of a weight, and the lane asks for the sum at its end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::ConvGeometry;
use super::winograd::{Tile, WeightGradientAccumulator};
use crate::context::Context;
use crate::element::Element;
use crate::simd::Isa;
use crate::tensor::Tensor;

/// The sum of one weight's gradients.
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
}

impl WeightSums {
    /// A sum is only ever whole or being added to by a thread that has panicked, and then the step is lost anyway.
    fn lock(&self) -> MutexGuard<'_, Vec<Sum>> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
        let mut sums = self.lock();
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

    /// Adds what was summed up for `weight` to `gradient`, of the same shape, and begins anew. Whether there was anything.
    ///
    /// # Panics
    /// If the gradient does not have the weight's shape.
    pub fn finish<T: Element>(&self, weight: &Tensor<T>, gradient: &mut Tensor<T>) -> bool {
        let mut found = false;
        self.lock().retain_mut(|sum| {
            if sum.weight != weight.address() {
                return true;
            }
            let gradient =
                T::as_f32_mut(gradient.data_mut()).expect("only f32 is summed in the Winograd domain");
            sum.accumulator.finish(gradient, None, true);
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
}
