"""Well-known convolutional networks, as tables of their publications.

All take RGB images and give 1,000 classes, but for LeNet-5. C: channels, K: filters, R = S: taps.
"""

from .layers import Layer
from .stack import Stack

__all__ = ["alexnet", "googlenet", "lenet5", "mobilenet_v2", "resnet50", "squeezenet", "vgg16"]

_CLASSES = 1000


def lenet5(batch: int) -> tuple[Layer, ...]:
    """LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998; 32x32, grey.

    As everybody builds it today: the second convolution sees all six channels (there, a table says
    which), poolings have no weights, and the output is linear.
    """
    net = Stack(batch, 1, 32, bias=True)
    net.convolve("C1", 6, 5, padding=0).pool("S2", 2, 2)
    net.convolve("C3", 16, 5, padding=0).pool("S4", 2, 2)
    net.linear("C5", 120).linear("F6", 84).linear("output", 10)
    return tuple(net.layers)


def alexnet(batch: int) -> tuple[Layer, ...]:
    """Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep CNNs, 2012.

    In two groups where their two GPUs did not exchange. 227x227: with 224, as printed there, the first
    layer would not give 55x55.
    """
    net = Stack(batch, 3, 227, bias=True)
    for name, k, taps, stride, padding, groups, pooled in (
            ("conv1",  96, 11, 4, 0, 1, True),
            ("conv2", 256,  5, 1, 2, 2, True),
            ("conv3", 384,  3, 1, 1, 1, False),
            ("conv4", 384,  3, 1, 1, 2, False),
            ("conv5", 256,  3, 1, 1, 2, True)):
        net.convolve(name, k, taps, stride, padding, groups)
        if pooled:
            net.pool(name.replace("conv", "pool"), 3, 2)
    net.linear("fc6", 4096).linear("fc7", 4096).linear("fc8", _CLASSES)
    return tuple(net.layers)


def vgg16(batch: int) -> tuple[Layer, ...]:
    """Simonyan and Zisserman, Very Deep Convolutional Networks, 2014, configuration D; 224x224."""
    net = Stack(batch, 3, 224, bias=True)
    for stage, (k, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)), 1):
        for number in range(1, depth + 1):
            net.convolve(f"conv{stage}_{number}", k, 3)
        net.pool(f"pool{stage}", 2, 2)
    net.linear("fc6", 4096).linear("fc7", 4096).linear("fc8", _CLASSES)
    return tuple(net.layers)


#: Filters of the 1x1; of the 1x1 before the 3x3, and of that; likewise of the 5x5; of the 1x1 after
#: pooling. Before the stage of that name the image is halved.
_INCEPTIONS = (
    ("3a",  64,  96, 128, 16,  32,  32),
    ("3b", 128, 128, 192, 32,  96,  64),
    ("4a", 192,  96, 208, 16,  48,  64),
    ("4b", 160, 112, 224, 24,  64,  64),
    ("4c", 128, 128, 256, 24,  64,  64),
    ("4d", 112, 144, 288, 32,  64,  64),
    ("4e", 256, 160, 320, 32, 128, 128),
    ("5a", 256, 160, 320, 32, 128, 128),
    ("5b", 384, 192, 384, 48, 128, 128),
)


def googlenet(batch: int) -> tuple[Layer, ...]:
    """Szegedy et al., Going Deeper with Convolutions, 2014, v1 without its auxiliary heads; 224x224.

    Poolings round down, as in the published count of MACs. Rounded up, images would be 56x56, 28x28,
    14x14 and 7x7 as printed there, and MACs 10 % more.
    """
    net = Stack(batch, 3, 224, bias=True)
    net.convolve("conv1", 64, 7, 2).pool("pool1", 3, 2)
    net.convolve("conv2 reduce", 64, 1).convolve("conv2", 192, 3).pool("pool2", 3, 2)
    for name, one, reduce3, three, reduce5, five, pooled in _INCEPTIONS:
        if name in ("4a", "5a"):
            net.pool(f"pool{int(name[0]) - 1}", 3, 2)
        net.fork().convolve(f"{name} 1x1", one, 1)
        net.fork().convolve(f"{name} 3x3 reduce", reduce3, 1).convolve(f"{name} 3x3", three, 3)
        net.fork().convolve(f"{name} 5x5 reduce", reduce5, 1).convolve(f"{name} 5x5", five, 5)
        net.fork().pool(f"{name} pool", 3, 1, 1).convolve(f"{name} pool 1x1", pooled, 1)
        net.channels = one + three + five + pooled
    net.average("average").linear("fc", _CLASSES)
    return tuple(net.layers)


def resnet50(batch: int) -> tuple[Layer, ...]:
    """He et al., Deep Residual Learning, 2015; 224x224.

    As published: the first 1x1 of a stage has its stride. (In torchvision's, called v1.5, the 3x3 has
    it, for 6 % more MACs.)
    """
    net = Stack(batch, 3, 224, norm=True)
    net.convolve("conv1", 64, 7, 2).pool("pool1", 3, 2, 1)
    for stage, (k, depth) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 2):
        for number in range(1, depth + 1):
            name, first = f"conv{stage}_{number}", number == 1
            stride = 2 if first and stage > 2 else 1
            if first:
                net.fork().convolve(f"{name} shortcut", 4 * k, 1, stride)
            net.convolve(f"{name} 1x1 in", k, 1, stride)
            net.convolve(f"{name} 3x3", k, 3).convolve(f"{name} 1x1 out", 4 * k, 1)
    net.average("average").linear("fc", _CLASSES)
    return tuple(net.layers)


def squeezenet(batch: int) -> tuple[Layer, ...]:
    """Iandola et al., SqueezeNet, 2016, version 1.0, without bypasses; 224x224.

    Their figure has 111x111 after the first layer, which wants 227x227; with 224 it is 109x109, as in
    torchvision.
    """
    net = Stack(batch, 3, 224, bias=True)
    net.convolve("conv1", 96, 7, 2, 0).pool("pool1", 3, 2, ceil=True)
    for number, (squeezed, expanded) in enumerate(
            ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)), 2):
        name = f"fire{number}"
        net.convolve(f"{name} squeeze", squeezed, 1)
        net.fork().convolve(f"{name} expand 1x1", expanded, 1)
        net.fork().convolve(f"{name} expand 3x3", expanded, 3)
        net.channels = 2 * expanded
        if number in (4, 8):
            net.pool(f"pool{number}", 3, 2, ceil=True)
    net.convolve("conv10", _CLASSES, 1).average("average")
    return tuple(net.layers)


def mobilenet_v2(batch: int) -> tuple[Layer, ...]:
    """Sandler et al., MobileNetV2, 2018, width 1.0; 224x224."""
    net = Stack(batch, 3, 224, norm=True)
    net.convolve("conv1", 32, 3, 2)
    number = 0
    # Expansion, K, depth, stride of the first.
    for expansion, k, depth, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2),
                                        (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
        for inner in range(depth):
            number += 1
            name, wide = f"block{number}", expansion * net.channels
            if expansion > 1:
                net.convolve(f"{name} expand", wide, 1)
            net.convolve(f"{name} depthwise", wide, 3, 1 if inner else stride, groups=wide)
            net.convolve(f"{name} project", k, 1)
    net.convolve("conv2", 1280, 1).average("average").linear("fc", _CLASSES)
    return tuple(net.layers)
