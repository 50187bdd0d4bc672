"""The plain convolutional nets of the zapping paper, in any width and for any image size.

Architecture: official code uvm-neurobotics-lab/reset-it-and-forget-it (3 blocks without padding for
Omniglot, 4 with padding for 84-pixel colour images). We differ in one name: GroupNorm with one
channel a group is the same function as InstanceNorm2d with weights, and about twice as fast on CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
