//! LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) as the d2l book's section 7.6 simplifies it.

use autograd::AutogradError;
use tensor::Element;

use super::Network;
use crate::nn::{AvgPool2d, Conv2d, Flatten, Linear, Sequential, Sigmoid};

/// Two convolutions and three fully connected layers with sigmoids between them: N x C x H x W to N x `classes` logits.
/// 61,706 parameters for one channel, 28 x 28 pixels and ten classes.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
pub(super) fn lenet<T: Element>(network: &Network) -> Result<Sequential<T>, AutogradError> {
    let [first, second, third, fourth] = network.widths([6, 16, 120, 84]);
    let features = Sequential::new()
        .with(Conv2d::new(network.image[0], first, 5, 1, 2))
        .with(Sigmoid)
        .with(AvgPool2d::new(2, 2))
        .with(Conv2d::new(first, second, 5, 1, 0))
        .with(Sigmoid)
        .with(AvgPool2d::new(2, 2));
    let length = network.features(&features)?;
    Ok(features
        .with(Flatten)
        .with(Linear::new(length, third))
        .with(Sigmoid)
        .with(Linear::new(third, fourth))
        .with(Sigmoid)
        .with(Linear::new(fourth, network.classes)))
}
