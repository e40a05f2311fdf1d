//! Batch normalization of images: each channel by the mean and variance of the whole batch.
//!
//! In training, a batch meets at this op. What a micro-batch computes by itself are functions of their own, so that an executor can have
//! micro-batches on several threads: [`partial_moments`], joined in a fixed order by [`combine`], then [`normalize`]; and on the way back
//! [`partial_sums`], joined the same way, then [`input_gradient`]. The op is those five for a batch in one tensor.

use std::sync::{Arc, Mutex, PoisonError};

use super::group_norm::{check_channels, check_eps};
use super::moments::{Moments, affine, affine_gradient, sums};
use crate::{BufferPool, Context, Element, Op, Shape, ShapeError, Sinks, Tensor};

/// `y = weight (x - mean) / sqrt(variance + eps) + bias` for each channel (Ioffe and Szegedy 2015, algorithm 1). The inputs are x
/// (N x C x H x W), weight (C) and bias (C); the output is as x.
///
/// With these three, mean and (biased) variance are those of the N x H x W elements of each channel, and part of the gradient. With
/// two more, a mean (C) and a variance (C), such as the running ones in evaluation, those are constants and have no gradient.
/// Statistics are summed in f64.
#[derive(Debug, Clone)]
pub struct BatchNorm2d {
    /// Added to the variance: 0 or more.
    pub eps: f64,
    /// A place for the batch's moments, for running statistics: overwritten by each forward pass that computes them.
    pub statistics: Option<BatchStatistics>,
}

impl Default for BatchNorm2d {
    /// PyTorch's eps of 1e-5, and no place for the moments.
    fn default() -> Self {
        Self { eps: 1e-5, statistics: None }
    }
}

/// What a running statistic follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// The mean of each channel.
    Mean,
    /// The unbiased variance of each channel, as PyTorch keeps it.
    Variance,
}

/// The mean and variance of each channel of the last batch, shared between an op and the buffers that follow them.
#[derive(Debug, Clone, Default)]
pub struct BatchStatistics(Arc<Mutex<[Option<Vec<f64>>; 2]>>);

impl BatchStatistics {
    /// Moves the running value of each channel towards the batch's, which is taken away: `running = (1 - momentum) running + momentum
    /// batch`, as PyTorch does. Nothing moves if no forward pass has left a statistic since the last time.
    pub fn follow<T: Element>(&self, statistic: Statistic, running: &mut [T], momentum: f64) {
        let batch = self.0.lock().unwrap_or_else(PoisonError::into_inner)[statistic as usize].take();
        for (value, batch) in running.iter_mut().zip(batch.into_iter().flatten()) {
            let before = value.to_f64();
            *value = T::from_f64(before + momentum * (batch - before));
        }
    }

    fn set(&self, moments: &[Moments]) {
        let of = |value: fn(&Moments) -> f64| Some(moments.iter().map(value).collect());
        let both = [of(|moments| moments.mean), of(Moments::unbiased_variance)];
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = both;
    }
}

/// C, and the pixels of a plane.
fn sizes<T: Element>(x: &Tensor<T>) -> [usize; 2] {
    let [_, c, h, w] = x.shape().nchw("batch_norm2d").unwrap_or_else(|error| panic!("{error}"));
    [c, h * w]
}

/// Calls `visit` with the channel and the place of each plane of an N x C x H x W tensor.
fn each_plane<T: Element>(x: &Tensor<T>, mut visit: impl FnMut(usize, std::ops::Range<usize>)) {
    let [c, pixels] = sizes(x);
    for plane in 0..x.len().checked_div(pixels).unwrap_or(0) {
        visit(plane % c, plane * pixels..(plane + 1) * pixels);
    }
}

/// The moments of each channel of a micro-batch (N x C x H x W), image after image.
///
/// # Panics
/// If there are not four axes.
#[must_use]
pub fn partial_moments<T: Element>(x: &Tensor<T>) -> Vec<Moments> {
    let mut all = vec![Moments::default(); sizes(x)[0]];
    each_plane(x, |channel, plane| all[channel] = all[channel].merge(Moments::of(&x.data()[plane])));
    all
}

/// The moments or sums of each channel of a batch from those of its micro-batches, joined by `merge` in the order given.
///
/// # Panics
/// If they differ in their channels.
#[must_use]
pub fn combine<'a, P: Copy + 'a>(
    parts: impl IntoIterator<Item = &'a [P]>,
    merge: impl Fn(P, P) -> P,
) -> Vec<P> {
    let mut parts = parts.into_iter();
    let mut all = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        assert_eq!(all.len(), part.len(), "channels of the micro-batches");
        for (all, part) in all.iter_mut().zip(part) {
            *all = merge(*all, *part);
        }
    }
    all
}

