"""The two shapes in which images travel: ``LabelledImages`` as read, ``Stream`` for the arms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from relearn.errors import DataError
from relearn.provenance import Provenance, digest_tensors

SPLITS = (
    "train",  # base classes: what pre-training sees
    "validation",  # base classes: other samples, for choices during pre-training
    "test",  # base classes: held-out samples, reported
    "selection_support",  # classes never pre-trained on, for choosing rates: few labelled samples
    "selection_query",  # the same classes, the samples that score the choice
    "transfer_support",  # other classes never seen: few labelled samples to learn from
    "transfer_query",  # the same classes, the samples that are reported
)


@dataclass(frozen=True)
class Refused:
    """A file that was not taken, and why.

    Attributes:
        file: Its name inside the folder or archive.
        reason: One short phrase.
    """

    file: str
    reason: str


@dataclass(frozen=True)
class LabelledImages:
    """Images as read from a source, before any split.

    Attributes:
        images: uint8, shape (n, channels, height, width), range 0 to 255.
        labels: int64, shape (n,), index into ``class_names``.
        class_names: Sorted names; the class number is the position.
        part: int64, shape (n,), index into ``part_names``: the split that the source came with.
        part_names: Such as ("background", "evaluation") or ("all",).
        refused: Files that could not be read.
        provenance: What made it; None before it is stored.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    part: Tensor
    part_names: tuple[str, ...] = ("all",)
    refused: tuple[Refused, ...] = ()
    provenance: Provenance | None = None

    @cached_property
    def digest(self) -> str:
        """Digest of pixels, labels and parts."""
        return digest_tensors({"images": self.images, "labels": self.labels, "part": self.part})


@dataclass(frozen=True)
class Split:
    """One split: its images and their class numbers.

    Attributes:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,), class numbers of the whole source (not renumbered).
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Number of images."""
        return int(self.labels.numel())

    @cached_property
    def classes(self) -> Tensor:
        """Sorted class numbers that occur, int64, shape (classes,)."""
        classes: Tensor = torch.unique(self.labels)
        return classes

    def of_classes(self, classes: Tensor) -> Split:
        """Return the samples of ``classes``, with labels renumbered to positions in ``classes``.

        The order is by class as given, and inside a class as stored.

        Args:
            classes: int64, shape (k,), class numbers without repetition.

        Raises:
            DataError: A class has no sample in this split.
        """
        found = [torch.nonzero(self.labels == c).flatten() for c in classes]
        empty = [int(c) for c, rows in zip(classes, found, strict=True) if rows.numel() == 0]
        if empty:
            raise DataError(f"data.split: classes {empty[:5]} have no sample in this split")
        positions = [torch.full_like(rows, i) for i, rows in enumerate(found)]
        return Split(self.images[torch.cat(found)], torch.cat(positions))


@dataclass(frozen=True)
class Stream:
    """What every arm of every method reads: frozen splits and the order of tasks.

    Attributes:
        splits: Name (one of ``SPLITS``) to split; empty splits are absent.
        class_names: Names of all classes of the source.
        task_of_class: int64, shape (classes,): number of the task in which a class arrives in the
            class-incremental order; -1 for classes outside it.
        provenance: What made it; None before it is stored.
    """

    splits: Mapping[str, Split]
    class_names: tuple[str, ...]
    task_of_class: Tensor
    provenance: Provenance | None = field(default=None, compare=False)

    def split(self, name: str) -> Split:
        """Return a split by name.

        Raises:
            DataError: The stream has no such split; the message says which parameter makes one.
        """
        if name not in self.splits:
            have = ", ".join(self.splits) or "none"
            raise DataError(
                f"data.split: the stream has no {name!r} split (it has {have}); "
                "give it samples or classes under data.split"
            )
        return self.splits[name]

    @property
    def channels(self) -> int:
        """Colour channels of the images."""
        return int(next(iter(self.splits.values())).images.shape[1])

    @property
    def image_size(self) -> int:
        """Height (= width) of the images in pixels."""
        return int(next(iter(self.splits.values())).images.shape[2])

    @cached_property
    def digest(self) -> str:
        """Digest of all splits and the task order."""
        tensors: dict[str, Tensor] = {"task_of_class": self.task_of_class}
        for name, split in self.splits.items():
            tensors[f"{name}.images"] = split.images
            tensors[f"{name}.labels"] = split.labels
        return digest_tensors(tensors)
