//! AlexNet (Krizhevsky, Sutskever and Hinton 2012) as the d2l book's section 8.1 builds it, for one grey channel and ten classes.

use autograd::AutogradError;
use tensor::{Element, Shape};

use super::classifier;
use crate::nn::{Conv2d, MaxPool2d, Relu, Sequential, output_shape};

/// Five convolutions and three fully connected layers: N x C x H x W to N x `classes` logits. 46,764,746 parameters for one
/// channel, 224 x 224 pixels and ten classes, 43,040,778 of them in the fully connected layers.
///
/// `image` is one image, 1 x C x H x W; the first fully connected layer is as wide as it needs. Every other width is divided
/// by `narrow`.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
///
/// # Panics
/// If `narrow` is 0.
pub fn alexnet<T: Element>(
    image: Shape,
    classes: usize,
    dropout: f64,
    narrow: usize,
) -> Result<Sequential<T>, AutogradError> {
    let [_, channels, _, _] = image.nchw("alexnet")?;
    let [w96, w256, w384, w4096] = [96, 256, 384, 4096].map(|width| (width / narrow).max(1));
    let features = Sequential::new()
        .with(Conv2d::new(channels, w96, 11, 4, 1))
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
    let length = output_shape(&features, image)?.iter().product();
    Ok(classifier(features, length, w4096, classes, dropout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::testing::{check_gradients, shapes};
    use crate::nn::parameter_count;

    #[test]
    fn shapes_and_parameters_are_the_books() {
        let network = alexnet::<f32>([1, 1, 224, 224].into(), 10, 0.5, 1).unwrap();
        assert_eq!(parameter_count(&network), 46_764_746);
        let table = [
            "96 x 54 x 54",
            "96 x 54 x 54",
            "96 x 26 x 26",
            "256 x 26 x 26",
            "256 x 26 x 26",
            "256 x 12 x 12",
            "384 x 12 x 12",
            "384 x 12 x 12",
            "384 x 12 x 12",
            "384 x 12 x 12",
            "256 x 12 x 12",
            "256 x 12 x 12",
            "256 x 5 x 5",
            "6400",
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
        let error = alexnet::<f32>([1, 1, 60, 60].into(), 10, 0.5, 1).unwrap_err().to_string();
        assert!(error.starts_with("max_pool2d: layer 12, MaxPool2d(3/2)"), "{error}");
    }

    #[test]
    fn gradients_of_a_small_copy() {
        let mut network = alexnet::<f64>([1, 1, 67, 71].into(), 3, 0.3, 32).unwrap();
        check_gradients(&mut network, [2, 1, 67, 71]);
    }
}
