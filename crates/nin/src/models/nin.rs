//! Network in Network (Lin, Chen and Yan 2014, arXiv 1312.4400), as the d2l book's section 8.3 builds it after AlexNet.

use tensor::Element;

use super::Network;
use crate::nn::{Conv2d, Dropout, MaxPool2d, Relu, Sequential};

/// A k x k convolution and two 1 x 1 convolutions, ReLU after each: the 1 x 1 convolutions are a small fully connected network
/// that slides over the pixels (paper, section 3.1).
///
/// N x `c_in` x H x W to N x `c_out` x OH x OW.
#[must_use]
pub fn nin_block<T: Element>(
    c_in: usize,
    c_out: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Sequential<T> {
    mlp_conv(Conv2d::new(c_in, c_out, kernel, stride, padding), [c_out; 3])
}

/// A convolution to the first of three widths and 1 x 1 convolutions to the others, ReLU after each.
pub(super) fn mlp_conv<T: Element>(
    convolution: Conv2d<T>,
    [first, second, third]: [usize; 3],
) -> Sequential<T> {
    Sequential::new()
        .with(convolution)
        .with(Relu)
        .with(Conv2d::new(first, second, 1, 1, 0))
        .with(Relu)
        .with(Conv2d::new(second, third, 1, 1, 0))
        .with(Relu)
}

/// The network up to its class maps. The book's stem stride is 4, the article's 3.
pub(super) fn blocks<T: Element>(network: &Network, stem_stride: usize) -> Sequential<T> {
    let [w96, w256, w384] = network.widths([96, 256, 384]);
    Sequential::new()
        .with(nin_block(network.image[0], w96, 11, stem_stride, 0))
        .with(MaxPool2d::new(3, 2))
        .with(nin_block(w96, w256, 5, 1, 2))
        .with(MaxPool2d::new(3, 2))
        .with(nin_block(w256, w384, 3, 1, 1))
        .with(MaxPool2d::new(3, 2))
        .with(Dropout { p: network.dropout })
        .with(nin_block(w384, network.classes, 3, 1, 1))
}
