"""Buffers that are used again: fresh memory costs a fault for every page it first touches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


class Scratch:
    """Memory for the tiles of one kernel.

    Args:
        dtype: Of all buffers.
        device: Where they lie.
    """

    def __init__(self, *, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._all: dict[int, Tensor] = {}
        self._free: list[Tensor] = []

    def take(self, *shape: int) -> Tensor:
        """Return a tensor whose values mean nothing yet.

        Args:
            shape: Of the tensor.
        """
        count = math.prod(shape)
        place = next((i for i, each in enumerate(self._free) if each.numel() >= count), None)
        if place is None:
            flat = torch.empty(count, dtype=self._dtype, device=self._device)
            self._all[flat.data_ptr()] = flat
        else:
            flat = self._free.pop(place)
        return flat[:count].view(shape)

    def give(self, used: Tensor) -> None:
        """Take a tensor back that nobody reads any more; one that came from elsewhere is let go.

        Args:
            used: From ``take``, or a view that begins where it does.
        """
        flat = self._all.get(used.data_ptr())
        if flat is not None:
            self._free.append(flat)
