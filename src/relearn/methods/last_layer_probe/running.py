"""A net run only to be looked at: buffers, modes and random numbers are as before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from relearn.training.randomness import isolated

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def undisturbed(module: nn.Module, seed: int) -> Iterator[None]:
    """Run a net inside without gradients; its buffers come back, such as running statistics.

    Args:
        module: The net.
        seed: Seed of dropout meanwhile.
    """
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    device = str(next((p.device for p in module.parameters()), "cpu"))
    try:
        with torch.no_grad(), isolated(seed, "last_layer_probe.init.noise", device):
            yield
    finally:
        for name, buffer in module.named_buffers():
            buffer.copy_(kept[name])
