"""Copies of networks to run: at rest in a chosen precision, without chance, or as they train."""

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


def awake_copy(skeleton: Net) -> Net:
    """Return a copy that takes the path of training; it shares parameters and has own buffers.

    Layers stay in evaluation mode, so that nothing is drawn by chance and no statistics move: which
    path is taken is decided by the modules that hold them.

    Args:
        skeleton: Any network; it is left alone.
    """
    shared: dict[int, object] = {id(p): p for p in skeleton.parameters()}
    copied = copy.deepcopy(skeleton, shared).eval()
    for module in copied.modules():
        module.training = module is copied or next(module.children(), None) is not None
    return copied
