"""What an arm costs: parameters, FLOPs, seconds, peak memory. Kept apart from what it achieves."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from relearn.uncompiled import spare_compiler

if TYPE_CHECKING:
    from torch import nn


def parameter_count(model: nn.Module) -> int:
    """Return the number of trainable numbers of ``model``."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def forward_flops(model: nn.Module, shape: tuple[int, int, int]) -> int:
    """Return the FLOPs of one forward pass of one image (a multiply-add counts as two).

    Args:
        model: Takes float images; its mode and weights are kept.
        shape: (channels, height, width).
    """
    from torch.utils import flop_counter

    device = next(model.parameters()).device
    if worker := getattr(flop_counter, "_FlopCounterMode", None):  # older torch has none
        spare_compiler(worker.__torch_dispatch__)
    counter = flop_counter.FlopCounterMode(display=False)
    was_training = model.training
    model.eval()
    with torch.no_grad(), counter:
        model(torch.zeros(1, *shape, device=device))
    model.train(was_training)
    return int(counter.get_total_flops())


def peak_memory_bytes(device: str = "cpu") -> int:
    """Return the peak memory so far: of the device if it is a GPU, else of this process.

    Args:
        device: Torch device string.
    """
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) if sys.platform == "darwin" else int(peak) * 1024


class Stopwatch:
    """Adds up wall-clock seconds under names: ``with watch("train"): ...``."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside the block to ``name``."""
        self._running[name] = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - self._running.pop(name)
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def snapshot(self) -> dict[str, float]:
        """Return the seconds so far, those of blocks that are still open included."""
        now = time.perf_counter()
        open_blocks = {name: now - begin for name, begin in self._running.items()}
        names = [*self.seconds, *(n for n in open_blocks if n not in self.seconds)]
        return {n: self.seconds.get(n, 0.0) + open_blocks.get(n, 0.0) for n in names}
