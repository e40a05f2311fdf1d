//! Dropout (Srivastava et al. 2014; d2l book, section 5.6).

use crate::buffer_pool::Buffer;
use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::rng::Purpose;
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// While training, sets each element to 0 with probability `p` and multiplies the others by 1 / (1 - p); in evaluation it
/// changes nothing. Any shape whose first axis is N.
///
/// The mask of image `n` is a function of (seed, epoch, the image's number in the data set, `layer`): see
/// [`Context::random`]. It does not depend on the batch or on the thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dropout {
    /// The probability of 0, at least 0 and below 1.
    pub p: f64,
    /// The number of this layer among those that draw random numbers.
    pub layer: u32,
}

impl Dropout {
    /// The factor on what is kept.
    fn scale<T: Element>(&self) -> T {
        T::from_f64(1.0 / (1.0 - self.p))
    }
}

impl<T: Element> Op<T> for Dropout {
    /// A byte for each element, 1 where it was kept; nothing if nothing was dropped.
    type Saved = Option<Buffer<u8>>;

    fn name(&self) -> &'static str {
        "dropout"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("dropout", inputs, 1)?;
        if !(0.0..1.0).contains(&self.p) {
            return Err(ShapeError::new(
                "dropout",
                format!("p must be at least 0 and below 1, found {}", self.p),
            ));
        }
        if inputs[0].is_empty() {
            return Err(ShapeError::new("dropout", "expects an axis N, found a scalar"));
        }
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Option<Buffer<u8>>) {
        let mut x = only(inputs);
        if !context.training || self.p == 0.0 || x.is_empty() {
            return (x, None);
        }
        let image = x.len() / x.shape()[0];
        let mut mask = context.pool().take::<u8>(x.len());
        // 16 random bits an element: the probability is met to within 1 / 65536.
        let threshold = (self.p * 65536.0).round() as u32;
        for (row, mask) in mask.chunks_exact_mut(image).enumerate() {
            let mut stream = context.random(Purpose::Dropout(self.layer), row);
            for pair in mask.chunks_mut(2) {
                let bits = stream.next_u32();
                pair[0] = u8::from(bits & 0xffff >= threshold);
                if let Some(second) = pair.get_mut(1) {
                    *second = u8::from(bits >> 16 >= threshold);
                }
            }
        }
        if !x.is_unique() {
            let mut copy = Tensor::uninit_in(context.pool(), x.shape());
            copy.data_mut().copy_from_slice(x.data());
            x = copy;
        }
        let scale = self.scale();
        apply(&mask, scale, x.data_mut());
        (x, Some(mask))
    }

    fn backward(
        &self,
        _: &Context,
        mask: Option<Buffer<u8>>,
        mut grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        if !wanted[0] {
            return vec![None];
        }
        if let Some(mask) = mask {
            apply(&mask, self.scale(), grad_output.data_mut());
        }
        vec![Some(grad_output)]
    }
}

/// Multiplies by `scale` where the mask is 1 and sets to 0 elsewhere.
fn apply<T: Element>(mask: &[u8], scale: T, values: &mut [T]) {
    for (value, &kept) in values.iter_mut().zip(mask) {
        *value = if kept == 0 { T::ZERO } else { *value * scale };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPOUT: Dropout = Dropout { p: 0.25, layer: 0 };

    #[test]
    fn drops_the_right_share_and_keeps_the_mean() {
        let context = Context::default();
        let x = Tensor::<f32>::full([4, 10_000], 3.0);
        let (y, mask) = DROPOUT.forward(&context, vec![x]);
        let dropped = y.data().iter().filter(|&&y| y == 0.0).count() as f64 / 40_000.0;
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        assert!(y.data().iter().all(|&y| y == 0.0 || (y - 4.0).abs() < 1e-6));
        let dx = DROPOUT.backward(&context, mask, Tensor::full([4, 10_000], 3.0), &[true]).remove(0).unwrap();
        assert_eq!(dx, y, "forward and backward drop the same elements");
    }

    #[test]
    fn masks_belong_to_the_sample_and_not_to_its_place() {
        let mut context = Context { samples: vec![7, 9], epoch: 2, ..Context::default() };
        let x = Tensor::<f32>::full([2, 100], 1.0);
        let (both, _) = DROPOUT.forward(&context, vec![x.clone()]);
        context.samples = vec![9];
        let (alone, _) = DROPOUT.forward(&context, vec![x.entries_in(context.pool(), 0, 1)]);
        assert_eq!(both.data()[100..], *alone.data());
        context.epoch = 3;
        let (later, _) = DROPOUT.forward(&context, vec![x.entries_in(context.pool(), 0, 1)]);
        assert_ne!(later, alone);
    }

    #[test]
    fn evaluation_changes_nothing() {
        let context = Context { training: false, ..Context::default() };
        let x = Tensor::<f32>::from_fn([2, 5], |i| i as f32);
        assert_eq!(DROPOUT.forward(&context, vec![x.clone()]).0, x);
        let error = Op::<f32>::output_shape(&Dropout { p: 1.0, layer: 0 }, &[[1, 2].into()]).unwrap_err();
        assert_eq!(error.to_string(), "dropout: p must be at least 0 and below 1, found 1");
    }
}
