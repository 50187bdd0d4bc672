"""The last layer as tensors: read, and made to have as many outputs as the stream now has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def read_layer(head: nn.Module) -> dict[str, Tensor]:
    """Return copies of weight and bias on the CPU.

    Args:
        head: The last layer.
    """
    return {name: t.detach().to("cpu", copy=True) for name, t in head.state_dict().items()}


def grown(stored: Mapping[str, Tensor], fresh: nn.Module) -> dict[str, Tensor]:
    """Return a stored last layer with the fresh one's rows for outputs that have come since.

    Args:
        stored: Weight and bias.
        fresh: The last layer of the present stream, with no fewer outputs.
    """
    now = read_layer(fresh)
    return {name: torch.cat([t, now[name][len(t) :]]) for name, t in stored.items()}
