//! Two-dimensional convolution, with its bias and, if wanted, the ReLU that follows it.

use super::checks::is_vector;
use super::pool_window::pair;
use crate::conv::{self, ConvGeometry, Convolution};
use crate::{Context, Element, Op, Shape, ShapeError, Sinks, Tensor, ensure};

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
    /// Applies ReLU to the output while it is still in registers.
    pub relu: bool,
}

impl Default for Conv2d {
    /// Stride 1, no padding, no dilation, one group, no ReLU.
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1, relu: false }
    }
}

/// Tensors that the backward pass of convolutions one after the other needs.
#[derive(Debug)]
pub struct Saved<T: Element> {
    x: Tensor<T>,
    /// w and, if it has one, b of each layer. Only one layer alone may be without.
    parameters: Vec<Tensor<T>>,
    /// Of all layers; of the last only if it has a ReLU.
    outputs: Vec<Tensor<T>>,
}

/// The layers with their sizes and parameters.
fn layers<'a, T: Element>(
    ops: &[Conv2d],
    context: &Context,
    mut input: Shape,
    parameters: &'a [Tensor<T>],
) -> Vec<Convolution<'a, T>> {
    let layer = |(op, own): (&Conv2d, &'a [Tensor<T>])| {
        let geometry = op.geometry(input, own[0].shape()).expect("the shapes were checked");
        input = geometry.output_shape();
        let algorithm = conv::choose::<T>(&geometry, context.conv);
        Convolution { geometry, algorithm, weight: &own[0], bias: own.get(1), relu: op.relu }
    };
    ops.iter().zip(parameters.chunks(2)).map(layer).collect()
}

/// [`Op::forward`] of convolutions one after the other.
pub(super) fn forward<T: Element>(
    ops: &[Conv2d],
    context: &Context,
    mut inputs: Vec<Tensor<T>>,
) -> (Tensor<T>, Saved<T>) {
    let x = inputs.remove(0);
    let layers = layers(ops, context, x.shape(), &inputs);
    let mut outputs = conv::forward(context, &layers, &x, context.grad_enabled);
    let y = outputs.last().expect("there is a layer").clone();
    if layers.last().is_some_and(|layer| !layer.relu) {
        outputs.pop();
    }
    (y, Saved { x, parameters: inputs, outputs })
}

/// [`Op::backward`] of convolutions one after the other.
pub(super) fn backward<T: Element>(
    ops: &[Conv2d],
    context: &Context,
    saved: Saved<T>,
    dy: Tensor<T>,
    sinks: &mut Sinks<'_, T>,
) {
    let Saved { x, parameters, outputs } = saved;
    let (layers, wanted) = (layers(ops, context, x.shape(), &parameters), sinks.wanted(0));
    let dx = conv::backward(context, &layers, &x, outputs, dy, wanted, &mut sinks.tail(1));
    if let Some(dx) = dx {
        sinks.add(0, || dx);
    }
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

    const NAME: &'static str = "conv2d";

    fn describe(&self, inputs: &[Shape]) -> String {
        let Some(&[c_out, c_in, height, width]) = inputs.get(1).map(|weight| &**weight) else {
            return "Conv2d".to_owned();
        };
        let mut text = format!("Conv2d({}, {c_out}, {height}x{width}", c_in.saturating_mul(self.groups));
        let pairs =
            [("stride", self.stride, 1), ("padding", self.padding, 0), ("dilation", self.dilation, 1)];
        for (name, value, usual) in pairs {
            if value != [usual; 2] {
                text += &format!(", {name} {}", pair(value));
            }
        }
        if self.groups > 1 {
            text += &format!(", groups {}", self.groups);
        }
        text + if self.relu { ") + ReLU" } else { ")" }
    }

    fn flops(&self, inputs: &[Shape]) -> u64 {
        self.geometry(inputs[0], inputs[1]).map_or(0, |geometry| geometry.flops())
    }

    fn output_shape(&self, inputs: &[Shape]) -> Result<Shape, ShapeError> {
        let found = inputs.len();
        ensure!("conv2d", [2, 3].contains(&found), "expects x, w and maybe b, found {found} inputs");
        let geometry = self.geometry(inputs[0], inputs[1])?;
        if let Some(&bias) = inputs.get(2) {
            is_vector("conv2d", "bias", bias, ("O", geometry.c_out))?;
        }
        Ok(geometry.output_shape())
    }

    fn forward(&self, context: &Context, inputs: Vec<Tensor<T>>) -> (Tensor<T>, Saved<T>) {
        forward(std::slice::from_ref(self), context, inputs)
    }

    fn backward(&self, context: &Context, saved: Saved<T>, dy: Tensor<T>, sinks: &mut Sinks<'_, T>) {
        backward(std::slice::from_ref(self), context, saved, dy, sinks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{check_gradients, check_some_gradients, random, refusal};

    #[test]
    fn gradients() {
        let base = Conv2d::default();
        for (op, x, w) in [
            (base, [2, 3, 4, 5], [4, 3, 1, 1]),
            (base, [1, 2, 5, 4], [3, 2, 3, 2]),
            (Conv2d { stride: [3, 3], ..base }, [2, 1, 11, 8], [2, 1, 5, 5]),
            (Conv2d { padding: [2, 1], stride: [1, 2], ..base }, [1, 2, 5, 6], [2, 2, 5, 3]),
            (Conv2d { dilation: [2, 3], padding: [1, 3], ..base }, [1, 1, 6, 7], [2, 1, 3, 3]),
            (Conv2d { groups: 2, padding: [1, 1], ..base }, [2, 4, 4, 4], [6, 2, 3, 3]),
        ] {
            let (x, w, b) = (random(x, 1), random(w, 2), random([w[0]], 3));
            check_gradients(&op, &[x.clone(), w.clone()]);
            check_gradients(&op, &[x.clone(), w.clone(), b.clone()]);
            // The first layer's: the input's gradient is never computed.
            check_some_gradients(&op, &[x, w, b], &[false, true, true]);
        }
    }

    #[test]
    fn errors_name_sizes() {
        let error = |inputs: &[&[usize]]| refusal(&Conv2d::default(), inputs);
        let (x, w) = (&[1, 2, 5, 5][..], &[3, 2, 3, 3][..]);
        assert_eq!(error(&[x, w, &[4]]), "conv2d: bias expects O = 3, found 4");
        assert_eq!(error(&[x]), "conv2d: expects x, w and maybe b, found 1 inputs");
        assert_eq!(error(&[x, &[3, 2]]), "conv2d: weight expects O x C x KH x KW, found 3 x 2");
        // Errors name the op with its settings, whatever they are.
        let grouped = Conv2d { groups: usize::MAX, ..Conv2d::default() };
        let description = Op::<f32>::describe(&grouped, &[Shape::new(x), Shape::new(w)]);
        assert_eq!(description, format!("Conv2d({0}, 3, 3x3, groups {0})", usize::MAX));
    }
}
