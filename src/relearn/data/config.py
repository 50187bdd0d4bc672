"""What may be set under ``data`` in the parameters. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.provenance import digest
from relearn.strict import Strict

Source = Literal[
    "glyphs",
    "digits",
    "omniglot",
    "mnist",
    "fashion_mnist",
    "cifar10",
    "cifar100",
    "svhn",
    "image_folder",
]
"""The names that ``data.source`` may have."""


class ImageConfig(Strict):
    """The shape every image is brought to.

    Attributes:
        size: Height = width in pixels, 4 to 1024; 0 = as in the source, which must then be square
            and of one size.
        channels: 1 = grey, 3 = RGB, 0 = as in the source (RGB as soon as one image has colour).
        fit: How an image that is not square becomes square: ``crop`` scales the shorter side to
            ``size`` and cuts the middle out, ``stretch`` scales both sides.
    """

    size: int = Field(ge=0, le=1024)
    channels: Literal[0, 1, 3]
    fit: Literal["crop", "stretch"]

    @model_validator(mode="after")
    def _not_tiny(self) -> Self:
        if 0 < self.size < 4:
            raise ValueError(f"size: got {self.size}, expected 0 or 4 to 1024 pixels")
        return self


class GlyphsConfig(Strict):
    """The embedded set of drawn characters; read only where ``source`` is ``glyphs``.

    Attributes:
        classes: Characters drawn, 2 to 20000.
        drawings: Drawings of each character, one by each drawer, 2 to 1000.
        seed: Seed of the alphabet; another seed draws other characters.
    """

    classes: int = Field(ge=2, le=20_000)
    drawings: int = Field(ge=2, le=1_000)
    seed: int = Field(ge=0)


class LimitsConfig(Strict):
    """What is refused while images are read from a folder or archive.

    Attributes:
        refused_share: Share of unreadable images up to which they are listed and skipped, 0 to 1.
        decode_workers: Threads that decode images; 0 = one for each core.
        max_pixels: Pixels of one image above which it counts as a decompression bomb.
        max_total_bytes: Bytes above which an archive, unpacked, or all images, decoded, are
            refused.
        max_ratio: Unpacked over packed size of one archive entry above which it is a bomb.
    """

    refused_share: float = Field(ge=0, le=1)
    decode_workers: int = Field(ge=0, le=256)
    max_pixels: int = Field(ge=1, le=89_478_485)  # Pillow's own limit is the upper end
    max_total_bytes: int = Field(ge=1)
    max_ratio: float = Field(gt=1)


class SplitConfig(Strict):
    """How images are divided; the result is the table ``splits.csv``.

    Attributes:
        by: ``class`` keeps whole classes apart (base, selection and transfer classes); ``sample``
            divides the samples of every class.
        seed: Seed of all draws of the split.
        base_part: Part of the source (such as ``background`` or ``train``) that base classes, or
            by sample the training and validation samples, come from; empty = any part.
        transfer_part: By class: the part that selection and transfer classes come from. By sample:
            the part that becomes ``test`` whole. Empty = any part, or no part of its own.
        base_classes: Classes to pre-train on; 0 = all that are left.
        selection_classes: Classes never pre-trained on, for choosing rates; 0 = a fifth, null =
            none: for ``lora_ipc`` and ``last_layer_probe``, which do without.
        transfer_classes: Other unseen classes, for reporting; 0 = a fifth.
        train_share: Share of the samples of a base class that trains, 0 to 1.
        validation_share: Share that validates; what is left over is the ``test`` split.
        support_per_class: Labelled samples of an unseen class; 0 = ``train_share`` of them.
        query_per_class: Samples of an unseen class that score; 0 = all the others.
        tasks: Tasks of the class-incremental order; 0 = ten, or one a class where fewer.
    """

    by: Literal["class", "sample"]
    seed: int = Field(ge=0)
    base_part: str
    transfer_part: str
    base_classes: int = Field(ge=0)
    selection_classes: int | None = Field(ge=0)
    transfer_classes: int = Field(ge=0)
    train_share: float = Field(gt=0, le=1)
    validation_share: float = Field(ge=0, lt=1)
    support_per_class: int = Field(ge=0)
    query_per_class: int = Field(ge=0)
    tasks: int = Field(ge=0)

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        total = self.train_share + self.validation_share
        if total > 1 + 1e-9:
            raise ValueError(
                f"train_share + validation_share: got {total:g}, expected at most 1 "
                "(what is left over is the test split)"
            )
        return self


class DataConfig(Strict):
    """Which images are read and how they are divided.

    Attributes:
        source: Where the images come from.
        source_path: Folder or zip of images, needed by ``image_folder``. Other sources read it
            instead of downloading: as class folders, or for mnist and fashion_mnist as idx files.
            Empty = none.
        download: Whether a source that is not on this machine may be fetched.
        cache_folder: Folder for downloads and drawn glyphs, shared by all profiles.
        image: The shape every image is brought to.
        glyphs: The embedded set of drawn characters.
        limits: What is refused while reading.
        split: How the images are divided.
    """

    source: Source
    source_path: str
    download: bool
    cache_folder: str = Field(min_length=1)
    image: ImageConfig
    glyphs: GlyphsConfig
    limits: LimitsConfig
    split: SplitConfig

    def images_digest(self) -> str:
        """Return the digest of what decides the images: source, shape and limits of refusal.

        ``download``, ``cache_folder`` and ``decode_workers`` change no pixel and are left out, and
        so are the glyph settings of another source.
        """
        kept: dict[str, object] = {
            "source": self.source,
            "source_path": self.source_path,
            "image": self.image.model_dump(),
            "refused_share": self.limits.refused_share,
        }
        if self.source == "glyphs":
            kept["glyphs"] = self.glyphs.model_dump()
        return digest(kept)

    def stream_digest(self) -> str:
        """Return the digest of what decides the stream: the images and their split.

        Pipelines that read the stream compare this with its provenance.
        """
        return digest({"images": self.images_digest(), "split": self.split.model_dump()})
