"""A finished adversarial training on disk: what arms are made of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relearn.training_store import load_training, save_training

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.trained import Trained

_KIND = "relearn-1/trained"


def save_trained(trained: Trained, folder: Path) -> Path:
    """Write a training and return the path of the document, which pins the tensors too.

    Args:
        trained: Every model it can deliver, and its books.
        folder: The unit's own folder.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    return save_training(*trained.plain(), folder, kind=_KIND)


def load_trained(folder: Path) -> Trained:
    """Return the training that ``save_trained`` has written.

    Args:
        folder: The unit's own folder.

    Raises:
        CheckpointError: A file is missing, damaged, or of another kind.
    """
    from relearn.methods.forget_relearn.trained import Trained

    told, tensors = load_training(
        folder,
        kind=_KIND,
        what="the training",
        remedy="delete the folder and run "
        "`kedro run --pipeline forget_relearn` again (same --env and --params)",
    )
    return Trained.from_plain(told, tensors)
