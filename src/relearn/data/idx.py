"""MNIST and Fashion-MNIST from idx files, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from relearn.data.raw import RawImages, join_parts
from relearn.errors import DataError

IDX_SOURCES = {
    "mnist": tuple(str(number) for number in range(10)),
    "fashion_mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
}
"""Source to its class names, in the order of the labels on file."""

_PREFIXES = {"train": "train", "test": "t10k"}


def read_idx_source(source: str, root: Path) -> RawImages:
    """Return both parts of a data set that is kept in idx files.

    Args:
        source: ``mnist`` or ``fashion_mnist``.
        root: A folder; torchvision's layout below it (``MNIST/raw``) is looked at first.

    Raises:
        DataError: A file is missing or damaged.
    """
    names = IDX_SOURCES[source]
    parts = []
    for prefix in _PREFIXES.values():
        pictures = read_idx(_find(root, source, f"{prefix}-images-idx3-ubyte"))
        labels = read_idx(_find(root, source, f"{prefix}-labels-idx1-ubyte")).astype(np.int64)
        if pictures.ndim != 3 or labels.shape != pictures.shape[:1] or labels.max() >= len(names):
            raise DataError(
                f"data.source_path: {root} has {prefix} images of shape {pictures.shape} and "
                f"labels of shape {labels.shape}, which do not belong together; get them again"
            )
        parts.append(RawImages(pictures, labels, names, np.zeros_like(labels)))
    return join_parts(parts, tuple(_PREFIXES))


def has_idx(root: Path, source: str) -> bool:
    """Return whether a folder holds the idx files of a source, rather than images.

    Args:
        root: Any path.
        source: ``mnist`` or ``fashion_mnist``.
    """
    return any(path.is_file() for path in _candidates(root, source, "train-images-idx3-ubyte"))


def _candidates(root: Path, source: str, name: str) -> list[Path]:
    below = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}[source]
    folders = (root / below / "raw", root / "raw", root)
    return [folder / file for folder in folders for file in (name, f"{name}.gz")]


def _find(root: Path, source: str, name: str) -> Path:
    found = [path for path in _candidates(root, source, name) if path.is_file()]
    if not found:
        raise DataError(
            f"data.source_path: {root} has no {name} or {name}.gz; put the four {source} files "
            "there, or leave the path empty and set data.download=true"
        )
    return found[0]


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Return the array of one idx file of unsigned bytes.

    Args:
        path: The file; gzipped if its name ends in ``.gz``.

    Raises:
        DataError: It is damaged or holds something else.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as fault:
        raise DataError(f"data.source_path: {path} is damaged ({fault}); get it again") from fault
    # header: two zero bytes, type 8 (unsigned byte), number of axes, then each axis as 4 bytes
    axes = data[3] if len(data) > 4 and data[:3] == b"\0\0\x08" else 0
    start = 4 + 4 * axes
    shape = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, start, 4))
    if axes not in (1, 3) or len(data) - start != int(np.prod(shape)):
        raise DataError(
            f"data.source_path: {path} is no idx file of unsigned bytes, or is cut short; "
            "get it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
