//! Batch normalization of images: each channel by the mean and variance of the whole batch.
//!
//! In training, a batch meets at this op. What a micro-batch computes by itself are functions of their own, so that an executor
//! can have micro-batches on several threads: [`partial_moments`], joined in a fixed order by [`combine`], then
//! [`BatchNorm2d::forward_of_batch`]; and on the way back [`Saved::partial_sums`], joined the same way, then
//! [`BatchNorm2d::backward_of_batch`]. The op is those five for a batch in one tensor.

use std::sync::{Arc, Mutex};

use super::checks::{is_vector, not_negative};
pub use super::moments::ChannelSums;
use super::moments::{Moments, Normalizer, affine_gradient, planes};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure, lock};

/// `y = weight (x - mean) / sqrt(variance + eps) + bias` for each channel (Ioffe and Szegedy 2015, algorithm 1). The inputs are x
/// (N x C x H x W), weight (C) and bias (C); the output is as x.
///
/// With these three, mean and (biased) variance are those of the N x H x W elements of each channel, and part of the gradient.
/// With two more, a mean (C) and a variance (C), such as the running ones in evaluation, those are constants and have no
/// gradient. Statistics are summed in f64.
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

/// The quantity that a running statistic follows.
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
    /// Moves the running value of each channel toward the batch's, which is taken away: `running = (1 - momentum) running +
    /// momentum batch`, as PyTorch does. Nothing moves if no forward pass has left a statistic since the last time.
    pub fn follow<T: Element>(&self, statistic: Statistic, running: &mut [T], momentum: f64) {
        let batch = lock(&self.0)[statistic as usize].take();
        for (value, batch) in running.iter_mut().zip(batch.into_iter().flatten()) {
            let before = value.to_f64();
            *value = T::from_f64(before + momentum * (batch - before));
        }
    }

    fn set(&self, moments: &[Moments]) {
        let of = |value: fn(&Moments) -> f64| Some(moments.iter().map(value).collect());
        let both = [of(|moments| moments.mean), of(Moments::unbiased_variance)];
        *lock(&self.0) = both;
    }
}

/// The moments of each channel of a micro-batch (N x C x H x W), image after image.
///
/// # Panics
/// If there are not four axes.
#[must_use]
pub fn partial_moments<T: Element>(x: &Tensor<T>) -> Vec<Moments> {
    let mut all = vec![Moments::default(); x.shape()[1]];
    for (channel, plane) in planes(x.shape()) {
        all[channel] = all[channel].merge(Moments::of(&x.data()[plane]));
    }
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

    const NAME: &'static str = "batch_norm2d";

    fn describe(&self, inputs: &[Shape]) -> String {
        format!("BatchNorm2d({})", inputs.get(1).map_or(0, Shape::elements))
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let found = inputs.len();
        ensure!(
            "batch_norm2d",
            [3, 5].contains(&found),
            "expects x, weight, bias and maybe mean and variance, found {found} inputs"
        );
        let [n, c, h, w] = inputs[0].nchw("batch_norm2d")?;
        not_negative("batch_norm2d", "eps", self.eps)?;
        for (name, &vector) in ["weight", "bias", "mean", "variance"].into_iter().zip(&inputs[1..]) {
            is_vector("batch_norm2d", name, vector, ("C", c))?;
        }
        let defined = !self.meets(found) || n * h * w >= 2;
        ensure!(
            "batch_norm2d",
            defined,
            "the variance of fewer than 2 elements: N = {n}, H = {h}, W = {w} (drop_last leaves out a last batch of one)"
        );
        Ok(inputs[0])
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        let moments = self.meets(inputs.len()).then(|| partial_moments(&inputs[0]));
        self.forward_of_batch(context, inputs, moments.as_deref())
    }

    fn backward(&self, context: &Context, saved: Saved<T>, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        let own = saved.partial_sums(&dy);
        self.backward_of_batch(context, saved, dy, [&own, &own], sinks);
    }
}

impl<T: Element> Saved<T> {
    /// The sums of each channel of this micro-batch: dy is N x C x H x W.
    ///
    /// # Panics
    /// If dy has another shape than x.
    #[must_use]
    pub fn partial_sums(&self, dy: &Tensor<T>) -> Vec<ChannelSums> {
        let Self { x, normalizers, .. } = self;
        assert_eq!(x.shape(), dy.shape(), "shapes of x and dy");
        let mut all = vec![ChannelSums::default(); normalizers.len()];
        for (channel, plane) in planes(x.shape()) {
            let own = normalizers[channel].sums(&x.data()[plane.clone()], &dy.data()[plane]);
            all[channel] = all[channel].merge(own);
        }
        all
    }
}

impl BatchNorm2d {
    /// Tells whether the op with so many inputs computes mean and variance itself, so that micro-batches meet at it.
    #[must_use]
    pub fn meets(&self, inputs: usize) -> bool {
        inputs == 3
    }

