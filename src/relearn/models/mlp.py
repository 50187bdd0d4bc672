"""A multi-layer perceptron on the flattened image."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """Hidden layers of [linear, ReLU], then one linear layer.

    Args:
        in_channels: Colour channels.
        image_size: Height = width in pixels.
        classes: Number of logits.
        width: Units of each hidden layer.
        depth: Hidden layers, 0 or more.
    """

    def __init__(
        self, *, in_channels: int, image_size: int, classes: int, width: int, depth: int
    ) -> None:
        super().__init__()
        sizes = [in_channels * image_size * image_size] + [width] * depth
        layers: list[nn.Module] = []
        for inputs in sizes[:-1]:
            linear = nn.Linear(inputs, width)
            nn.init.kaiming_normal_(linear.weight)
            layers += [linear, nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (batch, classes) of float images (batch, channels, height, width)."""
        logits: Tensor = self.head(self.hidden(torch.flatten(images, 1)))
        return logits
