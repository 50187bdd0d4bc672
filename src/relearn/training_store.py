"""A finished training on disk: ``trained.json`` and ``trained.safetensors``, nothing executable.

The document pins the tensors by their digest, so that a half-written, damaged or exchanged file is
never taken for a training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import write_text, written_atomically
from relearn.errors import CheckpointError
from relearn.provenance import digest, digest_tensors

if TYPE_CHECKING:
    from torch import Tensor

TOLD, TENSORS = "trained.json", "trained.safetensors"


def save_training(
    told: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path, *, kind: str
) -> Path:
    """Write a training and return the path of the document.

    Args:
        told: All that is no tensor; plain values.
        tensors: By name.
        folder: Is made where it is not there.
        kind: Whose training it is; it is read by the same kind alone.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    # cloned: two names that share a tensor would be refused
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    with written_atomically(folder / TENSORS) as temporary:
        save_file(whole, temporary)
    document = {
        "format": kind,
        "digest": digest(told),
        "tensors": digest_tensors(whole),
        "told": told,
    }
    write_text(folder / TOLD, json.dumps(document))
    return folder / TOLD


def load_training(
    folder: Path, *, kind: str, what: str, remedy: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what ``save_training`` was given.

    Args:
        folder: Where it lies.
        kind: As it was saved.
        what: What cannot be read, for the message.
        remedy: What to do then, for the message.

    Raises:
        CheckpointError: A file is missing, damaged, or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    def damaged(path: Path, why: str) -> CheckpointError:
        return CheckpointError(f"{path}: {what} cannot be read ({why}); {remedy}")

    try:
        document: dict[str, Any] = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        if document["format"] != kind or document["digest"] != digest(document["told"]):
            raise damaged(folder / TOLD, "its digest is another one")
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise damaged(folder, type(error).__name__) from error
    if digest_tensors(tensors) != document["tensors"]:
        raise damaged(folder / TENSORS, "its digest is another one")
    return document["told"], tensors
