"""The model registry: versions of exported nets, their aliases, and loading that runs no code.

A ``.pt2`` archive can hold pickles, which run code while they are loaded. Nothing but
``load_model`` loads one: it compares every file with the digest noted at registration, and MLflow
then refuses an archive that holds a pickle.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import CheckpointError, TrackingError
from relearn.provenance import digest, digest_file
from relearn.tracking.client import open_client, refusing

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import Tensor, nn

    from relearn.tracking.handle import RunHandle

_DIGEST, _FACTS = "relearn.digest", "relearn.json"


@dataclass(frozen=True)
class RegisteredModel:
    """A model that was loaded from the registry.

    Attributes:
        name: Name in the registry.
        version: Version loaded.
        module: uint8 images (n, channels, height, width) to probabilities (n, classes).
        class_names: One per output.
        image_shape: (channels, height, width) that the module takes.
        facts: What was said about the model at registration.
    """

    name: str
    version: str
    module: nn.Module
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    facts: Mapping[str, Any]


def register_model(
    handle: RunHandle,
    name: str,
    *,
    module: nn.Module,
    example: Tensor,
    class_names: Sequence[str],
    facts: Mapping[str, Any],
) -> str:
    """Log the module as an MLflow model of the run and return its new version in the registry.

    Args:
        handle: The run that the model belongs to.
        name: Name in the registry.
        module: Takes uint8 (n, channels, height, width), returns probabilities (n, classes).
        example: At least two images, so that the batch stays free.
        class_names: One per output.
        facts: Plain values that are kept with the version.

    Raises:
        TrackingError: The registry does not answer.
    """
    told = {
        "class_names": list(class_names),
        "image_shape": list(example.shape[1:]),
        "facts": dict(facts),
    }
    with tempfile.TemporaryDirectory() as scratch, refusing(handle.address):
        client = open_client(handle.address, handle.timeout_seconds)
        folder = _save(module, example, Path(scratch) / "model", told)
        place = f"model-{digest(told)[:12]}"
        client.log_artifacts(handle.run_id, str(folder), place)
        _ensure_name(client, name)
        source = f"{client.get_run(handle.run_id).info.artifact_uri}/{place}"
        tags = {_DIGEST: _folder_digest(folder), **{k: str(v) for k, v in facts.items()}}
        version = client.create_model_version(name, source, handle.run_id, tags=tags)
    return str(version.version)


def _save(module: nn.Module, example: Tensor, folder: Path, told: Mapping[str, Any]) -> Path:
    """Write MLflow's model folder, with our own facts beside it."""
    import mlflow.pytorch
    import torch

    mlflow.pytorch.save_model(
        module,
        str(folder),
        input_example=example.numpy(),
        serialization_format="pt2",
        # Given, because working them out imports everything again (16 s).
        pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
    )
    text = json.dumps(told, indent=2, sort_keys=True)
    (folder / _FACTS).write_text(text, encoding="utf-8")
    return folder


def _folder_digest(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return digest({str(p.relative_to(folder).as_posix()): digest_file(p) for p in files})


def _ensure_name(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def set_alias(handle: RunHandle, name: str, alias: str, version: str | None) -> None:
    """Let an alias point to a version, or take it away.

    Args:
        handle: Says which store.
        name: Name in the registry.
        alias: Such as ``champion``.
        version: Version; None removes the alias.

    Raises:
        TrackingError: The registry does not answer, or has no such version.
    """
    with refusing(handle.address):
        client = open_client(handle.address, handle.timeout_seconds)
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, version)


def alias_version(handle: RunHandle, name: str, alias: str) -> str | None:
    """Return the version that an alias points to; None where there is none.

    Args:
        handle: Says which store.
        name: Name in the registry.
        alias: Such as ``champion``.

    Raises:
        TrackingError: The registry does not answer.
    """
    with refusing(handle.address):
        client = open_client(handle.address, handle.timeout_seconds)
        return _version_of(client, name, alias)


def _version_of(client: MlflowClient, name: str, alias: str) -> str | None:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def load_model(address: str, name: str, *, alias: str) -> RegisteredModel:
    """Return the version that an alias points to, having run nothing that the file might hold.

    Args:
        address: Absolute tracking address.
        name: Name in the registry.
        alias: Such as ``champion``.

    Raises:
        TrackingError: There is no such model, or the registry does not answer.
        CheckpointError: The files differ from those registered, or hold a pickle.
    """
    from mlflow.artifacts import download_artifacts

    with refusing(address):
        client = open_client(address)
        version = _version_of(client, name, alias)
        if version is None:
            raise TrackingError(
                f"{name}@{alias}: no version has this alias; run `kedro run --pipeline promote`"
            )
        found = client.get_model_version(name, version)
    with tempfile.TemporaryDirectory() as scratch:
        with refusing(address):
            folder = Path(download_artifacts(found.source, dst_path=scratch, tracking_uri=address))
        expected = found.tags.get(_DIGEST, "")
        if _folder_digest(folder) != expected:
            raise CheckpointError(
                f"{name} version {version}: its files are not those that were registered; "
                "do not use them, register the unit again"
            )
        told = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        module = load_exported(folder)
    shape = told["image_shape"]
    names = tuple(told["class_names"])
    return RegisteredModel(
        name, version, module, names, (shape[0], shape[1], shape[2]), told["facts"]
    )


def load_exported(folder: Path) -> nn.Module:
    """Return the module in an MLflow model folder, refusing an archive that holds a pickle.

    Args:
        folder: As written by MLflow's pytorch flavour, format pt2.

    Raises:
        CheckpointError: The archive is damaged or holds a pickle.
    """
    import os

    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    import mlflow.pytorch

    try:
        module: nn.Module = mlflow.pytorch.load_model(str(folder))
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise CheckpointError(f"{folder.name}: the exported model is refused ({line})") from error
    return module
