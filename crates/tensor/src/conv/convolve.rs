//! Layers, and the convolutions that an element type has of its own for them.

use super::{ConvAlgorithm, ConvGeometry, generic};
use crate::context::Context;
use crate::element::Element;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// The convolutions of an element type: `f32` has fast ones, and what has none has the reference's.
///
/// The module is private, and so are the layers: nobody else implements the trait, or can call more than its choices.
pub trait Convolve: Sized {
    /// See [`choose`](super::choose).
    fn choose(_: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
        if asked == ConvAlgorithm::Naive { ConvAlgorithm::Naive } else { ConvAlgorithm::Im2col }
    }

    /// See [`choose_gradient`](super::choose_gradient).
    fn choose_gradient(geometry: &ConvGeometry, asked: ConvAlgorithm) -> ConvAlgorithm {
        Self::choose(geometry, asked)
    }

    /// [`forward`](super::forward) of the first layer, or of more that go together: their outputs, of the last alone unless
    /// `keep`, and their number.
    fn forward(
        context: &Context,
        layers: &[Convolution<'_, Self>],
        x: &Tensor<Self>,
        _keep: bool,
    ) -> (Vec<Tensor<Self>>, usize)
    where
        Self: Element,
    {
        (vec![generic::forward(context, &layers[0], x)], 1)
    }

    /// [`backward`](super::backward) of the last layer, before its ReLU, or of more that go together: the gradient with respect
    /// to the input of the first of them, and how many layers are left. The sinks are those of all layers.
    fn backward(
        context: &Context,
        chain: &Chain<'_, Self>,
        dy: Tensor<Self>,
        input_wanted: bool,
        sinks: &mut Sinks<'_, Self>,
    ) -> (Option<Tensor<Self>>, usize)
    where
        Self: Element,
    {
        let last = chain.last();
        let (chain, sinks) = (chain.tail(last), &mut sinks.tail(2 * last));
        (generic::backward(context, &chain, &dy, last > 0 || input_wanted, sinks), last)
    }
}

impl Convolve for f64 {}

/// One convolution: its sizes and its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Convolution<'a, T: Element> {
    /// The sizes.
    pub(crate) geometry: ConvGeometry,
    /// The pick of [`choose`](super::choose).
    pub(crate) algorithm: ConvAlgorithm,
    /// O x C/groups x KH x KW.
    pub(crate) weight: &'a Tensor<T>,
    /// O.
    pub(crate) bias: Option<&'a Tensor<T>>,
    /// Applies ReLU to the output.
    pub(crate) relu: bool,
}

impl<T: Element> Convolution<'_, T> {
    pub(super) fn check(&self, x: &Tensor<T>, y: Option<&Tensor<T>>) {
        let g = &self.geometry;
        let found = (x.shape(), self.weight.shape(), self.bias.map(Tensor::shape));
        let bias = self.bias.map(|_| g.bias_shape());
        assert_eq!(found, (g.input_shape(), g.weight_shape(), bias), "conv2d: shapes of x, w and b");
        let output = g.output_shape();
        assert!(y.is_none_or(|y| y.shape() == output), "conv2d: the output is {output}");
    }
}

/// Layers one after the other, and what went through them.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a, T: Element> {
    /// The layers, at least one.
    pub(super) layers: &'a [Convolution<'a, T>],
    /// The input of the first.
    pub(super) x: &'a Tensor<T>,
    /// The outputs of each layer; of the last only if it has a ReLU.
    pub(super) outputs: &'a [Tensor<T>],
}

impl<'a, T: Element> Chain<'a, T> {
    /// The index of the last layer.
    pub(super) fn last(&self) -> usize {
        self.layers.len() - 1
    }

    pub(super) fn input(&self, index: usize) -> &'a Tensor<T> {
        index.checked_sub(1).map_or(self.x, |below| &self.outputs[below])
    }

    pub(super) fn tail(&self, first: usize) -> Self {
        let outputs = self.outputs.get(first..).unwrap_or_default();
        Self { layers: &self.layers[first..], x: self.input(first), outputs }
    }
}
