"""All parameters as one checked tree, and every fault in them as one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, Field, ValidationError

from relearn.data.config import DataConfig
from relearn.errors import ParameterError, near_miss
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.methods.forget_relearn.search_config import ForgetRelearnSearchConfig
from relearn.methods.grow.config import GrowConfig
from relearn.methods.grow.explore_config import GrowExploreConfig
from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
from relearn.methods.lora_ipc.config import LoraIpcConfig
from relearn.methods.lora_ipc.operate_config import LoraIpcOperateConfig
from relearn.methods.zap.config import ZapConfig
from relearn.methods.zap.extend_config import FROM_BASE, AddClassesConfig
from relearn.methods.zap.map_config import ZapMapConfig
from relearn.reports.config import CompareConfig, PromoteConfig
from relearn.strict import Strict
from relearn.tracking.config import TrackingConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

_SHOWN = 60
_OWN_PATH = re.compile(r"^([a-z_][\w.]*): ")


class SeedsConfig(Strict):
    """The pairs that are trained; not a list, because ``--params`` splits at commas.

    Attributes:
        first: First seed.
        count: Number of seeds from there on.
    """

    first: int = Field(ge=0)
    count: int = Field(ge=1)

    @property
    def all(self) -> range:
        """The seeds in order."""
        return range(self.first, self.first + self.count)


class StorageConfig(Strict):
    """Where files go.

    Attributes:
        folder: Folder of this profile, absolute once checked.
    """

    folder: str = Field(min_length=1)


class Parameters(Strict):
    """Every parameter of the project.

    Attributes:
        profile: Folder of this run's files below the storage root.
        storage: Where files go.
        seeds: The pairs.
        execution: Device, precision and workers.
        tracking: MLflow.
        data: Which images, and how they are divided.
        pretrain: The base checkpoint.
        zap: Resetting the last layer.
        zap_map: Where, and on how much data, zapping pays.
        forget_relearn: Forgetting part of the weights and relearning, in adversarial training.
        grow: Growing a trained net and training on from there.
        lora_ipc: Tasks one after the other with low-rank modules.
        lora_ipc_operate: What is done with a model that has learnt some.
        last_layer_probe: What fixed features and a convex head earn.
        forget_relearn_search: Which of its settings to propose, within a budget.
        grow_explore: Which larger net is worth having.
        compare: Comparison and report.
        promote: Roll-out.
        add_classes: New classes for a trained checkpoint.
    """

    profile: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    storage: StorageConfig
    seeds: SeedsConfig
    execution: ExecutionConfig
    tracking: TrackingConfig
    data: DataConfig
    pretrain: PretrainConfig
    zap: ZapConfig
    zap_map: ZapMapConfig
    forget_relearn: ForgetRelearnConfig
    grow: GrowConfig
    lora_ipc: LoraIpcConfig
    lora_ipc_operate: LoraIpcOperateConfig
    last_layer_probe: LastLayerProbeConfig
    forget_relearn_search: ForgetRelearnSearchConfig
    grow_explore: GrowExploreConfig
    compare: CompareConfig
    promote: PromoteConfig
    add_classes: AddClassesConfig

    def blocks(self) -> dict[str, Any]:
        """Return each top-level name with its typed value, as Kedro's ``params:`` entries hold."""
        return {name: getattr(self, name) for name in type(self).model_fields}


def check_parameters(raw: Mapping[str, Any], project: Path) -> Parameters:
    """Return the typed parameters with absolute paths.

    Args:
        raw: The merged tree: base, environment and command line.
        project: Root of the project, which relative paths start from.

    Raises:
        ParameterError: One line for each fault: the parameter as it stands in YAML, what it got,
            what was expected, the near miss.
    """
    try:
        return Parameters.model_validate(_with_absolute_paths(raw, project))
    except ValidationError as error:
        lines = [_line(fault) for fault in error.errors(include_url=False)]
        raise ParameterError("\n".join(dict.fromkeys(lines))) from error


def _with_absolute_paths(raw: Mapping[str, Any], project: Path) -> dict[str, Any]:
    tree = dict(raw)
    paths = ("storage.folder", "data.source_path", "data.cache_folder", "add_classes.source_path")
    for path in (*paths, "pretrain.model.weights_path", "add_classes.checkpoint"):
        value = _get(tree, path)
        if isinstance(value, str) and value and value != FROM_BASE:
            tree = _put(tree, path.split("."), _absolute(value, project))
    return tree


def _absolute(path: str, project: Path) -> str:
    return str((project / Path(path).expanduser()).resolve())


def _get(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _put(tree: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    inner = value if len(path) == 1 else _put(tree[path[0]], path[1:], value)
    return {**tree, path[0]: inner}


def _line(fault: Any) -> str:
    """Return one line for one fault that pydantic has found."""
    where = ".".join(str(part) for part in fault["loc"])
    kind, message = fault["type"], str(fault["msg"])
    if kind == "extra_forbidden":
        return f"{where}: unknown,{_suggestion(fault['loc'])}"
    if kind == "missing":
        return f"{where}: is missing; conf/base names every parameter"
    if kind == "value_error":
        return _own_words(where, message.removeprefix("Value error, "))
    expected = message.replace("Input should be ", "", 1)
    return f"{where}: got {_shown(fault['input'])}, expected {expected}"


def _own_words(where: str, message: str) -> str:
    """Join the place of a validator with the field that its message begins with."""
    named = _OWN_PATH.match(message)
    if named is None or where.endswith(f".{named[1]}") or where == named[1]:
        return f"{where}: {message}"
    return f"{where}.{message}"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a block"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _suggestion(path: tuple[Any, ...]) -> str:
    """Return the near miss among the siblings, and else among all parameters of that name."""
    *above, name = [str(part) for part in path]
    siblings = _fields_at(above)
    close = near_miss(name, siblings)
    return close or f" expected one of {', '.join(siblings)}"


def _fields_at(path: list[str]) -> list[str]:
    kind: Any = Parameters
    for name in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(name)
            kind = field.annotation if field else None
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        if isinstance(kind, UnionType):
            kind = next(k for k in get_args(kind) if k is not type(None))
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
