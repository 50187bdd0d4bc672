"""Named doors of randomness: every draw is a function of (seed, name), never of global state."""

from __future__ import annotations

import hashlib

import torch


def seed_of(seed: int, name: str) -> int:
    """Return the 63-bit seed of one named door.

    Args:
        seed: The seed of the run or split, any integer.
        name: The door, such as ``split.classes`` or ``train.order.3``.

    Returns:
        The first 63 bits of sha256("seed:name"), so that doors are unrelated to each other and to
        those of the neighbouring seed.
    """
    text = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return int.from_bytes(text[:8], "big") >> 1


def generator_of(seed: int, name: str, device: str | torch.device = "cpu") -> torch.Generator:
    """Return a fresh generator for one named door.

    Args:
        seed: The seed of the run or split, any integer.
        name: The door, such as ``split.classes``.
        device: Where the numbers are drawn; CPU and CUDA give different numbers.
    """
    generator = torch.Generator(device=device)
    generator.manual_seed(seed_of(seed, name))
    return generator
