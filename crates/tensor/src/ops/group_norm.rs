//! Group normalization: each image's channels in groups, by their own mean and variance.

use super::moments::{Moments, affine, affine_gradient, sums};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, expect_inputs};

/// `y = weight (x - mean) / sqrt(variance + eps) + bias`, with mean and (biased) variance over the C/groups x H x W elements of each group of
/// channels of each image (Wu and He 2018, equations 1 to 6). The inputs are x (N x C x H x W), weight (C) and bias (C); the output is as x.
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

/// Refuses an eps that is no small number.
pub(super) fn check_eps(op: &'static str, eps: f64) -> Result<(), ShapeError> {
    if eps.is_finite() && eps >= 0.0 {
        return Ok(());
    }
    Err(ShapeError::new(op, format!("eps must be finite and 0 or more, found {eps}")))
}

/// Refuses a vector that has not an element for each channel.
pub(super) fn check_channels(
    op: &'static str,
    name: &str,
    vector: Shape,
    c: usize,
) -> Result<(), ShapeError> {
    if *vector == [c] {
        return Ok(());
    }
    Err(ShapeError::new(op, format!("{name} expects C = {c}, found {vector}")))
}

/// Values of the forward pass that the backward pass needs.
#[derive(Debug)]
pub struct Saved<T: Element> {
    x: Tensor<T>,
    weight: Tensor<T>,
    /// Mean and 1 / sqrt(variance + eps) of each group of each image.
    statistics: Vec<[f64; 2]>,
}

impl<T: Element> Op<T> for GroupNorm {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "group_norm"
    }

    fn describe(&self, inputs: &[Shape]) -> String {
        let channels = inputs.get(1).map_or(0, Shape::elements);
        format!("GroupNorm({}, {channels})", self.groups)
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("group_norm", inputs, 3)?;
        let [_, c, h, w] = inputs[0].nchw("group_norm")?;
        if self.groups == 0 || !c.is_multiple_of(self.groups) {
            return Err(ShapeError::new(
                "group_norm",
                format!("C = {c} must divide into {} groups", self.groups),
            ));
        }
        if inputs[0].elements() == 0 && inputs[0][0] > 0 {
            return Err(ShapeError::new(
                "group_norm",
                format!("the mean of no elements: C = {c}, H = {h}, W = {w}"),
            ));
        }
        check_eps("group_norm", self.eps)?;
        check_channels("group_norm", "weight", inputs[1], c)?;
        check_channels("group_norm", "bias", inputs[2], c)?;
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        let [x, weight, bias] = <[Tensor<T>; 3]>::try_from(inputs).expect("group_norm takes three inputs");
        let (mut y, shape) = (Tensor::empty_in(context.pool(), x.shape()), x.shape());
        let (channels, pixels) = (shape[1] / self.groups, shape[2] * shape[3]);
        let mut statistics = Vec::with_capacity(shape[0] * self.groups);
        if !x.is_empty() {
            let groups = x
                .data()
                .chunks_exact(channels * pixels)
                .zip(y.data_mut().chunks_exact_mut(channels * pixels));
            for (number, (x, y)) in groups.enumerate() {
                let planes = x.chunks_exact(pixels);
                let moments = planes.clone().map(Moments::of).fold(Moments::default(), Moments::merge);
                let (mean, factor) = (moments.mean, 1.0 / (moments.variance() + self.eps).sqrt());
                statistics.push([mean, factor]);
                for (channel, (x, y)) in planes.zip(y.chunks_exact_mut(pixels)).enumerate() {
                    let channel = number % self.groups * channels + channel;
                    let scale = weight.data()[channel].to_f64() * factor;
                    affine(scale, bias.data()[channel].to_f64() - mean * scale, x, y);
                }
            }
        }
        (y, Saved { x, weight, statistics })
    }

    fn backward(&self, context: &Context, saved: Saved<T>, grad_output: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let (dx, sums) = gradients(self.groups, &saved, grad_output, sinks.wanted(0));
        if let Some(dx) = dx {
            sinks.add(0, || dx);
        }
        for which in [0, 1] {
            sinks.add(1 + which, || {
                let mut vector = Tensor::empty_in(context.pool(), saved.weight.shape());
                for (to, sums) in vector.data_mut().iter_mut().zip(&sums) {
                    *to = T::from_f64(sums[which]);
                }
                vector
            });
        }
    }
}

