"""First weights of a net: freshly drawn, timm's, or from a file of another program."""

from __future__ import annotations

import logging
import pickle
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from relearn.errors import CheckpointError, one_of
from relearn.models.architectures import Architecture, build_fresh
from relearn.models.checkpoint import is_checkpoint, load_checkpoint
from relearn.models.heads import find_head

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 3
_logger = logging.getLogger(__name__)


def start_net(
    architecture: Architecture,
    *,
    weights: str,
    path: Path | None = None,
    head: str = "",
    seed: int,
) -> nn.Module:
    """Return a net with the first weights that the parameters ask for, on the CPU.

    Args:
        architecture: The net.
        weights: ``none``, ``timm`` or ``file``.
        path: The file for ``weights: file``.
        head: Name of the last layer; empty finds it.
        seed: Seed of what is freshly drawn: the whole net, or a last layer that does not fit.

    Raises:
        CheckpointError: The weights cannot be fetched, read or do not fit.
        ParameterError: The net or the kind of weights is not known.
        HeadNotFoundError: The last layer is needed and not found.
    """
    if weights == "none":
        return build_fresh(architecture, seed=seed)
    if weights == "timm":
        return _pretrained(architecture, seed=seed)
    if weights != "file" or path is None:
        raise one_of("pretrain.model.weights", weights, ("none", "timm", "file"))
    net = build_fresh(architecture, seed=seed)
    load_weights(net, path, head=head)
    return net


def own_normalisation(
    architecture: Architecture, *, weights: str, path: Path | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and deviation that given weights were trained with, None if not known.

    timm's weights know them, and so do our own checkpoints; other files do not.

    Args:
        architecture: The net.
        weights: ``none``, ``timm`` or ``file``.
        path: The file for ``weights: file``.
    """
    found: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    if weights == "timm":
        from relearn.models.timm_nets import timm_normalisation

        found = timm_normalisation(architecture.name)
    elif weights == "file" and path is not None and is_checkpoint(path):
        told = load_checkpoint(path).architecture
        found = (told.mean, told.std)
    return found if found and len(found[0]) == architecture.in_channels else None


def load_weights(model: nn.Module, path: Path, *, head: str = "") -> bool:
    """Put the weights of a file into the net; a last layer of another size stays as it is.

    Args:
        model: The net, changed in place.
        path: A safetensors file or a state dict that ``torch.save`` wrote.
        head: Name of the last layer; empty finds it.

    Returns:
        Whether the last layer came from the file too.

    Raises:
        CheckpointError: The file cannot be read, or names or shapes do not fit.
        HeadNotFoundError: The last layer does not fit and is not found.
    """
    found, wanted = read_state(path), model.state_dict()
    whole = _head_fits(found, wanted)
    if not whole:
        name = find_head(model, head).name
        own = {key for key in wanted if key.startswith(f"{name}.")}
        found = {k: v for k, v in found.items() if k not in own} | {k: wanted[k] for k in own}
    _require_fit(found, wanted, path)
    model.load_state_dict(found, strict=False)
    if not whole:
        _logger.info("%s: the last layer has another size, so a fresh one is kept", path)
    return whole


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a weights file by name, without running anything in it.

    Wrappers ({"state_dict": ...}) and prefixes of parallel or compiled nets are taken off.

    Args:
        path: A safetensors file, ours included, or one that ``torch.save`` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, or holds more than weights.
    """
    if not path.is_file():
        raise CheckpointError(f"pretrain.model.weights_path: {path}: no such file")
    raw = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for wrapper in _WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(wrapper), Mapping):
            raw = raw[wrapper]
            break
    tensors = {str(k): v for k, v in raw.items()} if isinstance(raw, Mapping) else {}
    if not tensors or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise CheckpointError(
            f"pretrain.model.weights_path: {path}: holds no state dict (tensors by name); save "
            "model.state_dict()"
        )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): v for name, v in tensors.items()}
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        found: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    return found


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"pretrain.model.weights_path: {path}: holds more than weights, or is damaged; it was "
            "not run. Save model.state_dict() as safetensors"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CheckpointError:
    line = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    return CheckpointError(
        f"pretrain.model.weights_path: {path}: truncated or damaged ({line}); fetch it again"
    )


def _pretrained(architecture: Architecture, *, seed: int) -> nn.Module:
    from relearn.models.timm_nets import build_timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # timm draws a last layer that has another size
        return build_timm(architecture, pretrained=True)


def _head_fits(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> bool:
    """Return whether every tensor that is in both has one shape."""
    return all(v.shape == found[k].shape for k, v in wanted.items() if k in found)


def _require_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    # older files lack this counter, which only cumulative averages use
    missing = [k for k in wanted if k not in found and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in found if k not in wanted]
    shapes = [
        f"{k} {tuple(found[k].shape)}, net has {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in found and found[k].shape != v.shape
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(faults.values()):
        said = "; ".join(f"{len(v)} {kind} ({_some(v)})" for kind, v in faults.items() if v)
        raise CheckpointError(
            f"pretrain.model.weights_path: {path} does not fit the net: {said}; "
            "set pretrain.model.name and its options to those of the file"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