/// The mean and `1 / sqrt(variance + eps)` of a channel: what normalizes it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalizer {
    /// The mean.
    pub mean: f64,
    /// `1 / sqrt(variance + eps)`.
    pub factor: f64,
}

impl Normalizer {
    /// From a mean and a variance.
    #[must_use]
    pub fn new(mean: f64, variance: f64, eps: f64) -> Self {
        Self { mean, factor: 1.0 / (variance + eps).sqrt() }
    }

    /// From the moments of a batch.
    #[must_use]
    pub fn of(moments: &Moments, eps: f64) -> Self {
        Self::new(moments.mean, moments.variance(), eps)
    }
}

/// `y = weight (x - mean) factor + bias` of a micro-batch (N x C x H x W), given the channels' normalizers, weights and biases (C each).
///
/// # Panics
/// If a slice has not an element for each channel.
#[must_use]
pub fn normalize<T: Element>(
    pool: &Arc<BufferPool>,
    x: &Tensor<T>,
    normalizers: &[Normalizer],
    weight: &[T],
    bias: &[T],
) -> Tensor<T> {
    assert_eq!([normalizers.len(), weight.len(), bias.len()], [sizes(x)[0]; 3], "channels");
    let mut y = Tensor::empty_in(pool, x.shape());
    let to = y.data_mut();
    each_plane(x, |channel, plane| {
        let Normalizer { mean, factor } = normalizers[channel];
        let scale = weight[channel].to_f64() * factor;
        affine(scale, bias[channel].to_f64() - mean * scale, &x.data()[plane.clone()], &mut to[plane]);
    });
    y
}

/// Sums over a channel's elements on the way back.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ChannelSums {
    /// The sum of `dy`: the bias's gradient.
    pub dy: f64,
    /// The sum of `dy xhat`, xhat the normalized input: the weight's gradient.
    pub dy_xhat: f64,
}

impl ChannelSums {
    /// The sums over the elements of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self { dy: self.dy + other.dy, dy_xhat: self.dy_xhat + other.dy_xhat }
    }
}

/// The sums of each channel of a micro-batch: x and dy are N x C x H x W.
///
/// # Panics
/// If the shapes differ or there is not a normalizer for each channel.
#[must_use]
pub fn partial_sums<T: Element>(
    x: &Tensor<T>,
    dy: &Tensor<T>,
    normalizers: &[Normalizer],
) -> Vec<ChannelSums> {
    assert_eq!((x.shape(), normalizers.len()), (dy.shape(), sizes(x)[0]), "shape and channels");
    let mut all = vec![ChannelSums::default(); normalizers.len()];
    each_plane(x, |channel, plane| {
        let Normalizer { mean, factor } = normalizers[channel];
        let [sum, product] = sums(&dy.data()[plane.clone()], &x.data()[plane], 0.0, mean);
        all[channel].dy += sum;
        all[channel].dy_xhat += product * factor;
    });
    all
}

/// `dx = weight factor (dy - (sum of dy + xhat sum of dy xhat) / count)` of a micro-batch, in place of dy, given the batch's sums and its
/// elements per channel. Without sums, where mean and variance are constants, `dx = weight factor dy`.
///
/// # Panics
/// If the shapes differ or a slice has not an element for each channel.
#[must_use]
pub fn input_gradient<T: Element>(
    x: &Tensor<T>,
    mut dy: Tensor<T>,
    normalizers: &[Normalizer],
    weight: &[T],
    of_batch: Option<(&[ChannelSums], f64)>,
) -> Tensor<T> {
    assert_eq!((x.shape(), normalizers.len()), (dy.shape(), sizes(x)[0]), "shape and channels");
    assert_eq!(weight.len(), normalizers.len(), "channels");
    assert!(of_batch.is_none_or(|(sums, _)| sums.len() == weight.len()), "channels");
    let to = dy.data_mut();
    each_plane(x, |channel, plane| {
        let Normalizer { mean, factor } = normalizers[channel];
        let scale = weight[channel].to_f64() * factor;
        let (x, to) = (&x.data()[plane.clone()], &mut to[plane]);
        match of_batch {
            Some((sums, count)) => {
                let slope = -scale * factor * sums[channel].dy_xhat / count;
                affine_gradient(scale, slope, -scale * sums[channel].dy / count - slope * mean, x, to);
            }
            None => {
                let scale = T::from_f64(scale);
                to.iter_mut().for_each(|dy| *dy *= scale);
            }
        }
    });
    dy
}

