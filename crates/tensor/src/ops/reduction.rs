//! Sums and means over axes.

use super::broadcast::{expand, reduce};
use super::checks::has_axis;
use crate::{Context, Element, Shape, ShapeError, Tensor, UnaryOp, ensure};

/// The sum over some axes, or over all of them to a scalar; or its quotient by the number of elements summed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reduce<const MEAN: bool> {
    /// The axes summed over, each at most once; all axes if not given.
    pub axes: Option<Vec<usize>>,
    /// Keeps the axes, with extent 1.
    pub keepdim: bool,
}

/// The sum over some axes, or over all of them to a scalar.
pub type Sum = Reduce<false>;

/// The mean over some axes, or over all of them to a scalar.
pub type Mean = Reduce<true>;

impl<const MEAN: bool> Reduce<MEAN> {
    /// The input's shape with the axes reduced to 1, and the output's.
    fn shapes(&self, input: Shape) -> Result<[Shape; 2], ShapeError> {
        let axes = self.axes.as_deref().unwrap_or_default();
        for (position, axis) in axes.iter().enumerate() {
            has_axis(Self::NAME, input, *axis)?;
            ensure!(Self::NAME, !axes[..position].contains(axis), "axis {axis} is named twice");
        }
        let reduced = |axis: &usize| self.axes.as_ref().is_none_or(|axes| axes.contains(axis));
        let kept = |axis| if reduced(&axis) { 1 } else { input[axis] };
        let all: Vec<usize> = (0..input.len()).map(kept).collect();
        let output: Vec<usize> =
            (0..input.len()).filter(|axis| self.keepdim || !reduced(axis)).map(kept).collect();
        Ok([Shape::new(&all), Shape::new(&output)])
    }

    /// Makes means of sums over elements of a tensor of this shape, if means are asked for.
    fn divide<T: Element>(sums: &mut Tensor<T>, input: Shape) {
        if MEAN {
            let count = T::from_usize(input.elements() / sums.len().max(1));
            sums.data_mut().iter_mut().for_each(|sum| *sum = *sum / count);
        }
    }
}

impl<const MEAN: bool> UnaryOp for Reduce<MEAN> {
    /// The input's shape.
    type Saved<T: Element> = Shape;

    const NAME: &'static str = if MEAN { "mean" } else { "sum" };

    fn looks_across(&self, input: Shape) -> bool {
        !input.is_empty() && self.axes.as_ref().is_none_or(|axes| axes.contains(&0))
    }

    fn shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        let [_, output] = self.shapes(input)?;
        let undefined = MEAN && input.elements() == 0 && output.elements() > 0;
        ensure!(Self::NAME, !undefined, "the mean of no elements, input is {input}");
        Ok(output)
    }

    fn compute<T: Element>(&self, context: &Context, x: Tensor<T>) -> (Tensor<T>, Shape) {
        let input = x.shape();
        let [kept, output] = self.shapes(input).expect("the shapes were checked");
        let sums = reduce(context.pool(), x, kept).reshape(output);
        let mut sums = sums.expect("only axes of extent 1 differ");
        Self::divide(&mut sums, input);
        (sums, input)
    }

    /// Each element of the input gets the gradient of the sum it went into.
    fn gradient<T: Element>(&self, context: &Context, input: Shape, mut dy: Tensor<T>) -> Tensor<T> {
        Self::divide(&mut dy, input);
        let [kept, _] = self.shapes(input).expect("the shapes were checked");
        let dy = dy.reshape(kept).expect("only axes of extent 1 differ");
        if kept == input { dy } else { expand(context.pool(), &dy, input) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random, refusal};

    #[test]
    fn no_axis_is_the_identity_and_a_shared_input_is_not_changed() {
        let x = Tensor::from_fn([2, 3], |i| i as f64);
        let sum = |axes, keepdim| Sum { axes, keepdim }.compute(&poisoned(), x.clone()).0;
        assert_eq!(sum(Some(vec![]), false), x);
        assert_eq!(sum(None, false), Tensor::scalar(15.0));
        assert_eq!(sum(None, true), Tensor::full([1, 1], 15.0));
        assert_eq!(x.data(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn errors_name_axes() {
        let error = |axes: &[usize]| refusal(&Sum { axes: Some(axes.to_vec()), keepdim: false }, &[&[2, 3]]);
        assert_eq!(error(&[2]), "sum: axis 2 is not one of the 2 axes of 2 x 3");
        assert_eq!(error(&[1, 1]), "sum: axis 1 is named twice");
        let error = refusal(&Mean::default(), &[&[0, 3]]);
        assert_eq!(error, "mean: the mean of no elements, input is 0 x 3");
    }

    #[test]
    fn gradients() {
        for axes in [None, Some(vec![0]), Some(vec![1, 3]), Some(vec![3, 2, 1]), Some(vec![])] {
            for keepdim in [false, true] {
                let x = [random([2, 3, 2, 4], 1)];
                check_gradients(&Sum { axes: axes.clone(), keepdim }, &x);
                check_gradients(&Mean { axes: axes.clone(), keepdim }, &x);
            }
        }
    }
}
