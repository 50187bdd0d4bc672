"""Own images: class folders, with or without split folders, in a folder or a zip archive.

Read as ``<class>/<image>`` or ``<split>/<class>/<image>``. Folders that wrap everything are taken
off; nested class folders are joined by a dot (``Latin/character01`` is ``Latin.character01``).
Class numbers follow the sorted class names, images the sorted file names, on any file system.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from relearn.data.archive import ImageFiles, ReadLimits, open_files
from relearn.data.decode import Decoded, ImageShape, Pixels, decode_files
from relearn.data.images import LabelledImages, Refused
from relearn.data.manifest import Manifest
from relearn.errors import DataError

SPLIT_FOLDERS = frozenset(
    {"train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval"}
    | {"evaluation", "background", "holdout", "images_background", "images_evaluation"}
)


@dataclass(frozen=True)
class Place:
    """Where a file stands: its part of the source and its class.

    Attributes:
        name: The file's name.
        part: Split folder, lower case; ``all`` where there are none.
        label: Class name.
    """

    name: str
    part: str
    label: str


def read_image_folder(
    path: Path, *, shape: ImageShape, limits: ReadLimits, least_classes: int = 2
) -> tuple[LabelledImages, Manifest]:
    """Return the images of a folder or zip archive, and what was read.

    Args:
        path: Folder or archive.
        shape: Wanted size, channels and fit.
        limits: What is refused.
        least_classes: Fewer class folders than this are refused; 1 where classes are added.

    Raises:
        DataError: The folder or archive cannot be used; the message says why.
    """
    with open_files(path, limits) as files:
        places, homeless = find_classes(files.names)
        _require_classes(files, {place.label for place in places}, least_classes)
        chosen = ImageFiles(files.origin, [p.name for p in places], files.read, files.ignored)
        decoded = decode_files(chosen, shape, limits)
    refused = _refused(places, decoded)
    _require_readable(files.origin, refused, len(places), limits.refused_share)
    kept = [i for i, one in enumerate(decoded) if one.pixels is not None]
    _require_classes(files, {places[i].label for i in kept}, least_classes)
    images = stack([one.pixels for one in decoded if one.pixels is not None], files.origin)
    ignored = {**files.ignored, **({"without_class_folder": homeless} if homeless else {})}
    manifest = Manifest(
        origin=files.origin,
        files=len(places),
        refused=len(refused),
        ignored=ignored,
        checksum=_checksum(places, decoded),
    )
    return _labelled(images, [places[i] for i in kept], refused), manifest


def find_classes(names: Sequence[str]) -> tuple[list[Place], int]:
    """Return the place of each file that has a class folder, and how many files have none.

    Args:
        names: Sorted file names with ``/`` between folders.

    Raises:
        DataError: Two folders give one class name.
    """
    folders = _unwrapped([tuple(name.split("/")[:-1]) for name in names])
    split = all(f and f[0].lower() in SPLIT_FOLDERS for f in folders) and any(
        len(f) > 1 for f in folders
    )
    places: list[Place] = []
    joined: dict[str, tuple[str, ...]] = {}
    for name, folder in zip(names, folders, strict=True):
        part, classes = (folder[0].lower(), folder[1:]) if split else ("all", folder)
        if not classes:
            continue
        label = ".".join(classes)
        if joined.setdefault(label, classes) != classes:
            raise DataError(
                f"data.source_path: the folders {'/'.join(joined[label])} and "
                f"{'/'.join(classes)} give one class name, {label}; rename one"
            )
        places.append(Place(name, part.removeprefix("images_"), label))
    return places, len(names) - len(places)


def _unwrapped(folders: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Take off folders that wrap everything, as long as each file keeps a folder of its own."""
    while True:
        first = {folder[:1] for folder in folders}
        wraps = len(first) == 1 and all(len(folder) > 1 for folder in folders)
        if not wraps or folders[0][0].lower() in SPLIT_FOLDERS:
            return folders
        folders = [folder[1:] for folder in folders]


def stack(pictures: Sequence[Pixels], origin: str) -> Tensor:
    """Return pictures as one tensor; grey ones become RGB where any has colour.

    Args:
        pictures: uint8 (height, width) or (height, width, 3), 1 or more.
        origin: Name for the error message.

    Returns:
        uint8, shape (n, channels, height, width).

    Raises:
        DataError: They are not square and of one size.
    """
    sizes = sorted({picture.shape[:2] for picture in pictures})
    if len(sizes) > 1 or sizes[0][0] != sizes[0][1]:
        shown = ", ".join(f"{width}x{height}" for height, width in sizes[:3])
        raise DataError(
            f"data.image.size: 0 keeps the size of the source, but the images of {origin} are "
            f"{shown}{' ...' if len(sizes) > 3 else ''}; set a size, such as data.image.size=32"
        )
    channels = 3 if any(picture.ndim == 3 for picture in pictures) else 1
    size = sizes[0][0]
    images = np.empty((len(pictures), channels, size, size), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        images[row] = picture.transpose(2, 0, 1) if picture.ndim == 3 else picture
    return torch.from_numpy(images)


def _labelled(images: Tensor, places: list[Place], refused: list[Refused]) -> LabelledImages:
    class_names = tuple(sorted({place.label for place in places}))
    part_names = tuple(sorted({place.part for place in places}))
    number = {name: i for i, name in enumerate(class_names)}
    part = {name: i for i, name in enumerate(part_names)}
    return LabelledImages(
        images=images,
        labels=torch.tensor([number[place.label] for place in places]),
        class_names=class_names,
        part=torch.tensor([part[place.part] for place in places]),
        part_names=part_names,
        refused=tuple(refused),
    )


def _checksum(places: list[Place], decoded: list[Decoded]) -> str:
    """Return the sha256 over names and contents: it changes with any file, not with its date."""
    total = hashlib.sha256()
    for place, one in zip(places, decoded, strict=True):
        total.update(f"{place.part}/{place.label}/{one.checksum};".encode())
    return total.hexdigest()


def _refused(places: list[Place], decoded: list[Decoded]) -> list[Refused]:
    pairs = zip(places, decoded, strict=True)
    return [Refused(place.name, one.reason) for place, one in pairs if one.pixels is None]


def _require_readable(origin: str, refused: list[Refused], total: int, allowed: float) -> None:
    if len(refused) > allowed * total:
        first = ", ".join(f"{one.file} ({one.reason})" for one in refused[:3])
        raise DataError(
            f"data.limits.refused_share: {len(refused)} of {total} images of {origin} cannot be "
            f"read ({len(refused) / total:.1%}, allowed are {allowed:.1%}): {first}"
            f"{' ...' if len(refused) > 3 else ''}; mend or remove them, or raise the share"
        )


def _require_classes(files: ImageFiles, classes: set[str], least: int) -> None:
    if len(classes) < least:
        have = f"one class ({classes.copy().pop()})" if classes else "no class folder"
        raise DataError(
            f"data.source_path: {files.origin} has {have}; expected {least} or more, as "
            "<class>/<image> or <split>/<class>/<image>"
        )