fn normalizers_of<T: Element>(mean: &[T], variance: &[T], eps: f64) -> Vec<Normalizer> {
    let each = mean.iter().zip(variance);
    each.map(|(mean, variance)| Normalizer::new(mean.to_f64(), variance.to_f64(), eps)).collect()
}

/// Values of the forward pass that the backward pass needs.
#[derive(Debug)]
pub struct Saved<T: Element> {
    x: Tensor<T>,
    weight: Tensor<T>,
    normalizers: Vec<Normalizer>,
    /// Elements per channel, if mean and variance depend on them.
    count: Option<f64>,
}

impl<T: Element> Op<T> for BatchNorm2d {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "batch_norm2d"
    }

    fn describe(&self, inputs: &[Shape]) -> String {
        format!("BatchNorm2d({})", inputs.get(1).map_or(0, Shape::elements))
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let error = |message| Err(ShapeError::new("batch_norm2d", message));
        if ![3, 5].contains(&inputs.len()) {
            return error(format!(
                "expects x, weight, bias and maybe mean and variance, found {} inputs",
                inputs.len()
            ));
        }
        let [n, c, h, w] = inputs[0].nchw("batch_norm2d")?;
        check_eps("batch_norm2d", self.eps)?;
        for (name, &vector) in ["weight", "bias", "mean", "variance"].into_iter().zip(&inputs[1..]) {
            check_channels("batch_norm2d", name, vector, c)?;
        }
        if inputs.len() == 3 && n * h * w < 2 {
            return error(format!("the variance of fewer than 2 elements: N = {n}, H = {h}, W = {w}"));
        }
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        let moments = self.meets(inputs.len()).then(|| partial_moments(&inputs[0]));
        self.forward_of_batch(context, inputs, moments.as_deref())
    }

    fn backward(&self, context: &Context, saved: Saved<T>, grad_output: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let own = saved.partial_sums(&grad_output);
        self.backward_of_batch(context, saved, grad_output, [&own, &own], sinks);
    }
}

impl<T: Element> Saved<T> {
    /// The sums of each channel of this micro-batch: dy is N x C x H x W.
    #[must_use]
    pub fn partial_sums(&self, dy: &Tensor<T>) -> Vec<ChannelSums> {
        partial_sums(&self.x, dy, &self.normalizers)
    }
}

impl BatchNorm2d {
    /// Tells whether the op with so many inputs computes mean and variance itself, so that micro-batches meet at it.
    #[must_use]
    pub fn meets(&self, inputs: usize) -> bool {
        inputs == 3
    }

    /// [`Op::forward`] of a micro-batch, given the moments of each channel of its whole batch; `None` where mean and variance are inputs.
    pub fn forward_of_batch<T: Element>(
        &self,
        context: &Context,
        inputs: Vec<Tensor<T>>,
        moments: Option<&[Moments]>,
    ) -> (Tensor<T>, Saved<T>) {
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().expect("batch_norm2d has x, weight and bias");
        let (x, weight, bias) = (next(), next(), next());
        let (normalizers, count) = match moments {
            None => (normalizers_of(next().data(), next().data(), self.eps), None),
            Some(moments) => {
                if let Some(place) = &self.statistics {
                    place.set(moments);
                }
                let normalizers = moments.iter().map(|moments| Normalizer::of(moments, self.eps)).collect();
                (normalizers, Some(moments.first().map_or(0.0, |moments| moments.count)))
            }
        };
        let y = normalize(context.pool(), &x, &normalizers, weight.data(), bias.data());
        (y, Saved { x, weight, normalizers, count })
    }

