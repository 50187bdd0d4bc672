"""Copies of networks to run: in evaluation mode, in a chosen precision, without chance."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from typing import TypeVar

    Net = TypeVar("Net", bound=nn.Module)


def resting_copy(model: Net, kind: torch.dtype) -> Net:
    """Return a copy on the CPU in evaluation mode; the network itself is left alone.

    Args:
        model: Any network.
        kind: Precision of its parameters and buffers.
    """
    ready: dict[int, object] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        other = tensor.detach().to("cpu", kind if tensor.is_floating_point() else tensor.dtype)
        other = other.clone() if other.data_ptr() == tensor.data_ptr() else other
        kept = isinstance(tensor, nn.Parameter)
        ready[id(tensor)] = nn.Parameter(other, requires_grad=False) if kept else other
    return copy.deepcopy(model, ready).eval()


def without_chance(model: Net) -> Net:
    """Return the same network with every dropout and drop path set to 0."""
    for module in model.modules():
        for attribute in ("p", "drop_prob", "dropout"):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)
    return model
