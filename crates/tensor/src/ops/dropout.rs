//! Dropout: in training, elements are set to zero at random.

use crate::simd::{Isa, compiled};
use crate::{Buffer, Context, Element, Purpose, RandomStream, Shape, ShapeError, Tensor, UnaryOp, ensure};

/// In training, each element is zero with probability p and otherwise 1 / (1 - p) times the input's, so that its mean stays
/// (Srivastava et al. 2014, section 10, "inverted"). In evaluation, the identity.
///
/// The mask of a sample is a function of the seed, the epoch, the layer and the sample's index in the data set
/// ([`Context::random`]): not of its place in the batch, nor of the thread. Axis 0 counts samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability of a zero, from 0 to 1. With 1 everything is zero.
    pub p: f64,
    /// The number of this layer among the network's dropout layers: layers do not share masks.
    pub layer: u32,
}

impl UnaryOp for Dropout {
    /// One byte per element, 1 where it is kept. Nothing if none was dropped.
    type Saved<T: Element> = Option<Buffer<u8>>;

    const NAME: &'static str = "dropout";

    fn describe(&self) -> String {
        format!("Dropout({})", self.p)
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        ensure!(Self::NAME, (0.0..=1.0).contains(&self.p), "p must be from 0 to 1, found {}", self.p);
        Ok(input)
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Option<Buffer<u8>>) {
        if !context.training || self.p == 0.0 || x.is_empty() {
            return (x, None);
        }
        let mut mask = context.pool().take::<u8>(x.len());
        let samples = x.shape().first().copied().unwrap_or(1);
        for (row, mask) in mask.chunks_exact_mut(x.len() / samples).enumerate() {
            draw(context.random(Purpose::Dropout(self.layer), row), self.p, mask);
        }
        (self.masked(x, &mask), Some(mask))
    }

    fn gradient<T: Element>(&self, _: &Context, mask: Option<Buffer<u8>>, dy: Tensor<T>) -> Tensor<T> {
        match mask {
            Some(mask) => self.masked(dy, &mask),
            None => dy,
        }
    }
}

impl Dropout {
    /// `x` times the mask and 1 / (1 - p). NaN and infinity stay visible.
    fn masked<T: Element>(&self, mut x: Tensor<T>, mask: &[u8]) -> Tensor<T> {
        let scale = T::from_f64(if self.p < 1.0 { 1.0 / (1.0 - self.p) } else { 0.0 });
        let elements = x.data_mut();
        compiled!(Isa::current(), {
            for (x, &kept) in elements.iter_mut().zip(mask) {
                *x *= if kept == 0 { T::ZERO } else { scale };
            }
        });
        x
    }
}

/// Fills `mask` with 1 (kept) or 0 (with probability `p`, to within 2^-32): 32 random bits an element.
fn draw(mut stream: RandomStream, p: f64, mask: &mut [u8]) {
    let threshold = (p * 2f64.powi(32)) as u64; // 2^32 if p = 1: every draw is below it
    let mut bytes = [0; 1024];
    for mask in mask.chunks_mut(bytes.len() / 4) {
        let bytes = &mut bytes[..4 * mask.len()];
        stream.fill_bytes(bytes);
        for (mask, &word) in mask.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *mask = u8::from(u64::from(u32::from_le_bytes(word)) >= threshold);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer_pool::BufferPool;
    use crate::op::Op;
    use crate::testing::{check_gradients, poisoned, random, refusal};

    fn ones(op: Dropout, context: &Context, n: usize) -> Tensor<f32> {
        op.forward(context, vec![Tensor::full([n, 4, 50, 5], 1.0)]).0
    }

    #[test]
    fn the_share_and_the_scale_follow_p() {
        for p in [0.1, 0.5, 0.9] {
            let y = ones(Dropout { p, layer: 0 }, &poisoned(), 20);
            let kept = y.data().iter().filter(|&&y| y != 0.0).count() as f64 / 20_000.0;
            assert!((kept - (1.0 - p)).abs() < 0.015, "p = {p} kept {kept}");
            let scale = (1.0 / (1.0 - p)) as f32;
            assert!(y.data().iter().all(|&y| y == 0.0 || y == scale));
        }
        let evaluation = Context::evaluation(BufferPool::poisoning());
        for (p, context, expected) in
            [(1.0, &poisoned(), 0.0), (0.0, &poisoned(), 1.0), (0.5, &evaluation, 1.0)]
        {
            assert!(ones(Dropout { p, layer: 0 }, context, 2).data().iter().all(|&y| y == expected));
        }
    }

    #[test]
    fn a_samples_mask_depends_on_seed_epoch_layer_and_sample_alone() {
        let op = Dropout { p: 0.5, layer: 3 };
        let context = |samples: &[u64]| Context { samples: samples.to_vec(), ..poisoned() };
        let batch = ones(op, &context(&[10, 11, 12, 13]), 4);
        let part = ones(op, &context(&[12, 10]), 2);
        assert_eq!(part.data()[..1000], batch.data()[2000..3000]);
        assert_eq!(part.data()[1000..], batch.data()[..1000]);
        for other in [
            ones(Dropout { layer: 4, ..op }, &context(&[10]), 1),
            ones(op, &Context { epoch: 1, ..context(&[10]) }, 1),
            ones(op, &Context { seed: 1, ..context(&[10]) }, 1),
            ones(op, &context(&[11]), 1),
        ] {
            assert_ne!(other.data(), &batch.data()[..1000]);
        }
    }

    #[test]
    fn in_place_unless_shared_and_nan_stays() {
        let op = Dropout { p: 0.5, layer: 0 };
        let x = Tensor::full([1, 8], f32::NAN);
        let kept = x.clone();
        let (y, _) = op.forward(&poisoned(), vec![x]);
        assert_ne!(y.data().as_ptr(), kept.data().as_ptr());
        let address = kept.data().as_ptr();
        let (y, _) = op.forward(&poisoned(), vec![kept]);
        assert_eq!(y.data().as_ptr(), address);
        assert!(y.data().iter().all(|y| y.is_nan()));
    }

    #[test]
    fn p_is_checked() {
        for p in [-0.1, 1.5, f64::NAN] {
            let expected = format!("dropout: p must be from 0 to 1, found {p}");
            assert_eq!(refusal(&Dropout { p, layer: 0 }, &[&[2, 3]]), expected);
        }
    }

    #[test]
    fn gradients() {
        for p in [0.0, 0.3, 0.5, 1.0] {
            check_gradients(&Dropout { p, layer: 1 }, &[random([3, 2, 4, 5], 1)]);
        }
    }
}
