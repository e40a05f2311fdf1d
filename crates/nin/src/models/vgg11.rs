//! VGG-11 (Simonyan and Zisserman 2015) with a quarter of the channels, as the d2l book's section 8.2 trains it.

use autograd::AutogradError;
use tensor::{Element, Shape};

use super::classifier;
use crate::nn::{Conv2d, MaxPool2d, Relu, Sequential, output_shape};

/// Convolutions and output channels of each block.
const BLOCKS: [(usize, usize); 5] = [(1, 16), (1, 32), (2, 64), (2, 128), (2, 128)];

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
/// `image` is one image, 1 x C x H x W; the first fully connected layer is as wide as it needs. Every other width is divided
/// by `narrow`.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
///
/// # Panics
/// If `narrow` is 0.
pub fn vgg11<T: Element>(
    image: Shape,
    classes: usize,
    dropout: f64,
    narrow: usize,
) -> Result<Sequential<T>, AutogradError> {
    let [_, mut c_in, _, _] = image.nchw("vgg11")?;
    let mut features = Sequential::new();
    for (convolutions, width) in BLOCKS {
        let c_out = (width / narrow).max(1);
        features = features.with(vgg_block(convolutions, c_in, c_out));
        c_in = c_out;
    }
    let length = output_shape(&features, image)?.iter().product();
    Ok(classifier(features, length, (4096 / narrow).max(1), classes, dropout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::testing::{check_gradients, shapes};
    use crate::nn::parameter_count;

    #[test]
    fn shapes_and_parameters_are_the_books() {
        let network = vgg11::<f32>([1, 1, 224, 224].into(), 10, 0.5, 1).unwrap();
        assert_eq!(parameter_count(&network), 43_093_322);
        let table = [
            "16 x 112 x 112",
            "32 x 56 x 56",
            "64 x 28 x 28",
            "128 x 14 x 14",
            "128 x 7 x 7",
            "6272",
            "4096",
            "4096",
            "4096",
            "4096",
            "4096",
            "4096",
            "10",
        ];
        assert_eq!(shapes(&network, [1, 1, 224, 224]), table);
    }

    #[test]
    fn a_size_too_small_is_refused_by_layer() {
        let error = vgg11::<f32>([1, 1, 28, 28].into(), 10, 0.5, 1).unwrap_err().to_string();
        assert!(error.starts_with("max_pool2d: layer 4.4, MaxPool2d(2/2)"), "{error}");
    }

    #[test]
    fn gradients_of_a_small_copy() {
        let mut network = vgg11::<f64>([1, 2, 32, 34].into(), 3, 0.3, 16).unwrap();
        check_gradients(&mut network, [2, 2, 32, 34]);
    }
}
