//! Network in Network (Lin, Chen and Yan 2014, arXiv 1312.4400), as the d2l book's section 8.3 builds it after AlexNet.

use tensor::Element;

use crate::nn::{AdaptiveAvgPool2d, Conv2d, Dropout, Flatten, MaxPool2d, Relu, Sequential};

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
    Sequential::new()
        .with(Conv2d::new(c_in, c_out, kernel, stride, padding))
        .with(Relu)
        .with(Conv2d::new(c_out, c_out, 1, 1, 0))
        .with(Relu)
        .with(Conv2d::new(c_out, c_out, 1, 1, 0))
        .with(Relu)
}

/// The whole network: N x C x H x W to N x `classes` logits. The book's stem stride is 4, the article's 3.
#[must_use]
pub fn nin<T: Element>(channels: usize, classes: usize, stem_stride: usize, dropout: f64) -> Sequential<T> {
    blocks(channels, classes, stem_stride, dropout, 1).with(AdaptiveAvgPool2d::GLOBAL).with(Flatten)
}

/// The network up to its class maps, its widths divided by `narrow`.
pub(super) fn blocks<T: Element>(
    channels: usize,
    classes: usize,
    stem_stride: usize,
    dropout: f64,
    narrow: usize,
) -> Sequential<T> {
    let [w96, w256, w384] = [96, 256, 384].map(|width| (width / narrow).max(1));
    Sequential::new()
        .with(nin_block(channels, w96, 11, stem_stride, 0))
        .with(MaxPool2d::new(3, 2))
        .with(nin_block(w96, w256, 5, 1, 2))
        .with(MaxPool2d::new(3, 2))
        .with(nin_block(w256, w384, 3, 1, 1))
        .with(MaxPool2d::new(3, 2))
        .with(Dropout { p: dropout })
        .with(nin_block(w384, classes, 3, 1, 1))
}

#[cfg(test)]
mod tests {
    use autograd::Gradcheck;
    use tensor::Tensor;
    use tensor::init::Init;

    use super::*;
    use crate::nn::output_shape;
    use crate::nn::{Module, initialize, parameter_count};

    #[test]
    fn shapes_and_parameters_are_the_articles() {
        let network = nin::<f32>(1, 10, 3, 0.5);
        assert_eq!(parameter_count(&network), 1_992_166);
        let mut shape = tensor::Shape::from([1, 1, 224, 224]);
        let mut sides = Vec::new();
        for layer in network.layers() {
            shape = output_shape(layer, shape).unwrap();
            sides.push(shape.get(2).copied().unwrap_or(0));
        }
        assert_eq!(sides, [72, 35, 35, 17, 17, 8, 8, 8, 1, 0]);
        assert_eq!(*shape, [1, 10]);
    }

    #[test]
    fn a_size_too_small_is_refused_by_layer() {
        let error = output_shape(&nin::<f32>(1, 10, 3, 0.5), [1, 1, 28, 28].into()).unwrap_err().to_string();
        assert!(error.starts_with("max_pool2d: layer 3, MaxPool2d(3/2)"), "{error}");
        let error = output_shape(&nin::<f32>(1, 10, 3, 0.5), [1, 1, 8, 8].into()).unwrap_err().to_string();
        assert!(
            error.starts_with("conv2d: layer 0.0, Conv2d(1, 96, 11x11, stride 3): a window of 11"),
            "{error}"
        );
    }

    /// The gradient with respect to the images; those of the parameters are checked for all networks in `mod.rs`.
    #[test]
    fn gradients_of_the_images() {
        let mut network = blocks::<f64>(1, 4, 4, 0.3, 32).with(AdaptiveAvgPool2d::GLOBAL).with(Flatten);
        initialize(&mut network, Init::HeNormal, Init::Constant(0.1), 3);
        let x = Tensor::from_fn([2, 1, 67, 67], |i| ((i * 7919 % 1000) as f64) / 1000.0);
        let check = Gradcheck { tolerance: 1e-5, elements: 80, ..Gradcheck::default() };
        check.run("nin", &[x], |_, inputs| network.forward(inputs[0].clone())).unwrap();
    }
}
