//! Sums over many elements that normalizations are made of: in f64, in an order that depends on the lengths alone.

use std::ops::Range;

use crate::simd::{Isa, compiled};
use crate::{Context, Element, Shape, Sinks, Tensor};

/// Parts of a sum, which are summed side by side.
const PARTS: usize = 16;

/// The number of elements, their mean, and the sum of the squares of their differences from it.
///
/// Moments of parts make those of the whole ([`Moments::merge`]), without the cancellation of sums of squares (Chan, Golub and
/// LeVeque 1983, equation 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Moments {
    /// The number of elements.
    pub count: f64,
    /// Their mean; 0 of none.
    pub mean: f64,
    /// The sum of the squares of the differences from the mean.
    pub squares: f64,
}

impl Moments {
    /// The moments of some elements, in one pass: sums of their differences from the first and of the squares of these. As the
    /// first is one of them, the squares are at most as many times what is left of them as there are elements, so that little
    /// cancels.
    #[must_use]
    pub fn of<T: Element>(values: &[T]) -> Self {
        let Some(&first) = values.first() else { return Self::default() };
        let (count, first_wide) = (values.len() as f64, first.to_f64());
        let [sum, squares] = sums(values, values, first, first_wide);
        Self { count, mean: first_wide + sum / count, squares: squares - sum * (sum / count) }
    }

    /// The moments of the elements of both. Not the same bits in another order.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        if self.count == 0.0 || other.count == 0.0 {
            return if self.count == 0.0 { other } else { self };
        }
        let (count, difference) = (self.count + other.count, other.mean - self.mean);
        Self {
            count,
            mean: self.mean + difference * (other.count / count),
            squares: self.squares
                + other.squares
                + difference * difference * (self.count * (other.count / count)),
        }
    }

    /// The mean of the squared differences: the variance that normalizes.
    #[must_use]
    pub fn variance(&self) -> f64 {
        self.squares / self.count
    }

    /// The variance of which these are a sample: with one less in the divisor. Infinite or NaN for fewer than two elements.
    #[must_use]
    pub fn unbiased_variance(&self) -> f64 {
        self.squares / (self.count - 1.0)
    }
}

/// The channel and the place of a plane of an N x C x H x W tensor.
type Plane = (usize, Range<usize>);

/// The planes of an N x C x H x W tensor, image after image: those of each of so many groups of an image's channels.
pub(super) fn groups(
    shape: Shape,
    groups: usize,
) -> impl Iterator<Item = impl Iterator<Item = Plane> + Clone> {
    let [n, c, h, w] = shape.nchw("a normalization").unwrap_or_else(|error| panic!("{error}"));
    let (channels, pixels) = (c / groups, h * w);
    let plane = move |plane: usize| (plane % c, plane * pixels..(plane + 1) * pixels);
    (0..n * groups).map(move |group| (group * channels..(group + 1) * channels).map(plane))
}

/// All planes of an N x C x H x W tensor, image after image.
pub(super) fn planes(shape: Shape) -> impl Iterator<Item = Plane> {
    groups(shape, 1).flatten()
}

/// The sum of `a - a_shift` and of `(a - a_shift) (b - b_shift)`.
///
/// # Panics
/// If the slices differ in length.
pub(super) fn sums<T: Element>(a: &[T], b: &[T], a_shift: T, b_shift: f64) -> [f64; 2] {
    assert_eq!(a.len(), b.len(), "elements of both");
    sums_on(Isa::current(), a, b, a_shift, b_shift)
}

fn sums_on<T: Element>(isa: Isa, a: &[T], b: &[T], a_shift: T, b_shift: f64) -> [f64; 2] {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<PARTS>(), b.as_chunks::<PARTS>());
    // Elements behind the last count as none: their differences are 0.
    let [mut a_last, mut b_last] = [[a_shift; PARTS], [T::ZERO; PARTS]];
    a_last[..a_rest.len()].copy_from_slice(a_rest);
    b_last[..b_rest.len()].copy_from_slice(b_rest);
    let (mut sums, a_shift) = ([[0.0; PARTS]; 2], a_shift.to_f64());
    let answer = &mut sums;
    compiled!(isa, {
        let [mut sum, mut products] = [[0.0; PARTS]; 2];
        for (a, b) in a.iter().zip(b) {
            add_products(a, b, [a_shift, b_shift], &mut sum, &mut products);
        }
        if !a_rest.is_empty() {
            add_products(&a_last, &b_last, [a_shift, b_shift], &mut sum, &mut products);
        }
        *answer = [sum, products];
    });
    // Added up out here: where the compiler sees one sum being made of the parts, it does not make them vectors.
    sums.map(|parts| {
        let (fours, _) = parts.as_chunks::<4>();
        fours.iter().map(|[a, b, c, d]| (a + b) + (c + d)).sum()
    })
}

#[inline(always)]
fn add_products<T: Element>(
    a: &[T; PARTS],
    b: &[T; PARTS],
    [a_shift, b_shift]: [f64; 2],
    sum: &mut [f64; PARTS],
    products: &mut [f64; PARTS],
) {
    for part in 0..PARTS {
        let a = a[part].to_f64() - a_shift;
        sum[part] += a;
        products[part] += a * (b[part].to_f64() - b_shift);
    }
}

