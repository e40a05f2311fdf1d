"""The networks as nested `nn.Sequential`, so that parameters have the names that they have in Rust."""

from torch import nn


def block(*convolutions):
    """A nested Sequential: a ReLU after each convolution (in, out, kernel, stride, padding)."""
    layers = []
    for arguments in convolutions:
        layers += [nn.Conv2d(*arguments), nn.ReLU()]
    return nn.Sequential(*layers)


def nin_block(inputs, outputs, kernel, stride, padding):
    return block((inputs, outputs, kernel, stride, padding),
                 (outputs, outputs, 1, 1, 0), (outputs, outputs, 1, 1, 0))


def end(blocks, maps, head, classes=10):
    """What the class maps go through; `maps` pixels each, for a fully connected head."""
    layers = {
        "gap": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
        "fc": lambda: [nn.Flatten(), nn.Linear(classes * maps, classes)],
        "fc-dropout": lambda: [nn.Flatten(), nn.Dropout(0.0), nn.Linear(classes * maps, classes)],
    }
    return nn.Sequential(*blocks, *layers[head]())


def nin(channels=1, classes=10, stride=3, head="gap", maps=None):
    blocks = (
        nin_block(channels, 96, 11, stride, 0), nn.MaxPool2d(3, 2),
        nin_block(96, 256, 5, 1, 2), nn.MaxPool2d(3, 2),
        nin_block(256, 384, 3, 1, 1), nn.MaxPool2d(3, 2),
        nn.Dropout(0.0),
        nin_block(384, classes, 3, 1, 1),
    )
    return end(blocks, maps, head, classes)


def nin_cifar(channels=3, classes=10, head="gap", maps=None):
    blocks = (
        block((channels, 192, 5, 1, 2), (192, 160, 1, 1, 0), (160, 96, 1, 1, 0)),
        nn.MaxPool2d(3, 2, ceil_mode=True), nn.Dropout(0.0),
        block((96, 192, 5, 1, 2), (192, 192, 1, 1, 0), (192, 192, 1, 1, 0)),
        nn.AvgPool2d(3, 2, ceil_mode=True), nn.Dropout(0.0),
        block((192, 192, 3, 1, 1), (192, 192, 1, 1, 0), (192, classes, 1, 1, 0)),
    )
    return end(blocks, maps, head, classes)


def lenet(pixels=5 * 5, narrow=1):
    a, b, c, d = (max(1, width // narrow) for width in (6, 16, 120, 84))
    return nn.Sequential(
        nn.Conv2d(1, a, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2, 2),
        nn.Conv2d(a, b, 5), nn.Sigmoid(), nn.AvgPool2d(2, 2),
        nn.Flatten(), nn.Linear(b * pixels, c), nn.Sigmoid(),
        nn.Linear(c, d), nn.Sigmoid(), nn.Linear(d, 10),
    )


def classifier(features, hidden):
    return (nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(0.0),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.0), nn.Linear(hidden, 10))


def alexnet(pixels=5 * 5, narrow=1):
    a, b, c = (max(1, width // narrow) for width in (96, 256, 384))
    return nn.Sequential(
        nn.Conv2d(1, a, 11, stride=4, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(b, c, 3, padding=1), nn.ReLU(), nn.Conv2d(c, c, 3, padding=1), nn.ReLU(),
        nn.Conv2d(c, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
        *classifier(b * pixels, max(1, 4096 // narrow)),
    )


def vgg11(pixels=7 * 7, narrow=1):
    blocks, inputs = [], 1
    for convolutions, width in ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)):
        layers = []
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, max(1, width // narrow), 3, padding=1), nn.ReLU()]
            inputs = max(1, width // narrow)
        blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2, 2)))
    return nn.Sequential(*blocks, *classifier(inputs * pixels, max(1, 4096 // narrow)))
