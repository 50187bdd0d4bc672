"""The images behind an extension: new classes, divided, and old ones, as rows of the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.duplicates import find_duplicates
from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.errors import CheckpointError, DataError, ParameterError, StaleInputError

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import LabelledImages, Stream
    from relearn.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class NewClasses:
    """Images of classes that the net has never had an output for.

    Attributes:
        names: Sorted class names.
        support: Images that train, sorted by class; labels are positions in ``names``.
        query: Images that score; labels likewise.
        dropped: Images left out because the same picture occurs elsewhere.
    """

    names: tuple[str, ...]
    support: Split
    query: Split
    dropped: int = 0


@dataclass(frozen=True)
class OldClasses:
    """Images of the classes that the net knows; labels are rows of its head.

    Attributes:
        names: Names of all rows, in the order of the rows.
        train: Images it was trained on, for replay and for the scale of new rows.
        held_out: Other images, for the regression.
        unchecked: Names of which the stream has no image.
    """

    names: tuple[str, ...]
    train: Split
    held_out: Split
    unchecked: tuple[str, ...] = ()


def names_of(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the names of the classes of a checkpoint, in the order of its outputs.

    Args:
        checkpoint: Its provenance tells ``class_names``.

    Raises:
        CheckpointError: It tells none, or more than it has outputs.
    """
    names = tuple(str(name) for name in checkpoint.provenance.get("class_names", ()))
    if not 0 < len(names) <= checkpoint.architecture.classes:
        raise CheckpointError(
            f"add_classes.checkpoint: it has {checkpoint.architecture.classes} outputs and names "
            f"{len(names)} classes, so that old and new ones cannot be told apart; extend one "
            "that relearn trained"
        )
    return names


def require_new_names(old: Sequence[str], new: Sequence[str]) -> None:
    """Check that no new class bears the name of an old one.

    Args:
        old: Names that the checkpoint knows.
        new: Names of the folders.

    Raises:
        DataError: Some do.
    """
    both = sorted(set(old) & set(new))
    if both:
        raise DataError(
            f"add_classes.source_path: the checkpoint knows {_listed(both)} already; rename the "
            "folder if it is another class, or take it out"
        )


def old_classes(checkpoint: Checkpoint, stream: Stream) -> OldClasses:
    """Return the images of the classes that a checkpoint knows.

    Args:
        checkpoint: Its provenance tells ``class_names``.
        stream: Holds ``train`` and ``validation``, with classes of the same names.

    Raises:
        CheckpointError: The checkpoint names no classes.
        StaleInputError: The stream has none of them, or images of another shape.
        DataError: The stream has no validation images.
    """
    names = names_of(checkpoint)
    shape = (checkpoint.architecture.in_channels, checkpoint.architecture.image_size)
    if (stream.channels, stream.image_size) != shape:
        raise StaleInputError(
            f"add_classes.checkpoint: it reads {_shape(*shape)} images, the stream has "
            f"{_shape(stream.channels, stream.image_size)}; run with the --env and --params that "
            "made the checkpoint"
        )
    number = {name: i for i, name in enumerate(stream.class_names)}
    there = set(stream.split("train").classes.tolist())
    rows = [row for row, name in enumerate(names) if number.get(name) in there]
    if not rows:
        raise StaleInputError(
            f"add_classes.checkpoint: the stream trains none of its classes ({_listed(names)}), "
            "so that forgetting cannot be checked; run with the --env and --params that made it"
        )
    if "validation" not in stream.splits:
        raise DataError(
            "data.split.validation_share: is 0, so there are no held-out images on which "
            "add_classes could check the old classes; raise it and run prepare_data again"
        )
    numbers = torch.tensor([number[names[row]] for row in rows])
    return OldClasses(
        names=names,
        train=_as_rows(stream.split("train"), numbers, rows),
        held_out=_as_rows(stream.split("validation"), numbers, rows),
        unchecked=tuple(name for row, name in enumerate(names) if row not in set(rows)),
    )


