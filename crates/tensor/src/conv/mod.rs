//! The algorithms of two-dimensional convolution, behind one interface.
//!
//! Each algorithm has the same three passes: the output, the gradient with respect to the input, and the gradient with
//! respect to the weight. [`ConvAlgorithm`] says which may be used and [`choose`] picks one for a geometry.

mod chain;
mod convolve;
mod depthwise;
mod direct;
mod fast;
mod generic;
mod geometry;
pub(crate) mod im2col;
pub(crate) mod naive;
mod padded;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod windows;
mod winograd;

use std::fmt;
use std::str::FromStr;

use convolve::Chain;
pub(crate) use convolve::{Convolution, Convolve};
pub use geometry::ConvGeometry;
pub(crate) use geometry::{addressable, padded, windows_along};
pub use winograd::Tile;

use crate::context::Context;
use crate::element::Element;
use crate::op::UnaryOp;
use crate::ops::elementwise::pull_back;
use crate::ops::{Relu, Sum};
use crate::simd::Isa;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// A convolution algorithm: what a user asks for, and what [`choose`] makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConvAlgorithm {
    /// The fastest for each geometry. Never chosen: a question, not an answer.
    #[default]
    Auto,
    /// The naive loop: the oracle that all others are tested against. Slow.
    Naive,
    /// im2col and a matrix product by the `matrixmultiply` crate: the portable reference. A 1x1 convolution of stride 1 is
    /// multiplied in place, without copying the image.
    Im2col,
    /// Our own matrix product, whose packing reads the windows off the image. `f32` only.
    Direct,
    /// Vectors of outputs, where a channel is a group and there is no matrix to multiply by. Chosen in the place of
    /// [`Self::Direct`], never asked for by name. `f32` only.
    Depthwise,
    /// Winograd's. Asked for without a tile, wherever the geometry allows it, even where it does not pay; chosen with one.
    /// `f32` only.
    Winograd(Option<Tile>),
}

impl ConvAlgorithm {
    /// All that can be asked for by name.
    const ASKED: [Self; 5] = [Self::Auto, Self::Naive, Self::Im2col, Self::Direct, Self::Winograd(None)];
}

/// A name that is no [`ConvAlgorithm`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected auto, naive, im2col, direct or winograd, found {name:?}")]
pub struct UnknownConvAlgorithm {
    /// The name that was asked for.
    pub name: String,
}

impl fmt::Display for ConvAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Naive => "naive",
            Self::Im2col => "im2col",
            Self::Direct => "direct",
            Self::Depthwise => "depthwise",
            Self::Winograd(None) => "winograd",
            Self::Winograd(Some(tile)) => {
                let (m, r) = (tile.outputs(), tile.kernel());
                return write!(f, "F({m}x{m}, {r}x{r})");
            }
        })
    }
}

impl FromStr for ConvAlgorithm {
    type Err = UnknownConvAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownConvAlgorithm> {
        let asked = Self::ASKED.into_iter().find(|algorithm| algorithm.to_string() == name);
        asked.ok_or_else(|| UnknownConvAlgorithm { name: name.to_owned() })
    }
}

/// A pass that uses the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Pass {
    /// The output: inputs to outputs, with the weights as they are.
    Forward,
    /// The gradient with respect to the input: output gradients to input gradients, input and output channels exchanged.
    InputGradient,
}

/// Picks the algorithm for elements of `T`: a pure function of the geometry (but for N) and of what was asked for, so that it
/// is the same for any number of threads and any micro-batch. `f64` has the reference algorithms only.
#[must_use]
pub fn choose<T: Element>(geometry: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
    T::choose(geometry, asked)
}

/// Picks the algorithm of the weight's gradient, where [`choose`] picks that of the other passes: the same, or another tile,
/// since sums are read and written where weights are only read.
#[must_use]
pub fn choose_gradient<T: Element>(geometry: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
    T::choose_gradient(geometry, asked)
}

/// The outputs of convolutions one after the other, from x (N x C x H x W): of all if `keep`, otherwise of the last alone, with
/// the bias and ReLU that each layer has.
///
/// # Panics
/// If a tensor does not have its geometry's shape.
pub(crate) fn forward<T: Element>(
    context: &Context,
    mut layers: &[Convolution<'_, T>],
    x: &Tensor<T>,
    keep: bool,
) -> Vec<Tensor<T>> {
    let mut outputs: Vec<Tensor<T>> = Vec::with_capacity(layers.len());
    while let Some(layer) = layers.first() {
        let x = outputs.last().unwrap_or(x);
        layer.check(x, None);
        let (new, count) = T::forward(context, layers, x, keep);
        if !keep {
            outputs.clear();
        }
        outputs.extend(new);
        layers = &layers[count..];
    }
    outputs
}

/// The gradient with respect to the input of the first layer, if wanted, from that with respect to the output of the last. Those
/// with respect to weights and biases are added to the `sinks`: 0 and 1 are the first layer's. `outputs` are those of
/// [`forward`]; the last is only needed if that layer has a ReLU.
///
/// # Panics
/// If a tensor does not have its geometry's shape.
pub(crate) fn backward<T: Element>(
    context: &Context,
    layers: &[Convolution<'_, T>],
    x: &Tensor<T>,
    mut outputs: Vec<Tensor<T>>,
    gradient: Tensor<T>,
    input_wanted: bool,
    sinks: &mut Sinks<'_, T>,
) -> Option<Tensor<T>> {
    let (mut left, mut gradient) = (layers.len(), Some(gradient));
    while let Some(mut dy) = gradient.take_if(|_| left > 0) {
        let chain = Chain { layers: &layers[..left], x, outputs: &outputs };
        for (index, layer) in chain.layers.iter().enumerate() {
            layer.check(chain.input(index), outputs.get(index));
        }
        layers[left - 1].check(chain.input(left - 1), Some(&dy));
        // ReLU's backward pass, in place: what follows reads the gradient more than once.
        if layers[left - 1].relu {
            pull_back(Isa::current(), Relu, outputs[left - 1].data(), dy.data_mut());
        }
        (gradient, left) = T::backward(context, &chain, dy, input_wanted, sinks);
        outputs.truncate(left);
    }
    gradient
}

/// The gradient with respect to the bias: the sum of each channel's output gradient.
fn bias_gradient<T: Element>(context: &Context, dy: Tensor<T>) -> Tensor<T> {
    let [n, channels, height, width] = dy.shape().nchw("conv2d").expect("output gradients have four axes");
    let planes = dy.reshape([n, channels, height * width]).expect("as many elements");
    Sum { axes: Some(vec![0, 2]), keepdim: false }.compute(context, planes).0
}
