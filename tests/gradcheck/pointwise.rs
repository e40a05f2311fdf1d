//! A 1x1 convolution is a fully connected layer at each pixel (`docs/nin-block.md`).

use autograd::{Context, Tape};
use tensor::{Tensor, ops};

#[test]
fn a_pointwise_convolution_is_a_linear_layer_at_each_pixel() {
    let (n, c, o, h, w) = (2, 5, 7, 3, 4);
    let number = |i: usize| f64::from(u32::try_from(i * 7919 % 1013).unwrap()) / 500.0 - 1.0;
    let image = Tensor::from_fn([n, c, h, w], number);
    let weight = Tensor::from_fn([o, c], |i| number(i + 31));
    let bias = Tensor::from_fn([o], |i| number(i + 77));
    let tape = Tape::new(Context::default());

    let kernel = tape.constant(weight.clone().reshape([o, c, 1, 1]).unwrap());
    let convolved = tape
        .constant(image.clone())
        .conv2d(kernel, Some(tape.constant(bias.clone())), ops::Conv2d::default())
        .unwrap();

    // Each pixel's channels as one row: N H W x C.
    let pixels = Tensor::from_fn([n * h * w, c], |i| {
        let (pixel, channel) = (i / c, i % c);
        image.data()[(pixel / (h * w) * c + channel) * h * w + pixel % (h * w)]
    });
    let linear = tape.constant(pixels).linear(tape.constant(weight), Some(tape.constant(bias))).unwrap();

    for (index, &y) in convolved.value().data().iter().enumerate() {
        let (image, channel, place) = (index / (o * h * w), index / (h * w) % o, index % (h * w));
        let expected = linear.value().data()[(image * h * w + place) * o + channel];
        assert!((y - expected).abs() < 1e-12, "pixel {place}, channel {channel}: {y} and {expected}");
    }
}
