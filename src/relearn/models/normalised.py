"""A net that takes pixels in 0..1, with the normalisation inside.

An attack moves pixels, so that its radius has a meaning only where the net takes pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from relearn.errors import ParameterError


class NormalisedNet(nn.Module):
    """logits = model((pixels - mean) / std).

    The parameters are those of ``model`` itself: training the one trains the other. Mean and
    deviation are no part of the state.

    Args:
        model: Takes normalised images.
        mean: For each channel, in the 0..1 pixel range.
        std: For each channel, above 0, in the same unit.

    Raises:
        ParameterError: Not as many means as deviations, none, or a deviation that is not above 0.
    """

    scale: Tensor
    offset: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not mean or len(mean) != len(std) or not all(s > 0 for s in std):
            raise ParameterError(
                f"pretrain.model: got mean {list(mean)} and std {list(std)}, expected one of each "
                "for each channel and std above 0"
            )
        self.model = model
        weight = next((p for p in model.parameters()), torch.empty(0))
        scale = torch.tensor([1 / s for s in std], device=weight.device)
        offset = torch.tensor(
            [-m / s for m, s in zip(mean, std, strict=True)], device=weight.device
        )
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("offset", offset[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return what the net gives for the normalised pixels.

        Args:
            pixels: Range 0..1, shape (batch, channels, height, width).

        Returns:
            Logits, shape (batch, classes).

        Raises:
            ParameterError: The images have another number of channels.
        """
        channels = self.scale.shape[0]
        if pixels.shape[1] != channels:
            raise ParameterError(
                f"data.image.channels: images have {pixels.shape[1]}, but the normalisation has "
                f"{channels} means; use images of the checkpoint's channels"
            )
        logits: Tensor = self.model(torch.addcmul(self.offset, pixels, self.scale))
        return logits
