"""Few training images drawn anew for each seed from all labelled images of the base classes.

A set of 150 images says little about a method: another 150 may turn the answer. So each seed draws
its own, and what is spread over the seeds holds the luck of the draw too. Draws enter at one door
for each class, ``redraw.samples.<class>``: training images are taken from the front of its order,
validation images from the back, so that asking for more keeps those there were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.data.splits import share_out
from relearn.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import Stream

BASE_SPLITS = ("train", "validation", "test")
"""The splits that hold the base classes."""

_BLOCK = "forget_relearn.samples"
"""Where the numbers stand in YAML, unless the caller says another place."""


def base_classes(stream: Stream) -> Tensor:
    """Return the sorted class numbers of the base splits, int64, shape (classes,).

    Args:
        stream: As the arms read it.
    """
    found = [stream.splits[name].labels for name in BASE_SPLITS if name in stream.splits]
    classes: Tensor = torch.unique(torch.cat(found))
    return classes


def redraw(
    stream: Stream, *, train_images: int, validation_images: int, seed: int, block: str = _BLOCK
) -> dict[str, Split]:
    """Return ``train``, ``validation`` and ``test`` with labels renumbered by ``base_classes``.

    Each class has its share of the training and of the validation images, by largest remainder;
    all other images are the test.

    Args:
        stream: As the arms read it.
        train_images: Images that train; 0 keeps the stream's own three splits.
        validation_images: Images that validate, 1 or more; not read where ``train_images`` is 0.
        seed: Seed of the draw; not used where ``train_images`` is 0.
        block: Where the two numbers stand in YAML, for messages.

    Raises:
        DataError: There are too few images, a class would be left without one in one of the
            splits, or a split to be kept is not there; the message names the parameter.
    """
    classes = base_classes(stream)
    if train_images == 0:
        return {name: _kept(stream, name, classes, block) for name in BASE_SPLITS}
    pool = _pooled(stream)
    rows = [torch.nonzero(pool.labels == number).flatten() for number in classes]
    sizes = [len(members) for members in rows]
    wanted = {"train_images": train_images, "validation_images": validation_images}
    _check_totals(wanted, classes=len(classes), images=sum(sizes), block=block)
    shares = [size / sum(sizes) for size in sizes]
    counts = {field: share_out(count, shares) for field, count in wanted.items()}
    members: dict[str, list[Tensor]] = {name: [] for name in BASE_SPLITS}
    for place, number in enumerate(classes.tolist()):
        train, validation = (counts[field][place] for field in wanted)
        name = stream.class_names[number]
        _check_class(name, sizes[place], train, validation, block=block)
        order = torch.randperm(sizes[place], generator=generator_of(seed, f"redraw.samples.{name}"))
        shuffled, back = rows[place][order], sizes[place] - validation
        members["train"].append(shuffled[:train])
        members["validation"].append(shuffled[back:])
        members["test"].append(shuffled[train:back])
    return {name: _taken(pool, torch.cat(parts), classes) for name, parts in members.items()}


def _kept(stream: Stream, name: str, classes: Tensor, block: str) -> Split:
    if name not in stream.splits:
        raise DataError(
            f"{block}.train_images: 0 keeps the stream's own splits, but it has no {name!r} split "
            f"(it has {', '.join(stream.splits)}); set train_images and validation_images above 0, "
            "or give it samples under data.split"
        )
    split = stream.splits[name]
    lacking = sorted(set(classes.tolist()) - set(split.classes.tolist()))
    if lacking:
        raise DataError(
            f"{block}.train_images: 0 keeps the stream's own splits, but its {name!r} split has "
            f"no image of class {stream.class_names[lacking[0]]!r}; set train_images and "
            "validation_images above 0, or give it samples under data.split"
        )
    return _taken(split, torch.arange(len(split)), classes)


def _pooled(stream: Stream) -> Split:
    splits = [stream.splits[name] for name in BASE_SPLITS if name in stream.splits]
    return Split(
        torch.cat([split.images for split in splits]), torch.cat([split.labels for split in splits])
    )


def _taken(split: Split, rows: Tensor, classes: Tensor) -> Split:
    """Return the rows in stored order, their labels renumbered."""
    kept = rows.sort().values
    return Split(split.images[kept], torch.searchsorted(classes, split.labels[kept]))


def _check_totals(wanted: dict[str, int], *, classes: int, images: int, block: str) -> None:
    for field, count in wanted.items():
        if count < classes:
            raise DataError(
                f"{block}.{field}: {count} images leave one of the {classes} classes without any; "
                f"use {classes} or more"
            )
    if sum(wanted.values()) + classes > images:
        told = " and ".join(f"{field} {count}" for field, count in wanted.items())
        raise DataError(
            f"{block}.train_images: {told} leave no test image of each of the {classes} classes, "
            f"as the base classes have {images} images in all; lower them, or prepare more images"
        )


def _check_class(name: str, images: int, train: int, validation: int, *, block: str) -> None:
    if train + validation >= images:
        raise DataError(
            f"{block}.train_images: class {name!r} has {images} images, of which {train} would "
            f"train and {validation} validate, and none would test; lower train_images or "
            "validation_images, add images, or take the class out"
        )