    /// [`Op::backward`] of a micro-batch, given the sums of each channel of itself and of its whole batch.
    pub fn backward_of_batch<T: Element>(
        &self,
        context: &Context,
        saved: Saved<T>,
        grad_output: Tensor<T>,
        [own, of_batch]: [&[ChannelSums]; 2],
        sinks: &mut Sinks<'_, T>,
    ) {
        let Saved { x, weight, normalizers, count } = saved;
        let vector = |value: fn(&ChannelSums) -> f64| {
            let mut vector = Tensor::empty_in(context.pool(), weight.shape());
            for (to, sums) in vector.data_mut().iter_mut().zip(own) {
                *to = T::from_f64(value(sums));
            }
            vector
        };
        sinks.add(1, || vector(|sums| sums.dy_xhat));
        sinks.add(2, || vector(|sums| sums.dy));
        let of_batch = count.map(|count| (of_batch, count));
        sinks.add(0, || input_gradient(&x, grad_output, &normalizers, weight.data(), of_batch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random};

    fn positive(shape: [usize; 1], seed: u64) -> Tensor<f64> {
        let mut tensor = random(shape, seed);
        tensor.data_mut().iter_mut().for_each(|x| *x += 1.1);
        tensor
    }

    #[test]
    fn micro_batches_make_the_batch() {
        let (context, op) = (poisoned(), BatchNorm2d::default());
        let (x, dy) = (random([7, 3, 4, 5], 1), random([7, 3, 4, 5], 2));
        let (w, b) = (random([3], 3), random([3], 4));
        let (y, saved) = op.forward(&context, vec![x.clone(), w.clone(), b.clone()]);
        let gradients = op.gradients(&context, saved, dy.clone(), &[true; 3]);
        let cuts = [0..3, 3..4, 4..7];
        let part =
            |of: &Tensor<f64>| cuts.clone().map(|cut| of.narrow_in(context.pool(), cut.start, cut.end));
        let (xs, dys) = (part(&x), part(&dy));
        let moments = xs.each_ref().map(partial_moments);
        let moments = combine(moments.iter().map(Vec::as_slice), Moments::merge);
        let normalizers: Vec<_> = moments.iter().map(|moments| Normalizer::of(moments, op.eps)).collect();
        let sums: Vec<_> = xs.iter().zip(&dys).map(|(x, dy)| partial_sums(x, dy, &normalizers)).collect();
        let sums = combine(sums.iter().map(Vec::as_slice), ChannelSums::merge);
        let near = |found: &[f64], expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            assert!(
                found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12),
                "{found:?}, {expected:?}"
            );
        };
        for ((x, dy), (y, dx)) in
            xs.iter().zip(dys).zip(part(&y).iter().zip(part(gradients[0].as_ref().unwrap())))
        {
            near(normalize(context.pool(), x, &normalizers, w.data(), b.data()).data(), y.data());
            near(
                input_gradient(x, dy, &normalizers, w.data(), Some((&sums, moments[0].count))).data(),
                dx.data(),
            );
        }
        near(
            &sums.iter().map(|sums| sums.dy_xhat).collect::<Vec<_>>(),
            gradients[1].as_ref().unwrap().data(),
        );
        near(&sums.iter().map(|sums| sums.dy).collect::<Vec<_>>(), gradients[2].as_ref().unwrap().data());
    }

    #[test]
    fn gradients() {
        for shape in [[3, 2, 2, 3], [2, 3, 1, 1], [1, 2, 5, 3]] {
            let c = shape[1];
            let three = [random(shape, 1), random([c], 2), random([c], 3)];
            let op = BatchNorm2d { eps: 0.05, ..BatchNorm2d::default() };
            check_gradients(&op, &three);
            check_some_gradients(&op, &three, &[false, true, true]);
            let five: Vec<_> = three.into_iter().chain([random([c], 4), positive([c], 5)]).collect();
            check_some_gradients(&op, &five, &[true, true, true, false, false]);
        }
    }

    #[test]
    fn running_statistics_follow_the_batch() {
        let statistics = BatchStatistics::default();
        let op = BatchNorm2d { statistics: Some(statistics.clone()), ..BatchNorm2d::default() };
        let x = Tensor::from_slice([2, 1, 1, 2], &[1.0f32, 2.0, 3.0, 6.0]).unwrap();
        op.forward(&poisoned(), vec![x, Tensor::full([1], 1.0), Tensor::full([1], 0.0)]);
        let (mut mean, mut variance) = ([1.0f32], [1.0f32]);
        for _ in 0..2 {
            statistics.follow(Statistic::Mean, &mut mean, 0.5);
            statistics.follow(Statistic::Variance, &mut variance, 0.5);
            // The mean is 3; the squares of what differs from it sum to 14, over 3. The second time nothing is left to follow.
            assert_eq!((mean, variance), ([2.0], [((1.0 + 14.0 / 3.0) / 2.0) as f32]));
        }
    }

    #[test]
    fn errors_name_axes_and_sizes() {
        let error = |inputs: &[&[usize]]| {
            let inputs: Vec<Shape> = inputs.iter().map(|&shape| Shape::new(shape)).collect();
            Op::<f32>::output_shape(&BatchNorm2d::default(), &inputs).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[&[2, 3, 4, 4], &[3]]),
            "batch_norm2d: expects x, weight, bias and maybe mean and variance, found 2 inputs"
        );
        assert_eq!(error(&[&[2, 3, 4, 4], &[3], &[4]]), "batch_norm2d: bias expects C = 3, found 4");
        assert_eq!(
            error(&[&[2, 3, 4, 4], &[3], &[3], &[3], &[1]]),
            "batch_norm2d: variance expects C = 3, found 1"
        );
        assert_eq!(
            error(&[&[1, 3, 1, 1], &[3], &[3]]),
            "batch_norm2d: the variance of fewer than 2 elements: N = 1, H = 1, W = 1"
        );
    }
}