/// The mean and the factor that normalize a channel or a group of channels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Normalizer {
    pub(super) mean: f64,
    /// `1 / sqrt(variance + eps)`.
    pub(super) factor: f64,
}

impl Normalizer {
    pub(super) fn new(mean: f64, variance: f64, eps: f64) -> Self {
        Self { mean, factor: 1.0 / (variance + eps).sqrt() }
    }

    /// `y = weight (x - mean) factor + bias` of a plane.
    pub(super) fn apply<T: Element>(self, weight: T, bias: T, x: &[T], y: &mut [T]) {
        let scale = weight.to_f64() * self.factor;
        let [scale, shift] = [scale, bias.to_f64() - self.mean * scale].map(T::from_f64);
        compiled!(Isa::current(), {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = scale * x + shift;
            }
        });
    }

    /// The sums over a plane, on the way back.
    pub(super) fn sums<T: Element>(self, x: &[T], dy: &[T]) -> ChannelSums {
        let [dy, product] = sums(dy, x, T::ZERO, self.mean);
        ChannelSums { dy, dy_xhat: product * self.factor }
    }
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

    /// Adds the gradients of weight and bias, inputs 1 and 2 of a normalization, from the sums of all channels.
    pub(super) fn add_to<T: Element>(channels: &[Self], context: &Context, sinks: &mut Sinks<'_, T>) {
        for (input, of) in [(1, (|sums| sums.dy_xhat) as fn(&Self) -> f64), (2, |sums| sums.dy)] {
            sinks.add(input, || {
                let mut vector = Tensor::empty_in(context.pool(), [channels.len()]);
                for (to, sums) in vector.data_mut().iter_mut().zip(channels) {
                    *to = T::from_f64(of(sums));
                }
                vector
            });
        }
    }
}

/// `dy = scale dy + slope x + shift`, element by element, in place: every normalization's input gradient.
pub(super) fn affine_gradient<T: Element>(scale: f64, slope: f64, shift: f64, x: &[T], dy: &mut [T]) {
    let [scale, slope, shift] = [scale, slope, shift].map(T::from_f64);
    compiled!(Isa::current(), {
        for (dy, &x) in dy.iter_mut().zip(x) {
            *dy = scale * *dy + (slope * x + shift);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_whole() {
        let values: Vec<f32> = (0..1000u16).map(|i| 1e4 + f32::from(i * 37 % 101) / 64.0).collect();
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1000.0;
        let squares: f64 = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum();
        let near = |found: Moments| {
            assert_eq!(found.count, 1000.0);
            assert!((found.mean / mean - 1.0).abs() < 1e-15, "mean {} of {mean}", found.mean);
            assert!((found.squares / squares - 1.0).abs() < 1e-11, "squares {} of {squares}", found.squares);
        };
        near(Moments::of(&values));
        for cut in [1, 7, 500, 999] {
            near(Moments::of(&values[..cut]).merge(Moments::of(&values[cut..])));
        }
        assert_eq!(Moments::of::<f32>(&[]).merge(Moments::of(&values)), Moments::of(&values));
        assert_eq!(Moments::of(&values).merge(Moments::default()), Moments::of(&values));
        let two = Moments::of(&[1.0f64, 3.0]);
        assert_eq!((two.variance(), two.unbiased_variance()), (1.0, 2.0));
        assert_eq!(Moments::of(&[1e9f64 + 0.1; 37]).squares, 0.0);
        // The first far from all others: n - 1 times what is left of them.
        let mut far = [0.25f64; 1000];
        far[0] = 1e12;
        let squares = (1e12 - 0.25f64).powi(2) * (999.0 / 1000.0);
        assert!((Moments::of(&far).squares / squares - 1.0).abs() < 1e-11);
    }

    #[test]
    fn every_instruction_set_has_the_same_bits() {
        for len in [0usize, 1, 7, 8, 9, 1003] {
            let a: Vec<f32> = (0..len).map(|i| (i * 29 % 31) as f32 / 7.0).collect();
            let b: Vec<f32> = (0..len).map(|i| (i * 17 % 23) as f32 / 3.0).collect();
            let expected: f64 =
                a.iter().zip(&b).map(|(&a, &b)| (f64::from(a) - 0.5) * (f64::from(b) - 2.0)).sum();
            for isa in Isa::available() {
                let answer = sums_on(isa, &a, &b, 0.5, 2.0);
                assert_eq!(answer, sums(&a, &b, 0.5, 2.0), "{isa}");
                assert!(
                    (answer[1] - expected).abs() <= 1e-12 * expected.abs(),
                    "{isa}: {answer:?}, {expected}"
                );
            }
            let (mut y, mut dy) = (vec![f32::NAN; len], b.clone());
            Normalizer { mean: -0.25, factor: 4.0 }.apply(0.5, 0.5, &a, &mut y);
            affine_gradient(2.0, 0.5, 1.0, &a, &mut dy);
            for (((a, b), y), dy) in a.iter().zip(&b).zip(&y).zip(&dy) {
                assert_eq!((*y, *dy), (2.0 * a + 1.0, 2.0 * b + (0.5 * a + 1.0)));
            }
        }
    }
}
