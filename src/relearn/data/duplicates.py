"""Identical pictures: found before the split, so that none can stand on both sides of it.

Of copies with one label a single one is kept: one from the part held out for evaluation where there
is such a part (the test set stays as published), else the first as stored. Copies with different
labels are all dropped, because no one can say which label is right.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SAME_CLASS = "same picture, same class"
OTHER_CLASS = "same picture, other class"


@dataclass(frozen=True)
class Duplicate:
    """A picture that was dropped because it exists more than once.

    Attributes:
        index: Its row among the images.
        kept: Row of the copy that was kept; -1 if none was.
        reason: ``SAME_CLASS`` or ``OTHER_CLASS``.
    """

    index: int
    kept: int
    reason: str


def find_copies(images: Tensor) -> list[list[int]]:
    """Return the rows of each picture that occurs more than once.

    Args:
        images: uint8, shape (n, channels, height, width).
    """
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    flat = images.detach().cpu().contiguous().flatten(1).numpy()
    for row, pixels in enumerate(flat):
        groups[hashlib.blake2b(pixels, digest_size=16).digest()].append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def find_duplicates(images: Tensor, labels: Tensor, held_out: Tensor) -> list[Duplicate]:
    """Return the pictures to drop, by row.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        held_out: bool, shape (n,): rows of the part held out for evaluation.
    """
    dropped: list[Duplicate] = []
    label_of, is_held = labels.tolist(), held_out.tolist()
    for rows in find_copies(images):
        if len({label_of[row] for row in rows}) > 1:
            dropped += [Duplicate(row, -1, OTHER_CLASS) for row in rows]
            continue
        kept = next((row for row in rows if is_held[row]), rows[0])
        dropped += [Duplicate(row, kept, SAME_CLASS) for row in rows if row != kept]
    return sorted(dropped, key=lambda one: one.index)
