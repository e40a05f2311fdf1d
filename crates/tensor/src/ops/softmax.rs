//! Softmax: numbers become probabilities.

use std::iter::StepBy;
use std::ops::Range;

use super::checks::has_axis;
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp};

/// `y_k = e^(x_k) / sum of e^(x_j)` along an axis. The largest x is subtracted first, so that no exponential overflows.
///
/// Before a cross-entropy, use [`SoftmaxCrossEntropy`](super::SoftmaxCrossEntropy) on the logits instead.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Softmax {
    /// The axis along which the outputs sum to 1; the last if not given.
    pub axis: Option<usize>,
}

impl Softmax {
    fn axis(&self, shape: Shape) -> usize {
        self.axis.unwrap_or(shape.len().saturating_sub(1))
    }

    /// The indices of the elements that add up to 1, group by group.
    fn groups(&self, shape: Shape) -> impl Iterator<Item = StepBy<Range<usize>>> + use<> {
        let axis = self.axis(shape);
        let [before, after] = [&shape[..axis], &shape[axis + 1..]].map(|axes| axes.iter().product());
        let block = shape[axis] * after;
        (0..before * after).map(move |group: usize| {
            let start = group / after * block + group % after;
            (start..start + block).step_by(after)
        })
    }
}

/// Writes the softmax of the logits at `indices`. Returns their maximum, and the sum of e^(x - maximum).
pub(super) fn normalize<T: Element>(
    x: &[T],
    y: &mut [T],
    indices: impl Iterator<Item = usize> + Clone,
) -> (T, T) {
    let lowest = T::from_f64(f64::NEG_INFINITY);
    let largest = indices.clone().fold(lowest, |largest, i| if x[i] > largest { x[i] } else { largest });
    let mut sum = T::ZERO;
    for i in indices.clone() {
        y[i] = (x[i] - largest).exp();
        sum += y[i];
    }
    for i in indices {
        y[i] = y[i] / sum;
    }
    (largest, sum)
}

impl UnaryOp for Softmax {
    /// The output.
    type Saved<T: Element> = Tensor<T>;

    const NAME: &'static str = "softmax";

    fn looks_across(&self, input: Shape) -> bool {
        self.axis(input) == 0
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        has_axis(Self::NAME, input, self.axis(input))?;
        Ok(input)
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Tensor<T>) {
        let mut y = Tensor::empty_in(context.pool(), x.shape());
        for indices in self.groups(x.shape()) {
            normalize(x.data(), y.data_mut(), indices);
        }
        (y.clone(), y)
    }

    fn gradient<T: Element>(&self, _: &Context, y: Tensor<T>, mut dy: Tensor<T>) -> Tensor<T> {
        // dx = y (dy - sum of y dy).
        let (gradient, groups) = (dy.data_mut(), self.groups(y.shape()));
        let y = y.data();
        for indices in groups {
            let mean: T = indices.clone().map(|i| y[i] * gradient[i]).sum();
            for i in indices {
                gradient[i] = y[i] * (gradient[i] - mean);
            }
        }
        dy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random, refusal};

    #[test]
    fn the_last_axis_unless_another_is_asked_for() {
        let y = |axis| Softmax { axis }.compute(&poisoned(), random([2, 3], 1)).0;
        assert_eq!(y(None), y(Some(1)));
    }

    #[test]
    fn errors_name_axes() {
        let error = "softmax: axis 2 is not one of the 2 axes of 2 x 3";
        assert_eq!(refusal(&Softmax { axis: Some(2) }, &[&[2, 3]]), error);
        assert!(refusal(&Softmax::default(), &[&[]]).starts_with("softmax: "));
    }

    #[test]
    fn gradients() {
        for axis in [None, Some(0), Some(1), Some(2)] {
            check_gradients(&Softmax { axis }, &[random([2, 3, 2, 4], 1)]);
        }
    }
}
