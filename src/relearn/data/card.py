"""The data card: what a person should know about the images before trusting a result on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.batches import channel_statistics
from relearn.data.duplicates import OTHER_CLASS, SAME_CLASS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from relearn.data.images import LabelledImages, Split, Stream

_REFUSED_SHOWN = 20
_FRAME = 2  # pixels between the samples of the grid


def data_card(
    manifest: Mapping[str, Any],
    images: LabelledImages,
    stream: Stream,
    duplicate_reasons: Sequence[str],
) -> dict[str, Any]:
    """Return counts, sizes, balance, duplicates, refusals and origin, ready for JSON.

    Args:
        manifest: What was read, as ``Manifest.as_dict`` gives it.
        images: All images of the source.
        stream: The splits made from them.
        duplicate_reasons: Reason of each picture dropped as a duplicate.
    """
    mean, std = channel_statistics(stream.split("train").images)
    reasons = Counter(duplicate_reasons)
    used = sum(len(split) for split in stream.splits.values())
    return {
        "source": manifest["source"],
        "origin": manifest["origin"],
        "licence": manifest["licence"],
        "checksum": manifest["checksum"],
        "images": len(images.labels),
        "classes": len(images.class_names),
        "shape": {"channels": stream.channels, "size": stream.image_size},
        "parts": _part_sizes(images),
        "class_balance": _balance(images),
        "splits": {name: _sizes(split) for name, split in stream.splits.items()},
        "images_unused": len(images.labels) - used - len(duplicate_reasons),
        "tasks": int(stream.task_of_class.max()) + 1,
        "duplicates_dropped": {why: reasons[why] for why in (SAME_CLASS, OTHER_CLASS)},
        "refused": {
            "count": len(images.refused),
            "first": [f"{one.file}: {one.reason}" for one in images.refused[:_REFUSED_SHOWN]],
        },
        "ignored_files": dict(manifest["ignored"]),
        "train_mean": [round(value, 4) for value in mean],
        "train_std": [round(value, 4) for value in std],
    }


def _part_sizes(images: LabelledImages) -> dict[str, int]:
    counts = torch.bincount(images.part, minlength=len(images.part_names)).tolist()
    return dict(zip(images.part_names, counts, strict=True))


def _sizes(split: Split) -> dict[str, int]:
    return {"images": len(split), "classes": len(split.classes)}


def _balance(images: LabelledImages) -> dict[str, Any]:
    """Return the smallest, middle and largest class; a ratio of 1 is perfectly balanced."""
    counts = torch.bincount(images.labels, minlength=len(images.class_names))
    smallest, largest = int(counts.min()), int(counts.max())
    return {
        "smallest": smallest,
        "median": float(counts.double().median()),
        "largest": largest,
        "ratio": round(largest / max(1, smallest), 2),
        "smallest_class": images.class_names[int(counts.argmin())],
        "largest_class": images.class_names[int(counts.argmax())],
    }


def sample_grid(split: Split, *, rows: int = 10, columns: int = 10) -> npt.NDArray[np.uint8]:
    """Return a picture of samples: one class a row, evenly spread over the class numbers.

    Args:
        split: Where the samples come from.
        rows: Classes shown at most.
        columns: Samples of each shown at most; a class with fewer leaves grey places.

    Returns:
        uint8, shape (height, width) for grey, (height, width, 3) for RGB.
    """
    count = min(rows, len(split.classes))
    chosen = split.classes[torch.linspace(0, len(split.classes) - 1, count).round().long()]
    members = [torch.nonzero(split.labels == number).flatten()[:columns] for number in chosen]
    channels, size = int(split.images.shape[1]), int(split.images.shape[2])
    width = max(len(found) for found in members)
    step = size + _FRAME
    shape = (channels, count * step - _FRAME, width * step - _FRAME)
    grid = torch.full(shape, 128, dtype=torch.uint8)
    for y, found in enumerate(members):
        for x, index in enumerate(found.tolist()):
            grid[:, y * step : y * step + size, x * step : x * step + size] = split.images[index]
    picture: npt.NDArray[np.uint8] = grid.permute(1, 2, 0).numpy()
    return picture[:, :, 0] if channels == 1 else picture