/// The input gradient, if wanted, and of each channel the gradients of weight and bias.
///
/// With `xhat = (x - mean) factor` and sums over the m elements of a group,
/// `dx = factor (weight dy - (sum of weight dy + xhat sum of weight dy xhat) / m)`.
fn gradients<T: Element>(
    groups: usize,
    saved: &Saved<T>,
    mut dy: Tensor<T>,
    wanted: bool,
) -> (Option<Tensor<T>>, Vec<[f64; 2]>) {
    let Saved { x, weight, statistics } = saved;
    let shape = x.shape();
    let (channels, pixels) = (shape[1] / groups, shape[2] * shape[3]);
    let (mut totals, mut own) = (vec![[0.0; 2]; shape[1]], vec![[0.0; 2]; channels]);
    for (number, &[mean, factor]) in statistics.iter().enumerate() {
        let first = number % groups * channels;
        let place = |channel: usize| {
            let start = (number * channels + channel) * pixels;
            start..start + pixels
        };
        let mut of_group = [0.0; 2];
        for (channel, own) in own.iter_mut().enumerate() {
            let [sum, product] = sums(&dy.data()[place(channel)], &x.data()[place(channel)], 0.0, mean);
            *own = [product * factor, sum];
            let weight = weight.data()[first + channel].to_f64();
            for (which, own) in own.iter().enumerate() {
                totals[first + channel][which] += own;
                of_group[which] += weight * own;
            }
        }
        if wanted {
            let [product, sum] = of_group.map(|sum| sum / (channels * pixels) as f64);
            let slope = -factor * factor * product;
            for channel in 0..channels {
                let scale = weight.data()[first + channel].to_f64() * factor;
                let shift = -factor * sum - slope * mean;
                affine_gradient(
                    scale,
                    slope,
                    shift,
                    &x.data()[place(channel)],
                    &mut dy.data_mut()[place(channel)],
                );
            }
        }
    }
    (wanted.then_some(dy), totals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random};

    #[test]
    fn each_group_of_each_image_has_mean_0_and_variance_1() {
        let x = random([2, 6, 3, 5], 1).cast::<f32>();
        let inputs = vec![x, Tensor::full([6], 1.0), Tensor::full([6], 0.0)];
        let (y, _) = GroupNorm { groups: 3, eps: 0.0 }.forward(&poisoned(), inputs);
        for group in y.data().chunks_exact(30) {
            let found = Moments::of(group);
            assert!(found.mean.abs() < 1e-6 && (found.variance() - 1.0).abs() < 1e-5, "{found:?}");
        }
    }

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
        let shape = |op: GroupNorm, x: &[usize], w: usize, b: usize| {
            let inputs = [Shape::new(x), [w].into(), [b].into()];
            Op::<f32>::output_shape(&op, &inputs).map_err(|error| error.to_string())
        };
        let error = |message: &str| Err(format!("group_norm: {message}"));
        assert_eq!(shape(GroupNorm::new(2), &[1, 3, 2, 2], 3, 3), error("C = 3 must divide into 2 groups"));
        assert_eq!(shape(GroupNorm::new(0), &[1, 3, 2, 2], 3, 3), error("C = 3 must divide into 0 groups"));
        assert_eq!(shape(GroupNorm::new(3), &[1, 3, 2, 2], 4, 3), error("weight expects C = 3, found 4"));
        assert_eq!(shape(GroupNorm::new(3), &[1, 3, 2, 2], 3, 1), error("bias expects C = 3, found 1"));
        assert_eq!(
            shape(GroupNorm::new(3), &[1, 3, 0, 2], 3, 3),
            error("the mean of no elements: C = 3, H = 0, W = 2")
        );
        assert_eq!(
            shape(GroupNorm { groups: 1, eps: -1.0 }, &[1, 3, 2, 2], 3, 3),
            error("eps must be finite and 0 or more, found -1")
        );
        assert!(shape(GroupNorm::new(3), &[0, 3, 2, 2], 3, 3).is_ok());
    }
}
