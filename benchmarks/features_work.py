"""The work of ``bench_features.py``: a frozen body read in batches into the sums of a ridge fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from ridge_work import peak_megabytes, resident_megabytes

from relearn.data.images import Split
from relearn.methods.last_layer_probe.bodies import Body, body_of
from relearn.methods.last_layer_probe.feature_memory import stream_bytes
from relearn.methods.last_layer_probe.features import stream_into
from relearn.methods.last_layer_probe.tap_points import TapPoint, choose_taps
from relearn.models.architectures import Architecture, build_fresh
from relearn.training.ridge_sums import RidgeSums, memory_bound

BATCH = 256
CLASSES = 10
TAPS = ("stages.1.0", "features")
NAME = "preact_resnet"


def _made(
    images: int, side: int, width: int, kept: str
) -> tuple[Body, Split, tuple[TapPoint, ...]]:
    options = {"width": width, "depth": 8}
    architecture = Architecture(NAME, 3, side, CLASSES, options, (0.5,) * 3, (0.25,) * 3)
    body = body_of(build_fresh(architecture, seed=0), architecture)
    split = _read(kept, images) if kept else _drawn(images, side)
    return body, split, choose_taps(body, split.images[:2], TAPS, widest=2048)


def _read(kept: str, images: int) -> Split:
    with np.load(kept) as stored:
        found = [torch.from_numpy(stored[name][:images]) for name in ("images", "labels")]
    if len(found[0]) < images:
        raise ValueError(f"--images: got {len(found[0])} training images, expected {images}")
    return Split(*found)


def _drawn(images: int, side: int) -> Split:
    door = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (images, 3, side, side), generator=door, dtype=torch.uint8)
    return Split(pixels, torch.arange(images) % CLASSES)


def streamed(images: int, side: int, width: int, kept: str = "") -> Callable[[], float]:
    """Return a repetition that reads all images into sums and returns their number.

    Args:
        images: Number of images.
        side: Height = width in pixels.
        width: Channels of the body's first stage.
        kept: File with the arrays ``images`` and ``labels``; empty: they are drawn.
    """
    body, split, taps = _made(images, side, width, kept)

    def repetition() -> float:
        sums = {tap: RidgeSums(tap.width, CLASSES) for tap in taps}
        stream_into(body, split, sums, batch=BATCH)
        return float(images)

    return repetition


def streamed_megabytes(images: int, side: int, width: int, kept: str = "") -> Callable[[], float]:
    """Return a repetition that says by how much reading raised the memory of its process.

    Args:
        images: As for ``streamed``.
        side: As for ``streamed``.
        width: As for ``streamed``.
        kept: As for ``streamed``.
    """
    repetition = streamed(images, side, width, kept)
    streamed(2, side, 4)()  # what libraries take at their first call

    def growth() -> float:
        before = resident_megabytes()
        repetition()
        return peak_megabytes() - before

    return growth


def bound_megabytes(images: int, side: int, width: int, kept: str = "") -> float:
    """Return what ``streamed`` takes at most, in MiB: one batch and the sums.

    Args:
        images: As for ``streamed``; more of them take no more.
        side: As for ``streamed``.
        width: As for ``streamed``.
        kept: As for ``streamed``.
    """
    body, split, taps = _made(min(images, 2), side, width, kept)
    sums = sum(memory_bound(tap.width, CLASSES, rows=0) for tap in taps)
    return (stream_bytes(body, split.images, taps, batch=BATCH) + sums) / 2**20
