"""The three networks of this repository in TensorFlow, N x H x W x C: the layout that it computes in on a CPU."""

import tensorflow as tf
from tensorflow.keras import layers


def block(widths, kernel, stride, padding):
    """A convolution and two of 1x1, ReLU after each."""
    first, *others = widths
    return [
        layers.Conv2D(first, kernel, stride, padding, activation="relu"),
        *[layers.Conv2D(width, 1, activation="relu") for width in others],
    ]


def build(model, image_size, channels=1, classes=10):
    """`nin` (the article's), `nin-d2l` (the book's) or `nin-cifar` (the paper's)."""
    if model == "nin-cifar":
        # Ceil-mode pooling of an even size is SAME: one row is missing, and it goes below.
        assert image_size % 4 == 0, "nin-cifar needs a multiple of 4"
        body = [
            *block([192, 160, 96], 5, 1, "same"),
            layers.MaxPool2D(3, 2, "same"),
            layers.Dropout(0.5),
            *block([192, 192, 192], 5, 1, "same"),
            layers.AveragePooling2D(3, 2, "same"),
            layers.Dropout(0.5),
            *block([192, 192, classes], 3, 1, "same"),
        ]
    else:
        body = [
            *block([96] * 3, 11, {"nin": 3, "nin-d2l": 4}[model], "valid"),
            layers.MaxPool2D(3, 2),
            *block([256] * 3, 5, 1, "same"),
            layers.MaxPool2D(3, 2),
            *block([384] * 3, 3, 1, "same"),
            layers.MaxPool2D(3, 2),
            layers.Dropout(0.5),
            *block([classes] * 3, 3, 1, "same"),
        ]
    shape = (image_size, image_size, channels)
    return tf.keras.Sequential([layers.Input(shape), *body, layers.GlobalAveragePooling2D()])
