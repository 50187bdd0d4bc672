"""Named doors of randomness, and torch's global numbers held apart for what draws from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from relearn.data.randomness import generator_of, seed_of

__all__ = ["generator_of", "isolated", "seed_of"]


@contextmanager
def isolated(seed: int, name: str, device: str = "cpu") -> Iterator[None]:
    """Make torch's global random numbers a function of (seed, name) inside the block.

    Dropout and layer initialisation draw from them. Afterwards the global state is as before.

    Args:
        seed: The seed of the run.
        name: The door, such as ``train.noise.3``.
        device: The device whose numbers are held apart besides the CPU's.
    """
    devices = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed_of(seed, name))
        yield