def divide_new_classes(
    images: LabelledImages,
    old: OldClasses,
    *,
    support_share: float,
    support_per_class: int,
    seed: int,
) -> NewClasses:
    """Return the images of each new class, divided into those that train and those that score.

    A picture that occurs twice is kept once, so that none can stand on both sides; one that occurs
    among the old images as well is left out, because no one can say which class it shows.

    Args:
        images: Of the new classes only.
        old: Of the old classes.
        support_share: Share that trains, above 0 and below 1; at least one image is on each side.
        support_per_class: Number that trains; 0 = by the share.
        seed: Each class has a door of its own, so that one class's images move no other's.

    Raises:
        DataError: A name exists already, a class has too few images, or they are of another shape.
        ParameterError: ``support_per_class`` leaves no image of a class to score.
    """
    require_new_names(old.names, images.class_names)
    channels, size = old.train.images.shape[1:3]
    require_shape(images.images, channels=int(channels), size=int(size))
    kept = _distinct(images, old)
    support, query = [], []
    for number, name in enumerate(images.class_names):
        rows = kept[images.labels[kept] == number]
        count = _support_count(name, len(rows), support_share, support_per_class)
        order = torch.randperm(len(rows), generator=generator_of(seed, f"add_classes.split.{name}"))
        support.append(rows[order[:count]].sort().values)
        query.append(rows[order[count:]].sort().values)
    return NewClasses(
        names=tuple(images.class_names),
        support=_rows_of(images, torch.cat(support)),
        query=_rows_of(images, torch.cat(query)),
        dropped=len(images.labels) - len(kept),
    )


def require_shape(images: Tensor, *, channels: int, size: int) -> None:
    """Check that new images have the shape that the net reads.

    Args:
        images: Shape (n, channels, height, width).
        channels: Of the net.
        size: Height = width of the net's images in pixels.

    Raises:
        DataError: They have other channels or another size.
    """
    if tuple(images.shape[1:]) != (channels, size, size):
        raise DataError(
            f"add_classes.source_path: the images are {_shape(*images.shape[1:3])}, the "
            f"checkpoint reads {_shape(channels, size)}; read them in its shape"
        )


def _distinct(images: LabelledImages, old: OldClasses) -> Tensor:
    """Return the rows of the new images that are left once copies are dropped."""
    known = torch.cat([old.train.images, old.held_out.images])
    pixels = torch.cat([images.images, known])
    labels = torch.full((len(pixels),), -1)  # all old classes are one here: not a new one
    labels[: len(images.labels)] = images.labels
    copies = find_duplicates(pixels, labels, torch.zeros(len(pixels), dtype=torch.bool))
    keep = torch.ones(len(pixels), dtype=torch.bool)
    keep[[copy.index for copy in copies]] = False
    return torch.nonzero(keep[: len(images.labels)]).flatten()


def _support_count(name: str, images: int, share: float, fixed: int) -> int:
    if images < 2:
        raise DataError(
            f"add_classes.source_path: class {name!r} has {images} distinct image"
            f"{'' if images == 1 else 's'} that no old class has, expected 2 or more (one trains, "
            "one scores); add images or take the folder out"
        )
    if fixed >= images:
        raise ParameterError(
            f"add_classes.support_per_class: {fixed} of the {images} images of class {name!r} "
            f"leave none to score; set it to {images - 1} or less, or 0 for a share"
        )
    return fixed or min(images - 1, max(1, round(share * images)))


def _rows_of(images: LabelledImages, rows: Tensor) -> Split:
    return Split(images.images[rows], images.labels[rows])


def _as_rows(split: Split, numbers: Tensor, rows: Sequence[int]) -> Split:
    """Return the samples of the classes ``numbers``, labelled by rows of the head."""
    found = split.of_classes(numbers)
    return Split(found.images, torch.tensor(rows)[found.labels])


def _shape(channels: int, size: int) -> str:
    return f"{size}x{size} {'RGB' if channels == 3 else 'grey'}"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
