//! ResNet-18 (He, Zhang, Ren and Sun 2016) as the d2l book's section 8.6 and torchvision build it.

use autograd::{AutogradError, Var};
use tensor::Element;

use super::Network;
use crate::nn::{
    AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Flatten, Linear, MaxPool2d, Module, Relu, Sequential, scoped,
};

/// The layers before the first residual block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stem {
    /// A 3 x 3 convolution that keeps the size: for images of some 32 pixels (section 4.2 of the paper).
    Cifar,
    /// A 7 x 7 convolution of stride 2 and a max pooling of stride 2: for images of some 224 pixels (table 1).
    ImageNet,
}

/// Two 3 x 3 convolutions with a normalization each, added to the input, which goes through a 1 x 1 convolution and a
/// normalization where its size or channels change: figure 2 and section 3.3 of the paper. N x C x H x W to N x O x H/stride x
/// W/stride.
#[derive(Debug)]
pub(super) struct BasicBlock<T: Element> {
    conv1: Conv2d<T>,
    bn1: BatchNorm2d<T>,
    conv2: Conv2d<T>,
    bn2: BatchNorm2d<T>,
    /// Empty where the input is added as it is.
    downsample: Sequential<T>,
}

impl<T: Element> BasicBlock<T> {
    /// From `c_in` to `c_out` channels; the first convolution has the stride.
    fn new(c_in: usize, c_out: usize, stride: usize) -> Self {
        let mut downsample = Sequential::new();
        if stride != 1 || c_in != c_out {
            let shortcut = Conv2d::new(c_in, c_out, 1, stride, 0).without_bias();
            downsample = downsample.with(shortcut).with(BatchNorm2d::new(c_out));
        }
        Self {
            conv1: Conv2d::new(c_in, c_out, 3, stride, 1).without_bias(),
            bn1: BatchNorm2d::new(c_out),
            conv2: Conv2d::new(c_out, c_out, 3, 1, 1).without_bias(),
            bn2: BatchNorm2d::new(c_out),
            downsample,
        }
    }
}

impl<T: Element> Module<T> for BasicBlock<T> {
    fn forward<'t>(&self, x: Var<'t, T>) -> Result<Var<'t, T>, AutogradError> {
        let y = scoped("conv1", &self.conv1, x.clone())?;
        let y = scoped("bn1", &self.bn1, y)?.relu()?;
        let y = scoped("conv2", &self.conv2, y)?;
        let y = scoped("bn2", &self.bn2, y)?;
        y.add(scoped("downsample", &self.downsample, x)?)?.relu()
    }

    crate::visit_fields!(T: conv1, bn1, conv2, bn2, downsample);
}

/// A stem, four stages of two [`BasicBlock`]s of 64, 128, 256 and 512 channels, of which all but the first halve the size, global
/// average pooling and a fully connected layer: N x `channels` x H x W to N x `classes` logits. Names of parameters are
/// torchvision's. 11,173,962 parameters with the stem for CIFAR, three channels and ten classes.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
pub(super) fn resnet18<T: Element>(network: &Network, stem: Stem) -> Result<Sequential<T>, AutogradError> {
    let widths = network.widths([64, 128, 256, 512]);
    let [kernel, stride, padding] = if stem == Stem::Cifar { [3, 1, 1] } else { [7, 2, 3] };
    let first = Conv2d::new(network.image[0], widths[0], kernel, stride, padding).without_bias();
    let mut net =
        Sequential::new().named("conv1", first).named("bn1", BatchNorm2d::new(widths[0])).named("relu", Relu);
    if stem == Stem::ImageNet {
        net = net.named("maxpool", MaxPool2d { padding: [1, 1], ..MaxPool2d::new(3, 2) });
    }
    let mut c_in = widths[0];
    for (number, width) in (1..).zip(widths) {
        let stride = if number == 1 { 1 } else { 2 };
        let blocks = Sequential::new()
            .with(BasicBlock::new(c_in, width, stride))
            .with(BasicBlock::new(width, width, 1));
        net = net.named(&format!("layer{number}"), blocks);
        c_in = width;
    }
    network.features(&net)?;
    Ok(net
        .named("avgpool", AdaptiveAvgPool2d::GLOBAL)
        .named("flatten", Flatten)
        .named("fc", Linear::new(c_in, network.classes)))
}
