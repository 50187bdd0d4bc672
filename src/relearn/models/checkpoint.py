"""A checkpoint is architecture + weights + provenance: tensors and JSON, nothing that can run.

On disk it is one safetensors file whose header holds the JSON and a digest over all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from relearn.atomic import written_atomically
from relearn.errors import CheckpointError
from relearn.models.architectures import Architecture, build_fresh
from relearn.provenance import digest, digest_tensors

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

FORMAT = "relearn-1/checkpoint"
"""What the header of our checkpoint files says they are."""

__all__ = [
    "Architecture",
    "Checkpoint",
    "build",
    "build_fresh",
    "capture",
    "is_checkpoint",
    "load_checkpoint",
    "save_checkpoint",
]


@dataclass(frozen=True)
class Checkpoint:
    """A net at rest.

    Attributes:
        architecture: From which the net is made again.
        weights: State dict on the CPU: parameters and buffers by name.
        provenance: JSON: what made it (configuration, data, seed, class names, epochs, accuracy).
    """

    architecture: Architecture
    weights: Mapping[str, Tensor]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Digest over architecture, provenance and every weight."""
        return digest(
            {
                "architecture": _plain(self.architecture),
                "provenance": _as_json(self.provenance),
                "weights": digest_tensors(self.weights),
            }
        )


def build(checkpoint: Checkpoint) -> nn.Module:
    """Return the net with the checkpoint's weights, on the CPU and in evaluation mode.

    Args:
        checkpoint: It is not changed: the net has copies of the weights.

    Raises:
        CheckpointError: The weights do not fit the architecture.
    """
    net = build_fresh(checkpoint.architecture, seed=0)
    try:
        net.load_state_dict(dict(checkpoint.weights))
    except RuntimeError as error:
        raise CheckpointError(
            f"checkpoint of {checkpoint.architecture.name}: its weights do not fit its "
            f"architecture ({_second_line(error)}); make it again with this version"
        ) from error
    return net.eval()


def capture(
    model: nn.Module,
    architecture: Architecture,
    provenance: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Return a checkpoint of the net as it stands; later training does not change it.

    Args:
        model: The net, on any device.
        architecture: From which the net is made again; its ``classes`` are those of the last layer.
        provenance: JSON: what made it.
    """
    copies = {
        name: tensor.detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    return Checkpoint(architecture, copies, _as_json(provenance or {}))


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint so that ``path`` is either whole or as it was.

    Args:
        checkpoint: What is kept.
        path: A file, usually ``*.safetensors``; its folder is made.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    head = {
        "format": FORMAT,
        "architecture": _plain(checkpoint.architecture),
        "provenance": _as_json(checkpoint.provenance),
        "digest": checkpoint.digest,
    }
    # clones, because safetensors refuses tensors that share memory (tied weights)
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in checkpoint.weights.items()}
    with written_atomically(path) as temporary:
        try:
            save_file(whole, temporary, metadata={"head": json.dumps(head, sort_keys=True)})
        except SafetensorError as error:  # this is how it reports a full disk
            raise OSError(f"{path}: could not be written ({error})") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint of a file, after its digest has been found right.

    Args:
        path: A file that ``save_checkpoint`` wrote.

    Raises:
        CheckpointError: The file is missing, truncated, damaged or no checkpoint of ours.
    """
    head, weights = _read(path)
    try:
        described = head["architecture"]
        rows = {name: tuple(described.get(name, ())) for name in ("mean", "std", "growth")}
        architecture = Architecture(**{**described, **rows})
        checkpoint = Checkpoint(architecture, weights, head["provenance"])
        stored = head["digest"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: its header is damaged ({error}); restore the file or make it again"
        ) from error
    if checkpoint.digest != stored:
        raise CheckpointError(
            f"{path}: damaged (digest {checkpoint.digest[:12]}, expected {stored[:12]}); "
            "restore the file or make it again"
        )
    return checkpoint


def is_checkpoint(path: Path) -> bool:
    """Return whether a file is a checkpoint of ours, without reading its weights.

    Args:
        path: Any file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {}).get("head", "{}"))
    except (SafetensorError, ValueError, OSError):
        return False
    return isinstance(head, dict) and head.get("format") == FORMAT


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            head = json.loads((file.metadata() or {}).get("head", "{}"))
            # a copy, so that the memory-mapped file may be replaced while the weights are in use
            weights = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, OSError) as error:
        line = str(error).splitlines()[0][:120]
        raise CheckpointError(
            f"{path}: truncated or damaged ({line}); restore the file or make it again"
        ) from error
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a checkpoint of relearn; for the weights of another program use "
            "pretrain.model.weights: file"
        )
    return head, weights


def _plain(architecture: Architecture) -> dict[str, Any]:
    plain = _as_json(asdict(architecture))
    # left out where there is none, so that files of before have the digest they were written with
    return plain if plain["growth"] else {k: v for k, v in plain.items() if k != "growth"}


def _as_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value as it will come back from disk, so that digests agree before and after."""
    found: dict[str, Any] = json.loads(json.dumps(dict(value), sort_keys=True))
    return found


def _second_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[min(1, len(lines) - 1)][:160] if lines else type(error).__name__