    /// [`Op::forward`] of a micro-batch, given the moments of each channel of its whole batch; `None` where mean and variance are
    /// inputs.
    ///
    /// # Panics
    /// If there are not moments for each channel.
    pub fn forward_of_batch<T: Element>(
        &self,
        context: &Context,
        inputs: Vec<Tensor<T>>,
        moments: Option<&[Moments]>,
    ) -> (Tensor<T>, Saved<T>) {
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().expect("batch_norm2d has x, weight and bias");
        let (x, weight, bias) = (next(), next(), next());
        let normalizer = |mean, variance| Normalizer::new(mean, variance, self.eps);
        let normalizers: Vec<_> = if let Some(moments) = moments {
            if let Some(place) = &self.statistics {
                place.set(moments);
            }
            moments.iter().map(|moments| normalizer(moments.mean, moments.variance())).collect()
        } else {
            let (mean, variance) = (next(), next());
            let each = mean.data().iter().zip(variance.data());
            each.map(|(mean, variance)| normalizer(mean.to_f64(), variance.to_f64())).collect()
        };
        assert_eq!([normalizers.len(), weight.len(), bias.len()], [x.shape()[1]; 3], "channels");
        let mut y = Tensor::empty_in(context.pool(), x.shape());
        let (from, to) = (x.data(), y.data_mut());
        for (channel, plane) in planes(x.shape()) {
            let [weight, bias] = [&weight, &bias].map(|vector| vector.data()[channel]);
            normalizers[channel].apply(weight, bias, &from[plane.clone()], &mut to[plane]);
        }
        let count = moments.map(|moments| moments.first().map_or(0.0, |moments| moments.count));
        (y, Saved { x, weight, normalizers, count })
    }

    /// [`Op::backward`] of a micro-batch, given the sums of each channel of itself and of its whole batch:
    /// `dx = weight factor (dy - (sum of dy + xhat sum of dy xhat) / count)`, with the factor that normalizes, or
    /// `dx = weight factor dy` where mean and variance are inputs.
    ///
    /// # Panics
    /// If the gradient has another shape than x, or there are not sums for each channel.
    pub fn backward_of_batch<T: Element>(
        &self,
        context: &Context,
        saved: Saved<T>,
        mut dy: Tensor<T>,
        [own, of_batch]: [&[ChannelSums]; 2],
        sinks: &mut Sinks<'_, T>,
    ) {
        let Saved { x, weight, normalizers, count } = saved;
        assert_eq!(x.shape(), dy.shape(), "shapes of x and dy");
        assert_eq!([own.len(), of_batch.len()], [normalizers.len(); 2], "channels");
        ChannelSums::add_to(own, context, sinks);
        sinks.add(0, || {
            let to = dy.data_mut();
            for (channel, plane) in planes(x.shape()) {
                let Normalizer { mean, factor } = normalizers[channel];
                let scale = weight.data()[channel].to_f64() * factor;
                let (x, to) = (&x.data()[plane.clone()], &mut to[plane]);
                if let Some(count) = count {
                    let ChannelSums { dy, dy_xhat } = of_batch[channel];
                    let slope = -scale * factor * dy_xhat / count;
                    affine_gradient(scale, slope, -scale * dy / count - slope * mean, x, to);
                } else {
                    let scale = T::from_f64(scale);
                    to.iter_mut().for_each(|dy| *dy *= scale);
                }
            }
            dy
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GradientSum;
    use crate::testing::{check_gradients, check_some_gradients, poisoned, random, refusal};

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
        let (ys, saved): (Vec<_>, Vec<_>) = xs
            .into_iter()
            .map(|x| op.forward_of_batch(&context, vec![x, w.clone(), b.clone()], Some(&moments)))
            .unzip();
        let own: Vec<_> = saved.iter().zip(&dys).map(|(saved, dy)| saved.partial_sums(dy)).collect();
        let of_batch = combine(own.iter().map(Vec::as_slice), ChannelSums::merge);
        let near = |found: &Tensor<f64>, expected: &Tensor<f64>| {
            assert_eq!(found.shape(), expected.shape());
            let pairs = || found.data().iter().zip(expected.data());
            assert!(pairs().all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}, {expected:?}");
        };
        let mut sums = [GradientSum::new(), GradientSum::new(), GradientSum::new()];
        let parts = ys.iter().zip(saved).zip(dys.into_iter().zip(&own));
        let expected = part(&y).into_iter().zip(part(gradients[0].as_ref().unwrap()));
        for (((y, saved), (dy, own)), (whole_y, whole_dx)) in parts.zip(expected) {
            near(y, &whole_y);
            let mut sinks = Sinks::new(&mut sums, &[Some(0), Some(1), Some(2)]);
            op.backward_of_batch(&context, saved, dy, [own, &of_batch], &mut sinks);
            near(&std::mem::take(&mut sums[0]).finish(context.pool()).unwrap(), &whole_dx);
        }
        for (sum, expected) in sums.into_iter().zip(&gradients).skip(1) {
            near(&sum.finish(context.pool()).unwrap(), expected.as_ref().unwrap());
        }
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
        for (inputs, expected) in [
            (
                &[&[2, 3, 4, 4][..], &[3]][..],
                "expects x, weight, bias and maybe mean and variance, found 2 inputs",
            ),
            (&[&[2, 3, 4, 4], &[3], &[4]], "bias expects C = 3, found 4"),
            (&[&[2, 3, 4, 4], &[3], &[3], &[3], &[1]], "variance expects C = 3, found 1"),
            (
                &[&[1, 3, 1, 1], &[3], &[3]],
                "the variance of fewer than 2 elements: N = 1, H = 1, W = 1 (drop_last leaves out a last batch of one)",
            ),
        ] {
            assert_eq!(refusal(&BatchNorm2d::default(), inputs), format!("batch_norm2d: {expected}"));
        }
    }
}
