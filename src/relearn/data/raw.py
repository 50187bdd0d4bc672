"""Arrays as a data set delivers them, before shape and class order are settled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class RawImages:
    """Pictures, labels and names in the source's own order.

    Attributes:
        pictures: uint8, shape (n, height, width) or (n, height, width, 3).
        labels: int64, shape (n,), index into ``names``.
        names: Class names, in any order.
        part: int64, shape (n,), index into ``part_names``.
        part_names: Splits that the source came with.
    """

    pictures: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    names: Sequence[str]
    part: npt.NDArray[np.int64]
    part_names: tuple[str, ...] = ("all",)


def join_parts(parts: Sequence[RawImages], part_names: tuple[str, ...]) -> RawImages:
    """Return several parts of one data set as one.

    Args:
        parts: One for each name, with equal class names.
        part_names: Name of each part.
    """
    sizes = [len(part.labels) for part in parts]
    return RawImages(
        np.concatenate([part.pictures for part in parts]),
        np.concatenate([part.labels for part in parts]),
        parts[0].names,
        np.repeat(np.arange(len(parts)), sizes),
        part_names,
    )
