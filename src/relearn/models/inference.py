"""The net as it leaves the house: pixels in, class probabilities out; the same for every method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from relearn.models.checkpoint import Checkpoint, build

if TYPE_CHECKING:
    from torch import Tensor


class ClassProbabilities(nn.Module):
    """Normalisation, net and softmax in one module without branches on the data.

    Args:
        model: The trained net.
        mean: Mean of each channel, in units of 0..1.
        std: Standard deviation of each channel.
        classes: Outputs that stand for a class; padding beyond them is cut off.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...], classes: int
    ) -> None:
        super().__init__()
        self.model = model
        self.classes = classes
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities (batch, classes).

        Args:
            images: uint8, shape (batch, channels, height, width), range 0 to 255.
        """
        logits = self.model((images.float() / 255 - self.mean) / self.std)
        return torch.softmax(logits[:, : self.classes], dim=1)


def inference_module(checkpoint: Checkpoint) -> nn.Module:
    """Return the net of a checkpoint with its normalisation inside, in evaluation mode.

    Args:
        checkpoint: From a method's ``train_baseline`` or ``train_treated``; its provenance names
            the classes.

    Returns:
        A module from uint8 images (batch, channels, height, width) to probabilities
        (batch, classes), in the order of ``provenance["class_names"]``.

    Raises:
        CheckpointError: The weights do not fit the architecture.
    """
    architecture = checkpoint.architecture
    names = checkpoint.provenance.get("class_names", ())
    return ClassProbabilities(
        build(checkpoint),
        mean=architecture.mean,
        std=architecture.std,
        classes=len(names) or architecture.classes,
    ).eval()
