"""Plain convolutional nets in any width: two of the zapping paper, and a small one of our own.

Architecture of convnet3 and convnet4: official code uvm-neurobotics-lab/reset-it-and-forget-it (3
blocks without padding for Omniglot, 4 with padding for 84-pixel colour images). We differ in one
name: GroupNorm with one channel a group is the same function as InstanceNorm2d with weights, and
about twice as fast on CPU. convnet5 has batch normalisation and is of no paper: it is small enough
to be trained against an adversary within a minute on 8-pixel digits.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from relearn.errors import ParameterError
from relearn.models.pooling import HalvingPool


class ConvNet(nn.Module):
    """Blocks of [3x3 convolution, normalisation of each channel, ReLU], then one linear layer.

    Args:
        in_channels: Colour channels.
        image_size: Height = width in pixels.
        classes: Number of logits.
        width: Channels of every block.
        padding: Pixels of zero padding of each convolution.
        pools: For each block, whether a 2x2 max-pool follows.

    Raises:
        ParameterError: The image is too small: a block would normalise a single pixel.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        image_size: int,
        classes: int,
        width: int,
        padding: int,
        pools: tuple[bool, ...],
    ) -> None:
        super().__init__()
        side = _side_after(image_size, padding, pools)
        inputs = [in_channels] + [width] * (len(pools) - 1)
        self.blocks = nn.Sequential(
            *(_block(c, width, padding, pool) for c, pool in zip(inputs, pools, strict=True))
        )
        self.head = nn.Linear(width * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of float images (batch, channels, height, width)."""
        logits: Tensor = self.head(torch.flatten(self.blocks(images), 1))
        return logits


class ConvBlock(nn.Module):
    """relu(norm(convolution(x))), the convolution 3x3 with one pixel of padding and no bias.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        stride: Of the convolution; 2 halves the map, rounding up.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return maps of shape (batch, outputs, height / stride, width / stride)."""
        return functional.relu(self.norm(self.convolution(x)))


class ConvNet5(nn.Module):
    """Five blocks, of which the third and fourth halve the map, its average, one linear layer.

    Args:
        in_channels: Colour channels.
        classes: Number of logits.
        width: Channels of the first two blocks; the third has twice, the last two four times those.
    """

    def __init__(self, *, in_channels: int, classes: int, width: int) -> None:
        super().__init__()
        outputs = (width, width, 2 * width, 4 * width, 4 * width)
        inputs = (in_channels, *outputs[:-1])
        self.blocks = nn.Sequential(*map(ConvBlock, inputs, outputs, (1, 1, 2, 2, 1)))
        self.head = nn.Linear(outputs[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of float images (batch, channels, height, width)."""
        logits: Tensor = self.head(self.blocks(images).mean((2, 3)))
        return logits


def convnet3(*, in_channels: int, image_size: int, classes: int, width: int) -> ConvNet:
    """Return the net of the paper's Omniglot runs (there: 28 pixels, width 256).

    Args:
        in_channels: Colour channels.
        image_size: Height = width in pixels, 22 or more.
        classes: Number of logits.
        width: Channels of every block.
    """
    return ConvNet(
        in_channels=in_channels,
        image_size=image_size,
        classes=classes,
        width=width,
        padding=0,
        pools=(True, True, False),
    )


def convnet4(*, in_channels: int, image_size: int, classes: int, width: int) -> ConvNet:
    """Return the net of the paper's Mini-ImageNet runs (there: 84 pixels, width 256).

    Args:
        in_channels: Colour channels.
        image_size: Height = width in pixels, 16 or more.
        classes: Number of logits.
        width: Channels of every block.
    """
    return ConvNet(
        in_channels=in_channels,
        image_size=image_size,
        classes=classes,
        width=width,
        padding=1,
        pools=(True,) * 4,
    )


def _block(in_channels: int, width: int, padding: int, pool: bool) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, width, 3, padding=padding)
    nn.init.kaiming_normal_(convolution.weight)
    # the pool comes before the ReLU: the same function (both rise with their input), on a quarter
    # of the numbers
    halved = [HalvingPool()] if pool else []
    return nn.Sequential(convolution, nn.GroupNorm(width, width), *halved, nn.ReLU())


def _side_after(image_size: int, padding: int, pools: tuple[bool, ...]) -> int:
    """Return the side of the last feature map in pixels."""
    if image_size < (smallest := _smallest(padding, pools)):
        raise ParameterError(
            f"data.image.size: {image_size} pixels are too few for convnet{len(pools)}; "
            f"use {smallest} or more (or data.image.size: 28), or pretrain.model.name: mlp"
        )
    return _sides(image_size, padding, pools)[-1]


def _smallest(padding: int, pools: tuple[bool, ...]) -> int:
    # a channel of one pixel is normalised to a constant, so every normalised map has 2x2 or more
    return next(s for s in range(1, 1024) if min(_sides(s, padding, pools)[::2]) >= 2)


def _sides(image_size: int, padding: int, pools: tuple[bool, ...]) -> list[int]:
    """Return the side after each convolution and after each block, in turn."""
    sides, side = [], image_size
    for pool in pools:
        side += 2 * padding - 2
        sides.append(side)
        side = side // 2 if pool else side
        sides.append(side)
    return sides
