"""Data sets that torchvision fetches and checks against their published checksums.

torchvision is imported inside the functions only: it takes seconds, and most runs do without.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from relearn.data.raw import RawImages, join_parts
from relearn.errors import DataError

_PARTS = ("train", "test")


def _open_part(source: str, root: Path, part: str, download: bool) -> Any:
    """Open one part of a data set, fetching it if ``download``."""
    from torchvision import datasets

    place, train = str(root), part == "train"
    openers: dict[str, Callable[[], Any]] = {
        "omniglot": lambda: datasets.Omniglot(place, background=train, download=download),
        "mnist": lambda: datasets.MNIST(place, train=train, download=download),
        "fashion_mnist": lambda: datasets.FashionMNIST(place, train=train, download=download),
        "cifar10": lambda: datasets.CIFAR10(place, train=train, download=download),
        "cifar100": lambda: datasets.CIFAR100(place, train=train, download=download),
        "svhn": lambda: datasets.SVHN(place, split=part, download=download),
    }
    return openers[source]()


def provide(source: str, root: Path, *, download: bool) -> None:
    """Make sure that the files of a source lie under ``root``, whole.

    Args:
        source: Name as in ``data.source``.
        root: Folder of the downloads; made if absent.
        download: Whether they may be fetched.

    Raises:
        DataError: They are not there and may not, or cannot, be fetched.
    """
    for part in _PARTS:
        try:
            _open_part(source, root, part, False)
        except (RuntimeError, OSError):
            _fetch(source, root, part, download)


def _fetch(source: str, root: Path, part: str, download: bool) -> None:
    if not download:
        raise DataError(
            f"data.source: {source} is not, or not whole, under {root} and data.download is "
            "false; set data.download=true, or give its images as data.source_path (folder or zip)"
        )
    root.mkdir(parents=True, exist_ok=True)
    try:
        _open_part(source, root, part, True)
    except (RuntimeError, OSError, EOFError) as fault:
        raise DataError(
            f"data.source: {source} could not be fetched ({fault}); try again with a network, or "
            "give a folder or zip of its images as data.source_path"
        ) from fault


def read_raw(source: str, root: Path) -> RawImages:
    """Return both parts of cifar10, cifar100 or svhn.

    Args:
        source: Name as in ``data.source``.
        root: Folder where ``provide`` put it.
    """
    parts = [_raw_part(source, _open_part(source, root, part, False)) for part in _PARTS]
    return join_parts(parts, _PARTS)


def _raw_part(source: str, opened: Any) -> RawImages:
    if source == "svhn":  # stored (n, 3, height, width), and its classes have no names
        pictures, labels = np.transpose(opened.data, (0, 2, 3, 1)), opened.labels
        names: tuple[str, ...] = tuple(str(number) for number in range(10))
    else:
        pictures, labels, names = opened.data, opened.targets, tuple(opened.classes)
    numbers = np.asarray(labels, dtype=np.int64)
    return RawImages(np.ascontiguousarray(pictures), numbers, names, np.zeros_like(numbers))
