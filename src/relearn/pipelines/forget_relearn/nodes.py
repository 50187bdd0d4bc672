"""Nodes that train and judge: thin, each a call or two; those that read stand in ``reading``.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.reports.config import CompareConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)


def estimate_cost(
    *,
    base: Checkpoint,
    stream: Stream,
    forget_relearn: ForgetRelearnConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    compare: CompareConfig,
) -> dict[str, Any]:
    """Refuse what cannot be run, measure a few steps, and say what the whole will take.

    Args:
        base: Architecture, and weights where trainings continue them.
        stream: Frozen data.
        forget_relearn: Knobs.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        seeds: Seeds of the pairs.
        execution: Device and workers.
        compare: Its price of an hour is used.

    Returns:
        The forecast; ``text`` is a paragraph to read.
    """
    from relearn.methods.forget_relearn.forecast import forecast
    from relearn.pipelines.forget_relearn.checks import require_runnable
    from relearn.training.device import device_of
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    require_runnable(base, stream, forget_relearn, seed=seeds.first)
    device = device_of(execution, base.architecture)
    found: dict[str, Any] = forecast(
        base,
        stream,
        forget_relearn,
        seeds=seeds.count,
        workers=execution.workers,
        device=device,
        price_per_hour=compare.price_per_hour,
        currency=compare.currency,
    )
    _log.info(
        "forget_relearn: what it takes; units that are there already are reused\n\n%s\n",
        found["text"],
    )
    return found


def choose_settings(
    *,
    base: Checkpoint,
    stream: Stream,
    forecast: dict[str, Any],
    forget_relearn: ForgetRelearnConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Return every candidate setting tried, and which one each training takes.

    Args:
        base: As for ``estimate_cost``.
        stream: As for ``estimate_cost``.
        forecast: Only so that nothing is trained before it was said what that takes.
        forget_relearn: Knobs.
        seeds: The choice uses seeds apart from these.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns training, schedule, rate_factor, score, seeds, seconds, at_border, chosen.
    """
    from relearn.pipelines.forget_relearn.tuning import tune

    first = _first_job(base, stream, forget_relearn, seeds=seeds, execution=execution)
    return tune(first, _folder(storage, "tuning"))


def train_models(
    *,
    base: Checkpoint,
    stream: Stream,
    selection: DataFrame,
    forget_relearn: ForgetRelearnConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Run every training with every seed; return the index of the trainings.

    Args:
        base: As for ``estimate_cost``.
        stream: As for ``estimate_cost``.
        selection: Settings chosen for each training.
        forget_relearn: Knobs.
        seeds: Seeds of the pairs.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns training, seed, path, digest, reused.
    """
    from relearn.methods.forget_relearn.arms import trainings_of
    from relearn.pipelines.forget_relearn import road

    first = _first_job(base, stream, forget_relearn, seeds=seeds, execution=execution)
    pairs = [(name, seed) for seed in seeds.all for name in trainings_of(forget_relearn)]
    return road.train_models(first, selection, _folder(storage, "trainings"), pairs=pairs)


def judge_arms(
    *,
    base: Checkpoint,
    stream: Stream,
    selection: DataFrame,
    trained_units: DataFrame,
    forget_relearn: ForgetRelearnConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Judge every model that the trainings deliver; return the index of the arms.

    Args:
        base: As for ``estimate_cost``.
        stream: As for ``estimate_cost``.
        selection: Settings chosen for each training.
        trained_units: Index of the trainings.
        forget_relearn: Knobs.
        seeds: Seeds of the pairs.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, seed, path, digest, reused.
    """
    from relearn.pipelines.forget_relearn import road

    first = _first_job(base, stream, forget_relearn, seeds=seeds, execution=execution)
    return road.judge_arms(first, selection, trained_units, _folder(storage, "arms"))


def confirm_winner(
    *,
    base: Checkpoint,
    stream: Stream,
    selection: DataFrame,
    units: DataFrame,
    forget_relearn: ForgetRelearnConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Train baseline and winner of a study on fresh seeds; no rows for ``compare: arms``.

    Args:
        base: As for ``estimate_cost``.
        stream: As for ``estimate_cost``.
        selection: Settings chosen for each training.
        units: Index of the arms that competed.
        forget_relearn: Knobs.
        seeds: Seeds of the competition; fresh ones are apart.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        The same columns as ``judge_arms``.
    """
    from relearn.methods.forget_relearn.arms import training_of
    from relearn.pipelines.forget_relearn import road, study

    if forget_relearn.compare == "arms":
        return units.iloc[:0]
    first = _first_job(base, stream, forget_relearn, seeds=seeds, execution=execution)
    arms = study.pair_of(units, forget_relearn)
    start = seeds.first + study.FRESH_SEEDS
    fresh = range(start, start + forget_relearn.study.confirm_seeds)
    names = dict.fromkeys(training_of(forget_relearn, arm).name for arm in arms)
    pairs = [(name, seed) for seed in fresh for name in names]
    trained = road.train_models(first, selection, _folder(storage, "trainings"), pairs=pairs)
    return road.judge_arms(first, selection, trained, _folder(storage, "arms"), arms=arms)


def _first_job(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
) -> Any:
    from relearn.methods.forget_relearn.arms import trainings_of
    from relearn.pipelines.forget_relearn.units import TrainingJob
    from relearn.tracking import current_run

    name = next(iter(trainings_of(config)))
    return TrainingJob(base, stream, config, name, seeds.first, execution, current_run())


def _folder(storage: StorageConfig, name: str) -> Path:
    return Path(storage.folder) / "06_models" / "forget_relearn" / name
