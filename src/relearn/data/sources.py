"""One road from the name of a source to ``LabelledImages``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from relearn.data import torchvision_sources
from relearn.data.decode import ImageShape, fit_image
from relearn.data.glyphs import NATIVE_SIZE, cached_glyphs
from relearn.data.idx import IDX_SOURCES, has_idx, read_idx_source
from relearn.data.image_folder import read_image_folder, stack
from relearn.data.images import LabelledImages
from relearn.data.manifest import LICENCES, Manifest
from relearn.data.raw import RawImages
from relearn.errors import DataError, one_of
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from relearn.data.archive import ReadLimits


@dataclass(frozen=True)
class GlyphSet:
    """Which characters are drawn; fields as in ``data.glyphs``.

    Attributes:
        classes: Characters.
        drawings: Drawings of each.
        seed: Seed of the alphabet.
    """

    classes: int = 500
    drawings: int = 20
    seed: int = 0


def read_images(
    source: str,
    *,
    path: Path | None = None,
    download: bool = False,
    cache: Path,
    shape: ImageShape,
    limits: ReadLimits,
    glyphs: GlyphSet,
) -> tuple[LabelledImages, Manifest]:
    """Return the images of a source, and what was read.

    Args:
        source: Name as in ``data.source``.
        path: Folder or zip of images to read instead of downloading; for mnist and fashion_mnist a
            folder with idx files will do as well. ``image_folder`` needs it.
        download: Whether a source that is not on this machine may be fetched.
        cache: Folder of downloads and drawn glyphs.
        shape: Wanted size, channels and fit.
        limits: What is refused; read for folders and archives only.
        glyphs: Which characters are drawn; read for ``glyphs`` only.

    Raises:
        ParameterError: The source is not known.
        DataError: The source is not here, or cannot be used; the message holds the remedy.
    """
    if source not in LICENCES:
        raise one_of("data.source", source, LICENCES)
    if source == "glyphs":
        images, manifest = _glyphs(glyphs, shape, cache)
    elif source == "digits":
        images, manifest = from_raw(_digits(), shape, "scikit-learn")
    elif path is not None and not (source in IDX_SOURCES and has_idx(path, source)):
        images, manifest = read_image_folder(path, shape=shape, limits=limits)
    elif source == "image_folder":
        raise DataError(
            "data.source_path: is empty, expected a folder or zip of images; "
            "add --params data.source_path=<folder or zip>"
        )
    else:
        images, manifest = _known(
            source, path=path, download=download, cache=cache, shape=shape, limits=limits
        )
    return images, replace(manifest, source=source, licence=LICENCES[source])


def _known(
    source: str,
    *,
    path: Path | None,
    download: bool,
    cache: Path,
    shape: ImageShape,
    limits: ReadLimits,
) -> tuple[LabelledImages, Manifest]:
    """Read a source with a fixed layout, fetching it first where that is allowed."""
    root = path or cache / "downloads"
    if path is None:
        torchvision_sources.provide(source, root, download=download)
    if source == "omniglot":
        return read_image_folder(root / "omniglot-py", shape=shape, limits=limits)
    raw = (
        read_idx_source(source, root)
        if source in IDX_SOURCES
        else torchvision_sources.read_raw(source, root)
    )
    return from_raw(raw, shape, str(root))


def _glyphs(glyphs: GlyphSet, shape: ImageShape, cache: Path) -> tuple[LabelledImages, Manifest]:
    """Draw at the wanted size, which is sharper than drawing and scaling."""
    images, labels = cached_glyphs(
        glyphs.classes,
        glyphs.drawings,
        seed=glyphs.seed,
        size=shape.size or NATIVE_SIZE,
        cache=cache / "glyphs",
    )
    if shape.channels == 3:
        images = images.repeat(1, 3, 1, 1)
    names = tuple(f"glyph{number:05d}" for number in range(glyphs.classes))
    made = LabelledImages(images, labels, names, torch.zeros_like(labels))
    return made, _manifest("drawn", made)


def _digits() -> RawImages:
    """Return scikit-learn's 1,797 handwritten digits, levels 0 to 16 brought to 0 to 255."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    levels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    names = tuple(str(number) for number in range(10))
    return RawImages(levels, digits.target.astype(np.int64), names, np.zeros(len(levels), np.int64))


def from_raw(raw: RawImages, shape: ImageShape, origin: str) -> tuple[LabelledImages, Manifest]:
    """Return arrays in the wanted shape, with class numbers in the order of sorted names.

    Args:
        raw: As the source delivers them.
        shape: Wanted size, channels and fit.
        origin: Where they come from, for manifest and errors.
    """
    order = sorted(range(len(raw.names)), key=lambda number: raw.names[number])
    renumber = np.empty(len(order), dtype=np.int64)
    renumber[order] = np.arange(len(order))
    pictures = [fit_image(Image.fromarray(picture), shape) for picture in raw.pictures]
    made = LabelledImages(
        images=stack(pictures, origin),
        labels=torch.from_numpy(renumber[raw.labels]),
        class_names=tuple(raw.names[number] for number in order),
        part=torch.from_numpy(raw.part),
        part_names=raw.part_names,
    )
    return made, _manifest(origin, made)


def _manifest(origin: str, made: LabelledImages) -> Manifest:
    content = digest_tensors({"images": made.images, "labels": made.labels, "part": made.part})
    return Manifest(origin=origin, files=len(made.labels), checksum=content)
