"""The three networks of this repository in PyTorch: layers, names and shapes as in `crates/nin/src/models`."""

from torch import nn


def block(c_in, widths, kernel, stride, padding):
    """A convolution and two of 1x1, ReLU after each."""
    layers, channels = [], c_in
    for index, width in enumerate(widths):
        geometry = (kernel, stride, padding) if index == 0 else (1, 1, 0)
        layers += [nn.Conv2d(channels, width, *geometry), nn.ReLU(inplace=True)]
        channels = width
    return nn.Sequential(*layers)


def build(model, channels=1, classes=10):
    """`nin` (the article's), `nin-d2l` (the book's) or `nin-cifar` (the paper's)."""
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    if model == "nin-cifar":
        return nn.Sequential(
            block(channels, [192, 160, 96], 5, 1, 2),
            nn.MaxPool2d(3, 2, ceil_mode=True),
            nn.Dropout(0.5),
            block(96, [192, 192, 192], 5, 1, 2),
            nn.AvgPool2d(3, 2, ceil_mode=True),
            nn.Dropout(0.5),
            block(192, [192, 192, classes], 3, 1, 1),
            *head,
        )
    return nn.Sequential(
        block(channels, [96] * 3, 11, {"nin": 3, "nin-d2l": 4}[model], 0),
        nn.MaxPool2d(3, 2),
        block(96, [256] * 3, 5, 1, 2),
        nn.MaxPool2d(3, 2),
        block(256, [384] * 3, 3, 1, 1),
        nn.MaxPool2d(3, 2),
        nn.Dropout(0.5),
        block(384, [classes] * 3, 3, 1, 1),
        *head,
    )
