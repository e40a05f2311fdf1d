//! Two-dimensional convolution, with its bias and, if wanted, the ReLU that follows it.

use crate::context::Context;
use crate::conv::{self, ConvGeometry};
use crate::element::Element;
use crate::op::Op;
use crate::shape::{Shape, ShapeError};
use crate::tensor::Tensor;

/// `y = w * x + b`, optionally followed by ReLU: the inputs are x (N x C x H x W), w (O x C/groups x KH x KW) and, if there
/// are three, b (O). The output is N x O x OH x OW with OH = floor((H + 2 padding - dilation (KH - 1) - 1) / stride) + 1.
///
/// Pairs are (vertical, horizontal). Cross-correlation, as in every deep-learning library (d2l book, section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conv2d {
    /// The step of the window over the input.
    pub stride: [usize; 2],
    /// Zeros added on each side.
    pub padding: [usize; 2],
    /// The step between the window's elements.
    pub dilation: [usize; 2],
    /// Output channels of one group see only that group's input channels.
    pub groups: usize,
    /// Whether ReLU is applied to the output while it is still in registers.
    pub relu: bool,
}

impl Default for Conv2d {
    /// Stride 1, no padding, no dilation, one group, no ReLU.
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1, relu: false }
    }
}

/// What the backward pass of a convolution needs.
#[derive(Debug)]
pub struct Saved<T: Element> {
    geometry: ConvGeometry,
    x: Tensor<T>,
    w: Tensor<T>,
    has_bias: bool,
    /// The output, if ReLU was applied to it.
    rectified: Option<Tensor<T>>,
}

impl Conv2d {
    /// The sizes of this convolution for an input and a weight of these shapes.
    ///
    /// # Errors
    /// As [`ConvGeometry::new`].
    pub fn geometry(&self, input: Shape, weight: Shape) -> Result<ConvGeometry, ShapeError> {
        ConvGeometry::new(input, weight, self.stride, self.padding, self.dilation, self.groups)
    }
}

impl<T: Element> Op<T> for Conv2d {
    type Saved = Saved<T>;

    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let (&[input, weight] | &[input, weight, _]) = inputs else {
            return Err(ShapeError::new(
                "conv2d",
                format!("expects x, w and maybe b, found {} inputs", inputs.len()),
            ));
        };
        let geometry = self.geometry(input, weight)?;
        if let Some(bias) = inputs.get(2)
            && **bias != [geometry.c_out]
        {
            return Err(ShapeError::new(
                "conv2d",
                format!("bias expects O = {}, found {bias}", geometry.c_out),
            ));
        }
        Ok(geometry.output_shape())
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        let mut inputs = inputs.into_iter();
        let (x, w, bias) = (inputs.next(), inputs.next(), inputs.next());
        let (x, w) = (x.expect("conv2d has an input"), w.expect("conv2d has a weight"));
        let geometry = self.geometry(x.shape(), w.shape()).expect("the shapes were checked");
        let mut y = Tensor::uninit_in(context.pool(), geometry.output_shape());
        let has_bias = bias.is_some();
        conv::forward(context, &geometry, &x, &w, bias.as_ref(), self.relu, &mut y);
        let rectified = self.relu.then(|| y.clone());
        (y, Saved { geometry, x, w, has_bias, rectified })
    }

    fn backward(
        &self,
        context: &Context,
        saved: Saved<T>,
        grad_output: Tensor<T>,
        wanted: &[bool],
    ) -> Vec<Option<Tensor<T>>> {
        let Saved { geometry, x, w, has_bias, rectified } = saved;
        let wanted = conv::Wanted { input: wanted[0], weight: wanted[1], bias: has_bias && wanted[2] };
        let gradients = conv::backward(context, &geometry, &x, &w, grad_output, rectified.as_ref(), wanted);
        if has_bias {
            vec![gradients.input, gradients.weight, gradients.bias]
        } else {
            vec![gradients.input, gradients.weight]
        }
    }
}
