//! The pooling layers, without parameters: an op of the `tensor` crate each.

use autograd::Var;
use tensor::{Element, Op, Shape, ShapeError, ops};

use super::layers::Output;
use super::module::Module;

/// The largest value under each window. See [`ops::MaxPool2d`].
#[derive(Debug, Clone, Copy)]
pub struct MaxPool2d(pub ops::MaxPool2d);

impl MaxPool2d {
    /// A square window and stride without padding.
    #[must_use]
    pub fn new(kernel: usize, stride: usize) -> Self {
        Self(ops::MaxPool2d::square(kernel, stride))
    }

    /// The same, counting windows that reach over the edge.
    #[must_use]
    pub fn ceil(kernel: usize, stride: usize) -> Self {
        Self(ops::MaxPool2d { ceil_mode: true, ..Self::new(kernel, stride).0 })
    }
}

impl<T: Element> Module<T> for MaxPool2d {
    fn kind(&self) -> String {
        Op::<T>::describe(&self.0, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.max_pool2d(self.0)
    }

    fn takes_relu_before(&self) -> bool {
        true
    }

    fn forward_after_relu<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.max_pool2d(ops::MaxPool2d { relu: true, ..self.0 })
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&self.0, &[input])
    }
}

/// The mean under each window. See [`ops::AvgPool2d`].
#[derive(Debug, Clone, Copy)]
pub struct AvgPool2d(pub ops::AvgPool2d);

impl AvgPool2d {
    /// A square window and stride without padding.
    #[must_use]
    pub fn new(kernel: usize, stride: usize) -> Self {
        Self(ops::AvgPool2d { ceil_mode: false, ..Self::ceil(kernel, stride).0 })
    }

    /// The same, counting windows that reach over the edge.
    #[must_use]
    pub fn ceil(kernel: usize, stride: usize) -> Self {
        Self(ops::AvgPool2d {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [0; 2],
            ceil_mode: true,
            count_include_pad: true,
        })
    }
}

impl<T: Element> Module<T> for AvgPool2d {
    fn kind(&self) -> String {
        Op::<T>::describe(&self.0, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.avg_pool2d(self.0)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&self.0, &[input])
    }
}

/// The mean of each plane, N x C x 1 x 1. See [`ops::AdaptiveAvgPool2d`].
#[derive(Debug, Clone, Copy, Default)]
pub struct GlobalAvgPool2d;

impl<T: Element> Module<T> for GlobalAvgPool2d {
    fn kind(&self) -> String {
        Op::<T>::describe(&ops::AdaptiveAvgPool2d { output: [1, 1] }, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.adaptive_avg_pool2d([1, 1])
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&ops::AdaptiveAvgPool2d { output: [1, 1] }, &[input])
    }
}

/// The mean of the windows that make OH x OW of each plane. See [`ops::AdaptiveAvgPool2d`].
#[derive(Debug, Clone, Copy)]
pub struct AdaptiveAvgPool2d(pub ops::AdaptiveAvgPool2d);

impl<T: Element> Module<T> for AdaptiveAvgPool2d {
    fn kind(&self) -> String {
        Op::<T>::describe(&self.0, &[])
    }

    fn forward<'t>(&self, x: Var<'t, T>) -> Output<'t, T> {
        x.adaptive_avg_pool2d(self.0.output)
    }

    fn output_shape(&self, input: Shape) -> Result<Shape, ShapeError> {
        Op::<T>::output_shape(&self.0, &[input])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pooling_kinds_say_both_extents_where_they_differ() {
        let kind = |pool: ops::MaxPool2d| Module::<f32>::kind(&MaxPool2d(pool));
        let square = ops::MaxPool2d::square(3, 2);
        assert_eq!(kind(square), "MaxPool2d(3/2)");
        assert_eq!(kind(ops::MaxPool2d { kernel: [3, 2], ..square }), "MaxPool2d(3x2/2)");
        let odd = ops::MaxPool2d { stride: [1, 2], padding: [0, 1], ceil_mode: true, ..square };
        assert_eq!(kind(odd), "MaxPool2d(3/1x2, padding 0x1, ceil)");
        let average = ops::AvgPool2d { kernel: [2, 4], padding: [1, 1], ..AvgPool2d::ceil(3, 2).0 };
        assert_eq!(Module::<f32>::kind(&AvgPool2d(average)), "AvgPool2d(2x4/2, padding 1, ceil)");
    }
}
