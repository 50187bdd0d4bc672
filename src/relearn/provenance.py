"""Digests: the address of a configuration, of tensors, and of the files between two pipelines.

A stage file carries the ``Provenance`` of what made it, so that a pipeline run alone can refuse an
input that belongs to other parameters instead of mixing two data sets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from relearn.errors import StaleInputError


class _Arrayish(Protocol):
    """What both a torch tensor and a numpy array offer."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...


def digest(value: Any) -> str:
    """Return the sha256 of a JSON-like value or pydantic model, independent of key order.

    Args:
        value: Anything ``json.dumps`` accepts, or a pydantic model.
    """
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_tensors(tensors: Mapping[str, _Arrayish]) -> str:
    """Return the sha256 over names, shapes, types and bytes, in sorted order of the names.

    Args:
        tensors: Name to torch tensor (any device, any dtype) or numpy array, any shape.
    """
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(f"{name}:{tuple(tensors[name].shape)}:{tensors[name].dtype};".encode())
        total.update(_raw_bytes(tensors[name]))
    return total.hexdigest()


def _raw_bytes(array: Any) -> Any:
    if not hasattr(array, "detach"):
        return memoryview(array.copy(order="C")).cast("B")
    plain = array.detach().cpu().contiguous()
    import torch

    return memoryview(plain.reshape(-1).view(torch.uint8).numpy()).cast("B")


@dataclass(frozen=True)
class Provenance:
    """What made a stage file.

    Attributes:
        stage: Name of the file's catalog entry, such as ``stream``.
        pipeline: The pipeline that makes it again, such as ``prepare_data``.
        config: Digest of the configuration that made it.
        inputs: Name of each input to the digest of its content.
        content: Digest of the content itself.
    """

    stage: str
    pipeline: str
    config: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    content: str = ""

    def require(self, *, config: str, inputs: Mapping[str, str] | None = None) -> None:
        """Check that the present parameters and inputs are those that made this file.

        Args:
            config: Digest of the present configuration of the stage.
            inputs: Digests of the present inputs; only the names given are compared.

        Raises:
            StaleInputError: Naming the stage and the pipeline to run again.
        """
        changed = ["parameters"] if config != self.config else []
        changed += [n for n, d in (inputs or {}).items() if self.inputs.get(n) != d]
        if changed:
            raise StaleInputError(
                f"{self.stage}: made from other {' and '.join(changed)} than the present ones; "
                f"run `kedro run --pipeline {self.pipeline}` again (same --env and --params)"
            )

    def to_json(self) -> str:
        """Return the JSON text kept beside or inside the file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Return the provenance written by ``to_json``."""
        return cls(**json.loads(text))


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's bytes.

    Args:
        path: An existing file.
    """
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
