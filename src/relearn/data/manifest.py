"""What was read and under which terms: the raw manifest, beside the checksum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LICENCES = {
    "glyphs": "drawn by this program; free of rights of others",
    "digits": "UCI Optical Recognition of Handwritten Digits, in scikit-learn; CC BY 4.0",
    "omniglot": "MIT, (c) 2015 Brenden Lake",
    "mnist": "none stated at its origin; cite LeCun, Bottou, Bengio and Haffner 1998",
    "fashion_mnist": "MIT, (c) 2017 Zalando SE",
    "cifar10": "none stated at its origin; cite Krizhevsky 2009",
    "cifar100": "none stated at its origin; cite Krizhevsky 2009",
    "svhn": "for non-commercial use only, as stated at its origin; cite Netzer et al. 2011",
    "image_folder": "as the owner of the images decides",
}
"""Licence note of each source; a reminder, not advice."""


@dataclass(frozen=True)
class Manifest:
    """What one reading of a source found.

    Attributes:
        origin: Folder, archive or library it was read from.
        files: Image files (or images, where a file holds many) found.
        checksum: sha256 over names and contents.
        refused: Files that could not be read.
        ignored: Why to how many files were passed over.
        source: Name as in ``data.source``.
        licence: Note on the terms.
    """

    origin: str
    files: int
    checksum: str
    refused: int = 0
    ignored: Mapping[str, int] = field(default_factory=dict)
    source: str = "image_folder"
    licence: str = LICENCES["image_folder"]

    def as_dict(self) -> dict[str, Any]:
        """Return a plain dictionary for JSON."""
        return asdict(self)
