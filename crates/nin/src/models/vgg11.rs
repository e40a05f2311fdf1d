//! VGG-11 (Simonyan and Zisserman 2015) with a quarter of the channels, as the d2l book's section 8.2 trains it.

use autograd::AutogradError;
use tensor::Element;

use super::Network;
use crate::nn::{Conv2d, MaxPool2d, Relu, Sequential};

/// Convolutions of each block.
const CONVOLUTIONS: [usize; 5] = [1, 1, 2, 2, 2];

/// 3 x 3 convolutions that keep the size, a ReLU after each, and a pooling that halves it:
/// N x `c_in` x H x W to N x `c_out` x H/2 x W/2.
fn vgg_block<T: Element>(convolutions: usize, c_in: usize, c_out: usize) -> Sequential<T> {
    let block = (0..convolutions).fold(Sequential::new(), |block, index| {
        block.with(Conv2d::new(if index == 0 { c_in } else { c_out }, c_out, 3, 1, 1)).with(Relu)
    });
    block.with(MaxPool2d::new(2, 2))
}

/// Eight convolutions in five blocks and three fully connected layers: N x C x H x W to N x `classes` logits. 43,093,322
/// parameters for one channel, 224 x 224 pixels and ten classes.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
pub(super) fn vgg11<T: Element>(network: &Network) -> Result<Sequential<T>, AutogradError> {
    let (mut c_in, mut features) = (network.image[0], Sequential::new());
    for (convolutions, c_out) in CONVOLUTIONS.into_iter().zip(network.widths([16, 32, 64, 128, 128])) {
        features = features.with(vgg_block(convolutions, c_in, c_out));
        c_in = c_out;
    }
    let [hidden] = network.widths([4096]);
    network.classifier(features, hidden)
}
