//! The network of the paper's CIFAR-10 runs (Lin, Chen and Yan 2014, section 4.2; layer sizes of the authors' definition).

use tensor::Element;

use super::Network;
use super::nin::mlp_conv;
use crate::nn::{AvgPool2d, Conv2d, Dropout, MaxPool2d, Sequential};

/// The network up to its class maps, for 28 or 32 pixels a side. Pooling is in ceil mode, so that 32 -> 16 -> 8.
pub(super) fn blocks<T: Element>(network: &Network) -> Sequential<T> {
    let [w192, w160, w96] = network.widths([192, 160, 96]);
    Sequential::new()
        .with(mlp_conv(Conv2d::new(network.image[0], w192, 5, 1, 2), [w192, w160, w96]))
        .with(MaxPool2d::ceil(3, 2))
        .with(Dropout { p: network.dropout })
        .with(mlp_conv(Conv2d::new(w96, w192, 5, 1, 2), [w192; 3]))
        .with(AvgPool2d::ceil(3, 2))
        .with(Dropout { p: network.dropout })
        .with(mlp_conv(Conv2d::new(w192, w192, 3, 1, 1), [w192, w192, network.classes]))
}
