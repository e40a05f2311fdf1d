//! MobileNet (Howard et al. 2017, "MobileNets: Efficient convolutional neural networks for mobile vision applications") for
//! images of some 32 pixels.

use autograd::AutogradError;
use tensor::{Element, ops};

use super::Network;
use crate::nn::{AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, Relu, Sequential};

/// A 3 x 3 convolution of each channel by itself and a 1 x 1 convolution across them, a normalization and a ReLU after each:
/// figure 3 of the paper. N x C x H x W to N x O x H/stride x W/stride.
fn separable<T: Element>(c_in: usize, c_out: usize, stride: usize) -> Sequential<T> {
    let depthwise =
        ops::Conv2d { stride: [stride; 2], padding: [1; 2], groups: c_in, ..ops::Conv2d::default() };
    Sequential::new()
        .with(Conv2d::with_op(c_in, c_in, [3; 2], depthwise).without_bias())
        .with(BatchNorm2d::new(c_in))
        .with(Relu)
        .with(Conv2d::new(c_in, c_out, 1, 1, 0).without_bias())
        .with(BatchNorm2d::new(c_out))
        .with(Relu)
}

/// The layers of table 1 of the paper, of which the first keeps the size: N x `channels` x H x W to N x `classes` logits.
/// 3,217,226 parameters for three channels and ten classes. A narrow copy has the inverse of `narrow` as the paper's width
/// multiplier.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
pub(super) fn mobilenet_cifar<T: Element>(network: &Network) -> Result<Sequential<T>, AutogradError> {
    let [w32, w64, w128, w256, w512, w1024] = network.widths([32, 64, 128, 256, 512, 1024]);
    let mut net = Sequential::new()
        .with(Conv2d::new(network.image[0], w32, 3, 1, 1).without_bias())
        .with(BatchNorm2d::new(w32))
        .with(Relu);
    let before = [(w64, 1), (w128, 2), (w128, 1), (w256, 2), (w256, 1), (w512, 2)];
    let mut c_in = w32;
    for (c_out, stride) in before.into_iter().chain([(w512, 1); 5]).chain([(w1024, 2), (w1024, 1)]) {
        net = net.with(separable(c_in, c_out, stride));
        c_in = c_out;
    }
    network.features(&net)?;
    Ok(net.with(AdaptiveAvgPool2d::GLOBAL).with(Flatten).with(Linear::new(c_in, network.classes)))
}
