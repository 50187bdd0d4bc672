"""A training of tasks on disk: ``trained.json`` and ``trained.safetensors``, nothing executable.

It is what arms are made of, and what further tasks are learnt from months later.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import write_text, written_atomically
from relearn.errors import CheckpointError
from relearn.provenance import digest, digest_tensors

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.trained import Trained

TOLD, TENSORS = "trained.json", "trained.safetensors"
_FORMAT = "relearn-1/lora_ipc_trained"


def save_trained(trained: Trained, folder: Path) -> Path:
    """Write a training and return the path of the document, which pins the tensors too.

    Args:
        trained: All that has been learnt.
        folder: Is made where it is not there.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    told, tensors = trained.plain()
    # cloned: two parts that share a tensor would be refused
    whole = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    with written_atomically(folder / TENSORS) as temporary:
        save_file(whole, temporary)
    document = {
        "format": _FORMAT,
        "digest": digest(told),
        "tensors": digest_tensors(whole),
        "told": told,
    }
    write_text(folder / TOLD, json.dumps(document))
    return folder / TOLD


def load_trained(folder: Path) -> Trained:
    """Return the training that ``save_trained`` has written.

    Args:
        folder: Where it lies.

    Raises:
        CheckpointError: A file is missing, damaged, or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from relearn.methods.lora_ipc.trained import Trained

    try:
        document: dict[str, Any] = json.loads((folder / TOLD).read_text(encoding="utf-8"))
        if document["format"] != _FORMAT or document["digest"] != digest(document["told"]):
            raise _damaged(folder / TOLD, "its digest is another one")
        tensors = load_file(folder / TENSORS)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise _damaged(folder, type(error).__name__) from error
    if digest_tensors(tensors) != document["tensors"]:
        raise _damaged(folder / TENSORS, "its digest is another one")
    return Trained.from_plain(document["told"], tensors)


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: the model with its tasks cannot be read ({why}); restore it, or run "
        "`kedro run --pipeline lora_ipc` again (same --env and --params)"
    )
