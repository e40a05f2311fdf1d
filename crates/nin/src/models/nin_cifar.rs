//! The network of the paper's CIFAR-10 runs (Lin, Chen and Yan 2014, section 4.2; layer sizes of the authors' definition).

use tensor::Element;

use crate::nn::{AdaptiveAvgPool2d, AvgPool2d, Conv2d, Dropout, Flatten, MaxPool2d, Relu, Sequential};

/// A k x k convolution with padding that keeps the size and two 1 x 1 convolutions of given widths, ReLU after each.
fn block<T: Element>(c_in: usize, [first, second, third]: [usize; 3], kernel: usize) -> Sequential<T> {
    Sequential::new()
        .with(Conv2d::new(c_in, first, kernel, 1, kernel / 2))
        .with(Relu)
        .with(Conv2d::new(first, second, 1, 1, 0))
        .with(Relu)
        .with(Conv2d::new(second, third, 1, 1, 0))
        .with(Relu)
}

/// N x C x H x W, 28 or 32 pixels a side, to N x `classes` logits. Pooling is in ceil mode, so that 32 -> 16 -> 8.
#[must_use]
pub fn nin_cifar<T: Element>(channels: usize, classes: usize, dropout: f64) -> Sequential<T> {
    blocks(channels, classes, dropout, 1).with(AdaptiveAvgPool2d::GLOBAL).with(Flatten)
}

/// The network up to its class maps, its widths divided by `narrow`.
pub(super) fn blocks<T: Element>(
    channels: usize,
    classes: usize,
    dropout: f64,
    narrow: usize,
) -> Sequential<T> {
    let [w192, w160, w96] = [192, 160, 96].map(|width| (width / narrow).max(1));
    Sequential::new()
        .with(block(channels, [w192, w160, w96], 5))
        .with(MaxPool2d::ceil(3, 2))
        .with(Dropout { p: dropout })
        .with(block(w96, [w192; 3], 5))
        .with(AvgPool2d::ceil(3, 2))
        .with(Dropout { p: dropout })
        .with(block(w192, [w192, w192, classes], 3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::output_shape;
    use crate::nn::parameter_count;

    #[test]
    fn shapes_and_parameters_are_the_papers() {
        let network = nin_cifar::<f32>(3, 10, 0.5);
        assert_eq!(parameter_count(&network), 966_986);
        let mut shape = tensor::Shape::from([2, 3, 32, 32]);
        let mut sides = Vec::new();
        for layer in network.layers().take(7) {
            shape = output_shape(layer, shape).unwrap();
            sides.push(shape[2]);
        }
        assert_eq!(sides, [32, 16, 16, 16, 8, 8, 8]);
        assert_eq!(*output_shape(&network, [2, 3, 28, 28].into()).unwrap(), [2, 10]);
    }
}
