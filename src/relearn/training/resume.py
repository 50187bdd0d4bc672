"""Resume points: the whole state of a training in one safetensors file, tensors and JSON only."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from relearn.atomic import written_atomically
from relearn.provenance import digest, digest_tensors

_FORMAT = "relearn-1/resume"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResumePoint:
    """One file that holds a training as it stood.

    Attributes:
        path: The file.
        key: What the training is, such as a digest; a point with another key is passed over.
        pause_seconds: A point younger than this is left as it is, because an epoch of a small net
            is over sooner than its state is written; so much work at most is lost.
    """

    path: Path
    key: str = ""
    pause_seconds: float = 0.0

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state so that the file is either whole or as it was.

        Args:
            state: Nested dicts, lists and tuples of tensors, numbers, strings, None and booleans.

        Raises:
            OSError: The folder cannot be written, or the disk is full.
            TypeError: The state holds something else.
        """
        if self._is_young():
            return
        plain, tensors = pack(state)
        head = {"format": _FORMAT, "key": self.key, "state": plain}
        head["digest"] = digest({"head": dict(head), "tensors": digest_tensors(tensors)})
        with written_atomically(self.path) as temporary:
            try:
                save_file(tensors, temporary, metadata={"head": json.dumps(head)})
            except SafetensorError as error:  # this is how it reports a full disk
                raise OSError(f"{self.path}: could not be written ({error})") from error

    def load(self) -> dict[str, Any] | None:
        """Return the state, or None where there is none that can be used.

        A damaged file is warned about and training starts afresh: it only saves time.
        """
        if not self.path.is_file():
            return None
        try:
            head, tensors = _read(self.path)
        except (SafetensorError, ValueError, OSError, KeyError, TypeError) as error:
            line = (str(error) or type(error).__name__).splitlines()[0][:120]
            _logger.warning(
                "%s: damaged resume point (%s); training starts afresh", self.path, line
            )
            return None
        if head["key"] != self.key:
            _logger.info("%s: resume point of another training; starting afresh", self.path)
            return None
        state: dict[str, Any] = unpack(head["state"], tensors)
        return state

    def _is_young(self) -> bool:
        """Return whether the last point was written within the pause."""
        if self.pause_seconds <= 0 or not self.path.is_file():
            return False
        return 0 <= time.time() - self.path.stat().st_mtime < self.pause_seconds

    def clear(self) -> None:
        """Delete the file, if it is there."""
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class NoResume:
    """Keeps nothing: for short trainings and tests."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep nothing."""

    def load(self) -> dict[str, Any] | None:
        """Return None: there is nothing to go on from."""
        return None

    def clear(self) -> None:
        """Delete nothing."""


def pack(value: Any) -> tuple[Any, dict[str, Tensor]]:
    """Return a JSON form of a nested state, and its tensors by number.

    Dict keys keep their type (an optimizer's are integers), tuples stay tuples, and a tensor's
    memory layout is noted, because fused optimizers need moments laid out like their weights.

    Args:
        value: Nested dicts, lists and tuples of tensors, numbers, strings, None and booleans.

    Raises:
        TypeError: It holds something else.
    """
    tensors: dict[str, Tensor] = {}
    return _packed(value, tensors), tensors


def unpack(plain: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the nested state that ``pack`` was given.

    Args:
        plain: The JSON form.
        tensors: The tensors by number.
    """
    if not isinstance(plain, dict):
        return plain
    [(kind, inner)] = plain.items()
    if kind == "dict":
        return {unpack(k, tensors): unpack(v, tensors) for k, v in inner}
    if kind == "list":
        return [unpack(v, tensors) for v in inner]
    if kind == "tuple":
        return tuple(unpack(v, tensors) for v in inner)
    tensor = tensors[inner]
    return tensor.to(memory_format=torch.channels_last) if kind == "channels_last" else tensor


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"channels_last" if _is_channels_last(value) else "tensor": name}
    if isinstance(value, Mapping):
        return {"dict": [[_packed(k, tensors), _packed(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_packed(v, tensors) for v in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a resume point cannot hold a {type(value).__name__}")


def _is_channels_last(value: Tensor) -> bool:
    if value.ndim != 4 or value.is_contiguous():
        return False
    return value.is_contiguous(memory_format=torch.channels_last)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with safe_open(path, framework="pt") as file:
        head = json.loads((file.metadata() or {})["head"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    stored = head.pop("digest")
    if digest({"head": head, "tensors": digest_tensors(tensors)}) != stored:
        raise ValueError("its digest is wrong")
    return head, tensors
