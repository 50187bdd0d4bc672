"""The node of ``lora_ipc_operate``: find the model, act on it, say what became of it.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.errors import ParameterError, one_of
from relearn.methods.lora_ipc.config import LoraIpcConfig
from relearn.methods.lora_ipc.operate_config import NEEDS_FOLDER, LoraIpcOperateConfig
from relearn.parameters import StorageConfig
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)


def act(
    *,
    base: Checkpoint,
    stream: Stream,
    units: DataFrame,
    lora_ipc: LoraIpcConfig,
    lora_ipc_operate: LoraIpcOperateConfig,
    data: DataConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> tuple[Checkpoint, dict[str, Any], DataFrame]:
    """Do what is asked with one model; the model it begins with stays as it is.

    Args:
        base: The backbone that the tasks were learnt on.
        stream: Test images of its tasks.
        units: Index of the lora_ipc arms: columns arm, seed, path.
        lora_ipc: Knobs that the model was trained with.
        lora_ipc_operate: What to do, and with which model.
        data: How images of a new task become square, and what is refused.
        execution: Device and precision, where something is trained.
        storage: Where models and adapters are written.

    Returns:
        The resulting model as one plain net, the report, and the ledger's rows.

    Raises:
        ParameterError: There is no such unit, task or folder.
        CheckpointError: Model, backbone and parameters do not belong together.
    """
    import pandas as pd

    from relearn.pipelines.lora_ipc_operate.actions import ACTIONS
    from relearn.pipelines.lora_ipc_operate.desk import Desk

    asked = lora_ipc_operate
    if asked.action in NEEDS_FOLDER and not asked.source_path:
        raise ParameterError(
            f"lora_ipc_operate.source_path: is empty, but {asked.action} reads a folder; add "
            "--params lora_ipc_operate.source_path=<folder>"
        )
    desk = Desk(
        base=base,
        stream=stream,
        source=_source(units, asked),
        config=lora_ipc,
        asked=asked,
        data=data,
        execution=execution,
        folder=Path(storage.folder) / "06_models" / "lora_ipc_operate",
    )
    done = ACTIONS[asked.action](desk)
    _log.info("lora_ipc_operate: %s: %s", asked.action, done.report["told"])
    rows = [{**e.as_row(), "details": json.dumps(dict(e.details))} for e in done.interventions]
    return done.checkpoint, done.report, pd.DataFrame(rows)


def _source(units: DataFrame, asked: LoraIpcOperateConfig) -> Path:
    """Return the folder of the model that the parameters name."""
    if asked.state:
        return Path(asked.state).expanduser()
    if units.empty:
        raise ParameterError(
            "lora_ipc_operate.state: is empty and there are no lora_ipc units; run "
            "`kedro run --pipeline lora_ipc` first, or give the folder of a model"
        )
    arms = sorted(set(units["arm"].astype(str)))
    if asked.arm not in arms:
        raise one_of("lora_ipc_operate.arm", asked.arm, arms)
    rows = units[units["arm"] == asked.arm]
    found = rows[rows["seed"].astype(int) == asked.seed]
    if found.empty:
        seeds = ", ".join(str(seed) for seed in sorted(rows["seed"]))
        raise ParameterError(
            f"lora_ipc_operate.seed: there is no unit {asked.arm} with seed {asked.seed}; seeds "
            f"there: {seeds}"
        )
    return Path(str(found["path"].iloc[-1])).parent
