"""The networks as nested `nn.Sequential`, so that parameters have the names that they have in Rust."""

from collections import OrderedDict

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


class BasicBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.downsample(x)).relu()


def resnet18(channels=1, cifar=False, narrow=1):
    """The layers and names of torchvision's resnet18; for CIFAR with a 3 x 3 stem and no pooling."""
    widths = [max(1, width // narrow) for width in (64, 128, 256, 512)]
    first = nn.Conv2d(channels, widths[0], *((3, 1, 1) if cifar else (7, 2, 3)), bias=False)
    layers = OrderedDict(conv1=first, bn1=nn.BatchNorm2d(widths[0]), relu=nn.ReLU())
    if not cifar:
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    inputs = widths[0]
    for number, width in enumerate(widths, 1):
        stride = 1 if number == 1 else 2
        layers[f"layer{number}"] = nn.Sequential(BasicBlock(inputs, width, stride), BasicBlock(width, width, 1))
        inputs = width
    layers |= OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=nn.Linear(inputs, 10))
    return nn.Sequential(layers)


def vgg11(pixels=7 * 7, narrow=1):
    blocks, inputs = [], 1
    for convolutions, width in ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)):
        layers = []
        for _ in range(convolutions):
            layers += [nn.Conv2d(inputs, max(1, width // narrow), 3, padding=1), nn.ReLU()]
            inputs = max(1, width // narrow)
        blocks.append(nn.Sequential(*layers, nn.MaxPool2d(2, 2)))
    return nn.Sequential(*blocks, *classifier(inputs * pixels, max(1, 4096 // narrow)))


def mobilenet_cifar(channels=1, narrow=1):
    def normalized(*arguments, **options):
        return (nn.Conv2d(*arguments, bias=False, **options), nn.BatchNorm2d(arguments[1]), nn.ReLU())

    inputs, blocks = max(1, 32 // narrow), []
    first = normalized(channels, inputs, 3, 1, 1)
    for width, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1)):
        width = max(1, width // narrow)
        blocks.append(nn.Sequential(*normalized(inputs, inputs, 3, stride, 1, groups=inputs),
                                    *normalized(inputs, width, 1)))
        inputs = width
    return nn.Sequential(*first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))
