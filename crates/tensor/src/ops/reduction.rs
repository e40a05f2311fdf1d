//! Sums and means over axes.

use super::broadcast::{expand, reduce};
use crate::context::Context;
use crate::element::Element;
use crate::op::{Op, expect_inputs, only};
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// The sum over some axes, or over all of them to a scalar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sum {
    /// The axes summed over, each at most once; all axes if not given.
    pub axes: Option<Vec<usize>>,
    /// Whether the axes stay, with extent 1.
    pub keepdim: bool,
}

/// The mean over some axes, or over all of them to a scalar.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mean {
    /// The axes averaged over, each at most once; all axes if not given.
    pub axes: Option<Vec<usize>>,
    /// Whether the axes stay, with extent 1.
    pub keepdim: bool,
}

/// The input's shape with the axes reduced to 1, and the output's.
fn shapes(
    op: &'static str,
    input: Shape,
    axes: Option<&[usize]>,
    keepdim: bool,
) -> Result<(Shape, Shape), ShapeError> {
    if let Some(axes) = axes {
        for (position, axis) in axes.iter().enumerate() {
            if *axis >= input.len() {
                let message = format!("axis {axis} is not one of the {} axes of {input}", input.len());
                return Err(ShapeError::new(op, message));
            }
            if axes[..position].contains(axis) {
                return Err(ShapeError::new(op, format!("axis {axis} is named twice")));
            }
        }
    }
    let reduced = |axis: usize| axes.is_none_or(|axes| axes.contains(&axis));
    let mut kept = [1; crate::shape::MAX_AXES];
    let mut output = [1; crate::shape::MAX_AXES];
    let mut output_axes = 0;
    for (axis, &extent) in input.iter().enumerate() {
        if !reduced(axis) {
            kept[axis] = extent;
        }
        if keepdim || !reduced(axis) {
            output[output_axes] = kept[axis];
            output_axes += 1;
        }
    }
    Ok((Shape::new(&kept[..input.len()]), Shape::new(&output[..output_axes])))
}

/// The sum under the output's shape.
fn sum<T: Element>(context: &Context, x: Tensor<T>, (kept, output): (Shape, Shape)) -> Tensor<T> {
    reduce(context.pool(), x, kept).reshape(output).expect("only axes of extent 1 differ")
}

/// The gradient of [`sum`]: each element of the input gets that of the sum it went into.
fn spread<T: Element>(context: &Context, gradient: Tensor<T>, kept: Shape, input: Shape) -> Tensor<T> {
    let gradient = gradient.reshape(kept).expect("only axes of extent 1 differ");
    if kept == input { gradient } else { expand(context.pool(), &gradient, input) }
}

impl<T: Element> Op<T> for Sum {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "sum"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("sum", inputs, 1)?;
        shapes("sum", inputs[0], self.axes.as_deref(), self.keepdim).map(|(_, output)| output)
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let x = only(inputs);
        let input = x.shape();
        let shapes =
            shapes("sum", input, self.axes.as_deref(), self.keepdim).expect("the shapes were checked");
        (sum(context, x, shapes), input)
    }

    fn backward(
        &self,
        context: &Context,
        input: Shape,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        let (kept, _) =
            shapes("sum", input, self.axes.as_deref(), self.keepdim).expect("the shapes were checked");
        vec![wanted[0].then(|| spread(context, grad_output, kept, input))]
    }
}

impl<T: Element> Op<T> for Mean {
    /// The input's shape.
    type Saved = Shape;

    fn name(&self) -> &'static str {
        "mean"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        expect_inputs("mean", inputs, 1)?;
        let (kept, output) = shapes("mean", inputs[0], self.axes.as_deref(), self.keepdim)?;
        if inputs[0].elements() == 0 && kept.elements() > 0 {
            return Err(ShapeError::new("mean", format!("the mean of no elements, input is {}", inputs[0])));
        }
        Ok(output)
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Shape) {
        let x = only(inputs);
        let input = x.shape();
        let shapes =
            shapes("mean", input, self.axes.as_deref(), self.keepdim).expect("the shapes were checked");
        let mut mean = sum(context, x, shapes);
        let count = T::from_usize(input.elements() / mean.len().max(1));
        mean.data_mut().iter_mut().for_each(|mean| *mean = *mean / count);
        (mean, input)
    }

    fn backward(
        &self,
        context: &Context,
        input: Shape,
        mut grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        if !wanted[0] {
            return vec![None];
        }
        let (kept, _) =
            shapes("mean", input, self.axes.as_deref(), self.keepdim).expect("the shapes were checked");
        let count = T::from_usize(input.elements() / grad_output.len().max(1));
        grad_output.data_mut().iter_mut().for_each(|gradient| *gradient = *gradient / count);
        vec![Some(spread(context, grad_output, kept, input))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, poisoned, random};

    #[test]
    fn sums_and_means_by_hand() {
        let x = Tensor::from_fn([2, 3], |i| i as f64);
        let sum =
            |axes: Option<Vec<usize>>, keepdim| Sum { axes, keepdim }.forward(&poisoned(), vec![x.clone()]).0;
        assert_eq!(sum(None, false), Tensor::scalar(15.0));
        assert_eq!(sum(None, true), Tensor::full([1, 1], 15.0));
        assert_eq!(sum(Some(vec![0]), false), Tensor::from_slice([3], &[3.0, 5.0, 7.0]).unwrap());
        assert_eq!(sum(Some(vec![1]), true), Tensor::from_slice([2, 1], &[3.0, 12.0]).unwrap());
        assert_eq!(sum(Some(vec![]), false), x);
        let mean = Mean { axes: Some(vec![1]), keepdim: false }.forward(&poisoned(), vec![x.clone()]).0;
        assert_eq!(mean, Tensor::from_slice([2], &[1.0, 4.0]).unwrap());
        assert_eq!(x.data()[5], 5.0, "a shared input is not changed");
    }

    #[test]
    fn errors_name_axes() {
        let error = |axes: &[usize]| {
            let op = Sum { axes: Some(axes.to_vec()), keepdim: false };
            Op::<f32>::output_shape(&op, &[[2, 3].into()]).unwrap_err().to_string()
        };
        assert_eq!(error(&[2]), "sum: axis 2 is not one of the 2 axes of 2 x 3");
        assert_eq!(error(&[1, 1]), "sum: axis 1 is named twice");
        let error = Op::<f32>::output_shape(&Mean::default(), &[[0, 3].into()]).unwrap_err();
        assert_eq!(error.to_string(), "mean: the mean of no elements, input is 0 x 3");
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
