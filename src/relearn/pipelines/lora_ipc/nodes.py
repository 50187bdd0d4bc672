"""Nodes of the ``lora_ipc`` pipeline that train; those that read are in ``reading``.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.lora_ipc.config import LoraIpcConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)


def check_base(
    *,
    base: Checkpoint,
    stream: Stream,
    lora_ipc: LoraIpcConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    execution: ExecutionConfig,
) -> dict[str, Any]:
    """Ask before any task is learnt whether the backbone can carry a claim, and say so.

    Args:
        base: The backbone.
        stream: Frozen data.
        lora_ipc: Knobs.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        execution: Device.

    Returns:
        Nearest class mean on the backbone's features and on raw pixels, whether the backbone is
        strong enough, and the reason where it is not.

    Raises:
        ParameterError: The backbone has no attention, or evidence names an arm that is not there.
        EvidenceError: The backbone is too weak, and ``gate.refuse`` holds.
        StaleInputError: Base or stream belong to other parameters.
    """
    from relearn.methods.lora_ipc.arms import arms_of
    from relearn.pipelines.lora_ipc.before import strength_of
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    arms_of(lora_ipc)  # refuses, before any time is spent, what evidence names and is not there
    found = strength_of(base, stream, lora_ipc, execution=execution)
    _log.info(
        "lora_ipc: nearest class mean on %d unseen classes (%s): backbone %.1f %%, "
        "raw pixels %.1f %%%s",
        found["classes"],
        found["asked"],
        100 * found["backbone"],
        100 * found["raw_pixels"],
        "" if found["strong"] else f"; {found['reason']}",
    )
    return found


def choose_settings(
    *,
    base: Checkpoint,
    stream: Stream,
    base_check: Mapping[str, Any],
    lora_ipc: LoraIpcConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Return every learning rate tried, and which one each family of trainings takes.

    Args:
        base: The backbone.
        stream: Frozen data.
        base_check: Only so that the question is asked first.
        lora_ipc: Knobs.
        seeds: The choice uses seeds apart from these.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns family, training, rate_factor, score, seeds, seconds, at_border, chosen.
    """
    from relearn.pipelines.lora_ipc import tuning

    if not lora_ipc.tuning.enabled:
        return tuning.untuned(lora_ipc)
    start = seeds.first + tuning.TUNING_SEEDS
    first = _first_job(base, stream, lora_ipc, seeds=seeds, execution=execution)
    fresh = range(start, start + lora_ipc.tuning.seeds)
    return tuning.tune(first, _folder(storage, "tuning"), seeds=fresh)


def train_models(
    *,
    base: Checkpoint,
    stream: Stream,
    selection: DataFrame,
    lora_ipc: LoraIpcConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Learn all tasks with every training and every seed; return the index of the arms.

    Args:
        base: The backbone.
        stream: Frozen data.
        selection: Settings chosen for each family.
        lora_ipc: Knobs.
        seeds: Seeds of the pairs; each is one order of the classes.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, seed, training, path, digest (of the checkpoint file), reused.
    """
    from relearn.methods.lora_ipc.arms import trainings_of
    from relearn.pipelines.lora_ipc import road, tuning

    first = _first_job(base, stream, lora_ipc, seeds=seeds, execution=execution)
    jobs = [
        tuning.settled(first, selection, training, seed)
        for seed in seeds.all
        for training in trainings_of(lora_ipc)
    ]
    return road.index_of(jobs, road.train_all(jobs, _folder(storage, "trainings"), "lora_ipc"))


def _first_job(
    base: Checkpoint,
    stream: Stream,
    config: LoraIpcConfig,
    *,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
) -> Any:
    from relearn.methods.lora_ipc.arms import trainings_of
    from relearn.pipelines.lora_ipc.units import TrainingJob
    from relearn.tracking import current_run

    name = next(iter(trainings_of(config)))
    return TrainingJob(base, stream, config, name, seeds.first, execution, current_run())


def _folder(storage: StorageConfig, name: str) -> Path:
    return Path(storage.folder) / "06_models" / "lora_ipc" / name
