"""A training of tasks on disk: what arms are made of, and what later tasks are learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relearn.training_store import load_training, save_training

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.trained import Trained

_KIND = "relearn-1/lora_ipc_trained"


def save_trained(trained: Trained, folder: Path) -> Path:
    """Write a training and return the path of the document, which pins the tensors too.

    Args:
        trained: All that has been learnt.
        folder: Is made where it is not there.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    return save_training(*trained.plain(), folder, kind=_KIND)


def load_trained(folder: Path) -> Trained:
    """Return the training that ``save_trained`` has written.

    Args:
        folder: Where it lies.

    Raises:
        CheckpointError: A file is missing, damaged, or of another kind.
    """
    from relearn.methods.lora_ipc.trained import Trained

    told, tensors = load_training(
        folder,
        kind=_KIND,
        what="the model with its tasks",
        remedy="restore it, or run `kedro run --pipeline lora_ipc` again (same --env and --params)",
    )
    return Trained.from_plain(told, tensors)
