//! The convolutions of any element type, by the naive loop or im2col.

use super::{Chain, ConvAlgorithm, Convolution, bias_gradient, im2col, naive};
use crate::context::Context;
use crate::element::Element;
use crate::ops::Relu;
use crate::ops::elementwise::apply;
use crate::simd::Isa;
use crate::sink::Sinks;
use crate::tensor::Tensor;

/// The output of a layer.
pub(super) fn forward<T: Element>(context: &Context, layer: &Convolution<'_, T>, x: &Tensor<T>) -> Tensor<T> {
    let g = &layer.geometry;
    let mut y = Tensor::empty_in(context.pool(), g.output_shape());
    let (x, w, bias) = (x.data(), layer.weight.data(), layer.bias.map(Tensor::data));
    match layer.algorithm {
        ConvAlgorithm::Naive => naive::forward(g, x, w, bias, y.data_mut()),
        _ => im2col::forward(context.pool(), g, x, w, bias, y.data_mut()),
    }
    if layer.relu {
        apply(Isa::current(), Relu, None, y.data_mut());
    }
    y
}

/// The gradient with respect to the input of a chain of one layer, if wanted; those of weight and bias are added to the sinks.
pub(super) fn backward<T: Element>(
    context: &Context,
    chain: &Chain<'_, T>,
    dy: &Tensor<T>,
    input_wanted: bool,
    sinks: &mut Sinks<'_, T>,
) -> Option<Tensor<T>> {
    let (layer, pool) = (&chain.layers[0], context.pool());
    let (g, naive) = (&layer.geometry, layer.algorithm == ConvAlgorithm::Naive);
    let (x, w) = (chain.x.data(), layer.weight.data());
    sinks.add(0, || {
        let mut dw = Tensor::empty_in(pool, g.weight_shape());
        if naive {
            naive::weight_gradient(g, x, dy.data(), dw.data_mut());
        } else {
            im2col::weight_gradient(pool, g, x, dy.data(), dw.data_mut());
        }
        dw
    });
    sinks.add(1, || bias_gradient(context, dy.clone()));
    input_wanted.then(|| {
        let mut dx = Tensor::empty_in(pool, g.input_shape());
        if naive {
            naive::input_gradient(g, dy.data(), w, dx.data_mut());
        } else {
            im2col::input_gradient(pool, g, dy.data(), w, dx.data_mut());
        }
        dx
    })
}
