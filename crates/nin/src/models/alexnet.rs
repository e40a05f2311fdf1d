//! AlexNet (Krizhevsky, Sutskever and Hinton 2012) as the d2l book's section 8.1 builds it, for one gray channel and ten classes.

use autograd::AutogradError;
use tensor::Element;

use super::Network;
use crate::nn::{Conv2d, MaxPool2d, Relu, Sequential};

/// Five convolutions and three fully connected layers: N x C x H x W to N x `classes` logits. 46,764,746 parameters for one
/// channel, 224 x 224 pixels and ten classes, 43,040,778 of them in the fully connected layers.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
pub(super) fn alexnet<T: Element>(network: &Network) -> Result<Sequential<T>, AutogradError> {
    let [w96, w256, w384, w4096] = network.widths([96, 256, 384, 4096]);
    let features = Sequential::new()
        .with(Conv2d::new(network.image[0], w96, 11, 4, 1))
        .with(Relu)
        .with(MaxPool2d::new(3, 2))
        .with(Conv2d::new(w96, w256, 5, 1, 2))
        .with(Relu)
        .with(MaxPool2d::new(3, 2))
        .with(Conv2d::new(w256, w384, 3, 1, 1))
        .with(Relu)
        .with(Conv2d::new(w384, w384, 3, 1, 1))
        .with(Relu)
        .with(Conv2d::new(w384, w256, 3, 1, 1))
        .with(Relu)
        .with(MaxPool2d::new(3, 2));
    network.classifier(features, w4096)
}
