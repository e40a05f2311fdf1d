//! Group normalization: each image's channels in groups, by their own mean and variance.

use super::checks::{is_vector, not_negative};
use super::moments::{ChannelSums, Moments, Normalizer, affine_gradient, groups};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure, expect_inputs};

/// `y = weight (x - mean) / sqrt(variance + eps) + bias`, with mean and (biased) variance over the C/groups x H x W elements of
/// each group of channels of each image (Wu and He 2018, equations 1 to 6). The inputs are x (N x C x H x W), weight (C) and bias
/// (C); the output is as x.
///
/// No image depends on another, so a micro-batch is computed as the batch would be. Statistics are summed in f64.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupNorm {
    /// The number of groups; C must divide into them. 1 is layer normalization, C instance normalization.
    pub groups: usize,
    /// Added to the variance: 0 or more.
    pub eps: f64,
}

impl GroupNorm {
    /// So many groups, with PyTorch's eps of 1e-5.
    #[must_use]
    pub fn new(groups: usize) -> Self {
        Self { groups, eps: 1e-5 }
    }
}

/// Values of the forward pass that the backward pass needs.
#[derive(Debug)]
pub struct Saved<T: Element> {
    x: Tensor<T>,
    weight: Tensor<T>,
    /// Of each group of each image.
    normalizers: Vec<Normalizer>,
}

impl<T: Element> Op<T> for GroupNorm {
    type Saved = Saved<T>;

    const NAME: &'static str = "group_norm";

    fn describe(&self, inputs: &[Shape]) -> String {
        let channels = inputs.get(1).map_or(0, Shape::elements);
        format!("GroupNorm({}, {channels})", self.groups)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("group_norm", inputs, 3)?;
        let [n, c, h, w] = inputs[0].nchw("group_norm")?;
        let divides = self.groups > 0 && c.is_multiple_of(self.groups);
        ensure!("group_norm", divides, "C = {c} must divide into {} groups", self.groups);
        let empty = c * h * w == 0 && n > 0;
        ensure!("group_norm", !empty, "the mean of no elements: C = {c}, H = {h}, W = {w}");
        not_negative("group_norm", "eps", self.eps)?;
        is_vector("group_norm", "weight", inputs[1], ("C", c))?;
        is_vector("group_norm", "bias", inputs[2], ("C", c))?;
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        let [x, weight, bias] = <[Tensor<T>; 3]>::try_from(inputs).expect("group_norm takes three inputs");
        let mut y = Tensor::empty_in(context.pool(), x.shape());
        let (from, to) = (x.data(), y.data_mut());
        let normalized = groups(x.shape(), self.groups).map(|planes| {
            let moments = planes.clone().map(|(_, plane)| Moments::of(&from[plane]));
            let moments = moments.fold(Moments::default(), Moments::merge);
            let normalizer = Normalizer::new(moments.mean, moments.variance(), self.eps);
            for (channel, plane) in planes {
                let [weight, bias] = [&weight, &bias].map(|vector| vector.data()[channel]);
                normalizer.apply(weight, bias, &from[plane.clone()], &mut to[plane]);
            }
            normalizer
        });
        let normalizers = normalized.collect();
        (y, Saved { x, weight, normalizers })
    }

    /// With `xhat = (x - mean) factor` and sums over the m elements of a group,
    /// `dx = factor (weight dy - (sum of weight dy + xhat sum of weight dy xhat) / m)`.
    fn backward(&self, context: &Context, saved: Saved<T>, mut dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let Saved { x, weight, normalizers } = saved;
        let mut of_channels = vec![ChannelSums::default(); x.shape()[1]];
        for (planes, &normalizer) in groups(x.shape(), self.groups).zip(&normalizers) {
            let mut of_group = ChannelSums::default();
            for (channel, plane) in planes.clone() {
                let own = normalizer.sums(&x.data()[plane.clone()], &dy.data()[plane]);
                of_channels[channel] = of_channels[channel].merge(own);
                let weight = weight.data()[channel].to_f64();
                of_group = of_group.merge(ChannelSums { dy: weight * own.dy, dy_xhat: weight * own.dy_xhat });
            }
            if sinks.wanted(0) {
                let Normalizer { mean, factor } = normalizer;
                let count = (x.len() / normalizers.len()) as f64;
                let slope = -factor * factor * (of_group.dy_xhat / count);
                let shift = -factor * (of_group.dy / count) - slope * mean;
                for (channel, plane) in planes {
                    let scale = weight.data()[channel].to_f64() * factor;
                    let dy = &mut dy.data_mut()[plane.clone()];
                    affine_gradient(scale, slope, shift, &x.data()[plane], dy);
                }
            }
        }
        sinks.add(0, || dy);
        ChannelSums::add_to(&of_channels, context, sinks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random, refusal};

    #[test]
    fn images_do_not_see_each_other() {
        let (context, op) = (poisoned(), GroupNorm::new(2));
        let (x, w, b) = (random([3, 4, 2, 3], 1), random([4], 2), random([4], 3));
        let run = |x: Tensor<f64>| op.forward(&context, vec![x, w.clone(), b.clone()]).0;
        let whole = run(x.clone());
        for image in 0..3 {
            let alone = run(x.narrow_in(context.pool(), image, image + 1));
            assert_eq!(alone, whole.narrow_in(context.pool(), image, image + 1));
        }
    }

    #[test]
    fn gradients() {
        for (groups, shape) in [(1, [2, 3, 2, 3]), (2, [2, 4, 3, 2]), (3, [1, 3, 4, 5]), (2, [3, 2, 1, 9])] {
            let inputs = [random(shape, 1), random([shape[1]], 2), random([shape[1]], 3)];
            check_gradients(&GroupNorm::new(groups), &inputs);
            check_some_gradients(&GroupNorm { groups, eps: 0.1 }, &inputs, &[false, true, true]);
            check_some_gradients(&GroupNorm { groups, eps: 0.1 }, &inputs, &[true, false, false]);
        }
    }

    #[test]
    fn errors_name_axes_and_sizes() {
        let x: &[usize] = &[1, 3, 2, 2];
        for (groups, eps, [x, w, b], expected) in [
            (2, 0.1, [x, &[3], &[3]], "C = 3 must divide into 2 groups"),
            (0, 0.1, [x, &[3], &[3]], "C = 3 must divide into 0 groups"),
            (3, 0.1, [x, &[4], &[3]], "weight expects C = 3, found 4"),
            (3, 0.1, [x, &[3], &[1]], "bias expects C = 3, found 1"),
            (3, 0.1, [&[1, 3, 0, 2], &[3], &[3]], "the mean of no elements: C = 3, H = 0, W = 2"),
            (1, -1.0, [x, &[3], &[3]], "eps must be finite and 0 or more, found -1"),
        ] {
            assert_eq!(refusal(&GroupNorm { groups, eps }, &[x, w, b]), format!("group_norm: {expected}"));
        }
        let none = [[0, 3, 2, 2].into(), [3].into(), [3].into()];
        assert!(Op::<f32>::output_shape(&GroupNorm::new(3), &none).is_ok());
    }
}
