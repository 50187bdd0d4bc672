"""Nodes of the ``grow`` pipeline that train; those that read are in ``reading``.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.grow.config import GrowConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)


def train_teachers(
    *,
    base: Checkpoint,
    stream: Stream,
    grow: GrowConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Train the teacher of every seed; return their index.

    Args:
        base: Architecture, and the teacher itself with ``start_from: base``.
        stream: Frozen data.
        grow: Knobs.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        seeds: Seeds of the pairs.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns seed, path, digest, reused.
    """
    from relearn.methods.grow.arms import arms_of
    from relearn.pipelines.grow import road
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    arms_of(grow)  # refuses what evidence names and is not switched on, before any time is spent
    jobs = _jobs(base, stream, grow, seeds=seeds.all, execution=execution)
    return road.train_teachers(jobs, _folder(storage, "teachers"))


def check_headroom(
    *,
    stream: Stream,
    teachers: DataFrame,
    grow: GrowConfig,
    execution: ExecutionConfig,
) -> dict[str, Any]:
    """Ask the teachers whether a larger net could help, and say so.

    Args:
        stream: Frozen data.
        teachers: Index of the teachers.
        grow: Knobs.
        execution: Device of the probe.

    Returns:
        grow, reasons, figures, and for each teacher its epochs and where it stood still (-1 =
        nowhere).

    Raises:
        EvidenceError: The advice is not to grow, and ``growth.headroom.stop`` holds.
    """
    from relearn.pipelines.grow.before import headroom_of

    found = headroom_of(stream, teachers, grow, execution)
    advice = "there is room to grow" if found["grow"] else "do not grow"
    _log.info("grow: %s: %s", advice, "; ".join(found["reasons"]))
    return found


def plan_growth(
    *,
    stream: Stream,
    teachers: DataFrame,
    headroom: Mapping[str, Any],
    grow: GrowConfig,
) -> tuple[DataFrame, dict[str, Any]]:
    """Say what would grow by how much, what would not and why, and what that costs.

    Args:
        stream: Frozen data.
        teachers: Index of the teachers; the first one is planned for.
        headroom: Only so that the question is asked first.
        grow: Knobs.

    Returns:
        The plan as a table, and the forecast.
    """
    from relearn.pipelines.grow.before import plan_of
    from relearn.pipelines.grow.tables import plain_forecast

    table, forecast = plan_of(stream, teachers, grow)
    _log.info("grow: the plan\n\n%s\n", plain_forecast(forecast))
    return table, forecast


def verify_growth(
    *, stream: Stream, teachers: DataFrame, forecast: Mapping[str, Any], grow: GrowConfig
) -> dict[str, Any]:
    """Grow every teacher and compare it with what it became; a failure stops the run here.

    Args:
        stream: Frozen data.
        teachers: Index of the teachers.
        forecast: Only so that the plan is there first.
        grow: Knobs.

    Returns:
        passed, and for each seed what the gate found and the digest of the record.

    Raises:
        FunctionChangedError: A grown net computes another function; nothing was trained.
    """
    from relearn.pipelines.grow.before import verification_of

    return verification_of(stream, teachers, grow)


def choose_settings(
    *,
    base: Checkpoint,
    stream: Stream,
    verification: Mapping[str, Any],
    grow: GrowConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Return every learning rate tried, and which one each arm takes.

    Args:
        base: As for ``train_teachers``.
        stream: As for ``train_teachers``.
        verification: Only so that nothing is trained before the gate has opened.
        grow: Knobs.
        seeds: The choice uses seeds apart from these.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, rate_factor, score, seeds, seconds, at_border, chosen.
    """
    from relearn.pipelines.grow import road, tuning

    if not grow.tuning.enabled:
        return tuning.untuned(grow)
    start = seeds.first + tuning.TUNING_SEEDS
    fresh = range(start, start + grow.tuning.seeds)
    jobs = _jobs(base, stream, grow, seeds=fresh, execution=execution)
    teachers = road.train_teachers(jobs, _folder(storage, "teachers"))
    return tuning.tune(road.first_jobs(jobs, teachers), _folder(storage, "tuning"))


def train_arms(
    *,
    base: Checkpoint,
    stream: Stream,
    teachers: DataFrame,
    selection: DataFrame,
    grow: GrowConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Train and judge every arm with every seed; return the index of the units.

    Args:
        base: As for ``train_teachers``.
        stream: As for ``train_teachers``.
        teachers: Index of the teachers.
        selection: Settings chosen for each arm.
        grow: Knobs.
        seeds: Seeds of the pairs.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, seed, path, digest, reused.
    """
    from relearn.pipelines.grow import road

    firsts = road.first_jobs(
        _jobs(base, stream, grow, seeds=seeds.all, execution=execution), teachers
    )
    return road.train_arms(firsts, selection, _folder(storage, "arms"))


def _jobs(
    base: Checkpoint,
    stream: Stream,
    grow: GrowConfig,
    *,
    seeds: Iterable[int],
    execution: ExecutionConfig,
) -> list[Any]:
    from relearn.pipelines.grow.units import TeacherJob
    from relearn.tracking import current_run

    handle = current_run()
    return [TeacherJob(base, stream, grow, seed, execution, handle) for seed in seeds]


def _folder(storage: StorageConfig, name: str) -> Path:
    return Path(storage.folder) / "06_models" / "grow" / name
