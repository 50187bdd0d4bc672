"""Nodes of the ``grow`` pipeline: thin, each a call or two into method, units and reports.

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

    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Figure = Stream = Checkpoint = Any

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
        grow, reasons and figures.

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


def collect_results(units: DataFrame, grow: GrowConfig) -> tuple[DataFrame, ...]:
    """Return records, costs, ledger and predictions of all arms.

    What takes several arms to know, such as the steps to the final accuracy of the net from
    scratch, is added to the records here.

    Args:
        units: Index of the arms.
        grow: Its digest ties the tables to the parameters.
    """
    import pandas as pd

    from relearn.arm_store import tables_of
    from relearn.pipelines.grow.tables import reach_rows
    from relearn.provenance import Provenance, digest

    tables = tables_of([Path(p) for p in units["path"]])
    records = tables["records"]
    further = reach_rows(records, tables["costs"], grow)
    tables["records"] = pd.concat([records, further], ignore_index=True)
    made = Provenance("grow.records", "grow", config=digest(grow)).to_json()
    for table in tables.values():
        table.attrs["provenance"] = made
    return tuple(tables[name] for name in ("records", "costs", "interventions", "predictions"))


def check_ledger(units: DataFrame, teachers: DataFrame) -> dict[str, Any]:
    """Verify every growth again, on the weights of its teacher.

    Args:
        units: Index of the arms.
        teachers: Index of the teachers.

    Returns:
        rows, verified, failed (a list of what did not come out the same) and orders_equal.
    """
    from relearn.pipelines.grow.study import verify_units

    arms = zip(units["arm"], units["seed"], units["path"], strict=True)
    folders = zip(teachers["seed"], teachers["path"], strict=True)
    return verify_units(
        [(str(arm), int(seed), Path(path)) for arm, seed, path in arms],
        {int(seed): Path(path) for seed, path in folders},
    )


def diagnose(
    records: DataFrame,
    costs: DataFrame,
    selection: DataFrame,
    headroom: Mapping[str, Any],
    *,
    grow: GrowConfig,
) -> dict[str, Any]:
    """Say what a reader must know before believing the table, and what growing saves.

    Args:
        records: Of the arms.
        costs: Of the same.
        selection: Settings chosen for each arm.
        headroom: Advice whether to grow at all.
        grow: Knobs.

    Returns:
        findings (sentences), speed_up and break_even.
    """
    from relearn.pipelines.grow import findings, tables

    return {
        "findings": findings.findings_of(records, selection, headroom, grow),
        "speed_up": tables.speed_up(records, grow),
        "break_even": tables.break_even(records, costs, grow),
    }


def recommend(
    records: DataFrame, costs: DataFrame, diagnostics: Mapping[str, Any], grow: GrowConfig
) -> dict[str, Any]:
    """Name the baseline by its rule, and recommend the grown net, or none.

    Args:
        records: Of the arms.
        costs: Of the same.
        diagnostics: Speed-up and break-even.
        grow: Knobs.

    Returns:
        arms, candidates of the baseline, seeds, difference with its interval, recommendation.
    """
    from relearn.pipelines.grow.study import recommendation_of

    return recommendation_of(records, costs, diagnostics, grow)


def draw_figures(records: DataFrame, recommendation: Mapping[str, Any]) -> Figure:
    """Draw accuracy against steps and against FLOPs, and where each arm starts and ends.

    Args:
        records: Of the arms.
        recommendation: Names the baseline, which is drawn in black.

    Returns:
        One figure: one dataset leaves the namespace.
    """
    from relearn.pipelines.grow.figures import overview

    return overview(records, baseline=str(recommendation["baseline_arm"]))


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
