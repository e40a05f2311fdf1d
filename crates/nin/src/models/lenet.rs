//! LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998) as the d2l book's section 7.6 simplifies it.

use autograd::AutogradError;
use tensor::{Element, Shape};

use crate::nn::{AvgPool2d, Conv2d, Flatten, Linear, Sequential, Sigmoid, output_shape};

/// Two convolutions and three fully connected layers with sigmoids between them: N x C x H x W to N x `classes` logits.
/// 61,706 parameters for one channel, 28 x 28 pixels and ten classes.
///
/// `image` is one image, 1 x C x H x W; the first fully connected layer is as wide as it needs. Every other width is divided
/// by `narrow`.
///
/// # Errors
/// [`AutogradError`], naming the layer, if the image is too small.
///
/// # Panics
/// If `narrow` is 0.
pub fn lenet<T: Element>(
    image: Shape,
    classes: usize,
    narrow: usize,
) -> Result<Sequential<T>, AutogradError> {
    let [_, channels, _, _] = image.nchw("lenet")?;
    let [first, second, third, fourth] = [6, 16, 120, 84].map(|width| (width / narrow).max(1));
    let features = Sequential::new()
        .with(Conv2d::new(channels, first, 5, 1, 2))
        .with(Sigmoid)
        .with(AvgPool2d::new(2, 2))
        .with(Conv2d::new(first, second, 5, 1, 0))
        .with(Sigmoid)
        .with(AvgPool2d::new(2, 2));
    let length = output_shape(&features, image)?.iter().product();
    Ok(features
        .with(Flatten)
        .with(Linear::new(length, third))
        .with(Sigmoid)
        .with(Linear::new(third, fourth))
        .with(Sigmoid)
        .with(Linear::new(fourth, classes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::testing::{check_gradients, shapes};
    use crate::nn::parameter_count;

    #[test]
    fn shapes_and_parameters_are_the_books() {
        let network = lenet::<f32>([1, 1, 28, 28].into(), 10, 1).unwrap();
        assert_eq!(parameter_count(&network), 61_706);
        let table = [
            "6 x 28 x 28",
            "6 x 28 x 28",
            "6 x 14 x 14",
            "16 x 10 x 10",
            "16 x 10 x 10",
            "16 x 5 x 5",
            "400",
            "120",
            "120",
            "84",
            "84",
            "10",
        ];
        assert_eq!(shapes(&network, [1, 1, 28, 28]), table);
    }

    #[test]
    fn a_size_too_small_is_refused_by_layer() {
        let error = lenet::<f32>([1, 1, 8, 8].into(), 10, 1).unwrap_err().to_string();
        assert!(error.starts_with("conv2d: layer 3, Conv2d(6, 16, 5x5): a window of 5"), "{error}");
    }

    #[test]
    fn gradients_of_a_small_copy() {
        check_gradients(&mut lenet::<f64>([1, 2, 14, 15].into(), 4, 2).unwrap(), [2, 2, 14, 15]);
    }
}
