"""Nodes of the ``zap`` pipeline: thin, each a call or two into method, units and reports.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.zap.config import ZapConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Figure = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)
TUNING_SEEDS, FRESH_SEEDS = 10_000, 20_000  # offsets: seeds that choose, and that confirm


def choose_settings(
    *,
    base: Checkpoint,
    stream: Stream,
    zap: ZapConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Return every candidate setting tried, and which one each arm takes.

    Args:
        base: Architecture, and weights where arms continue them.
        stream: Frozen data.
        zap: Knobs.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        seeds: The choice uses seeds apart from these.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, rate_factor, shift_pixels, score, seeds, seconds, at_border, chosen.
    """
    from relearn.pipelines.zap.tuning import tune
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    return tune(
        _first_job(base, stream, zap, seeds=seeds, execution=execution), _folder(storage, "tuning")
    )


def train_arms(
    *,
    base: Checkpoint,
    stream: Stream,
    selection: DataFrame,
    zap: ZapConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Train and judge every arm with every seed; return the index of the units.

    Args:
        base: As for ``choose_settings``.
        stream: As for ``choose_settings``.
        selection: Settings chosen for each arm.
        zap: Knobs.
        seeds: Seeds of the pairs.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, seed, path, digest, reused.
    """
    from relearn.methods.zap.arms import arms_of
    from relearn.pipelines.zap.tuning import settled, train_units

    first = _first_job(base, stream, zap, seeds=seeds, execution=execution)
    jobs = [settled(first, selection, arm, seed) for seed in seeds.all for arm in arms_of(zap)]
    return train_units(jobs, _folder(storage, "arms"), describe="zap: arms")


def confirm_winner(
    *,
    base: Checkpoint,
    stream: Stream,
    selection: DataFrame,
    units: DataFrame,
    zap: ZapConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Train baseline and winner of a study on fresh seeds; no rows for ``compare: arms``.

    Args:
        base: As for ``choose_settings``.
        stream: As for ``choose_settings``.
        selection: Settings chosen for each arm.
        units: Index of the units in which the variants competed.
        zap: Knobs.
        seeds: Seeds of the competition; fresh ones are apart.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        The same columns as ``train_arms``.
    """
    from relearn.methods.zap.arms import baseline_of
    from relearn.pipelines.zap.study import winner_of
    from relearn.pipelines.zap.tuning import settled, train_units

    if zap.compare == "arms":
        return units.iloc[:0]
    first = _first_job(base, stream, zap, seeds=seeds, execution=execution)
    pair = (baseline_of(zap), winner_of(units, zap))
    fresh = range(seeds.first + FRESH_SEEDS, seeds.first + FRESH_SEEDS + zap.study.confirm_seeds)
    jobs = [settled(first, selection, arm, seed) for seed in fresh for arm in pair]
    return train_units(jobs, _folder(storage, "arms"), describe="zap: confirmation")


def collect_results(
    units: DataFrame, confirmed_units: DataFrame, zap: ZapConfig
) -> tuple[DataFrame, ...]:
    """Return records, costs, ledger and predictions to be compared, and a study's exploration.

    Args:
        units: Index of the arms.
        confirmed_units: Index of a study's confirmation; then only this is compared.
        zap: Its digest ties the tables to the parameters.
    """
    from pandas import DataFrame

    from relearn.arm_store import tables_of
    from relearn.provenance import Provenance, digest

    compared = units if zap.compare == "arms" else confirmed_units
    tables = tables_of([Path(p) for p in compared["path"]])
    exploration = DataFrame(columns=tables["records"].columns)
    if zap.compare != "arms":
        exploration = tables_of([Path(p) for p in units["path"]])["records"]
    made = Provenance("zap.records", "zap", config=digest(zap)).to_json()
    for table in (*tables.values(), exploration):
        table.attrs["provenance"] = made
    names = ("records", "costs", "interventions", "predictions")
    return (*(tables[name] for name in names), exploration)


def check_ledger(units: DataFrame, confirmed_units: DataFrame) -> dict[str, Any]:
    """Verify every intervention again from what its ledger row says.

    Args:
        units: Index of the arms.
        confirmed_units: Index of a study's confirmation.

    Returns:
        rows, verified, failed (a list of what did not come out the same) and orders_equal.
    """
    from relearn.pipelines.zap.study import verify_units

    both = [
        (str(arm), int(seed), Path(path))
        for table in (units, confirmed_units)
        for arm, seed, path in zip(table["arm"], table["seed"], table["path"], strict=True)
    ]
    return verify_units(both)


def diagnose(records: DataFrame, selection: DataFrame, zap: ZapConfig) -> dict[str, Any]:
    """Say what a reader must know before believing the table: borders, unrecovered heads.

    Args:
        records: Of the arms that are compared.
        selection: Settings chosen for each arm.
        zap: Knobs.

    Returns:
        findings: one sentence each.
    """
    from relearn.pipelines.zap.study import findings_of

    return {"findings": findings_of(records, selection, zap)}


def recommend(
    records: DataFrame, costs: DataFrame, exploration: DataFrame, zap: ZapConfig
) -> dict[str, Any]:
    """Recommend one variant of a study, or none, from the confirmation on fresh seeds.

    Args:
        records: Of the arms, or of a study's confirmation.
        costs: Of the same.
        exploration: Records of a study's variants; empty for ``compare: arms``.
        zap: Knobs.

    Returns:
        study, arms, seeds, difference with its interval, recommendation, variants of a study.
    """
    from relearn.pipelines.zap.study import recommendation_of, study_table

    found = recommendation_of(records, costs, exploration, zap)
    if zap.compare != "arms":
        _log.info("\n\n%s\n", study_table(found))
    return found


def draw_figures(
    records: DataFrame, interventions: DataFrame, exploration: DataFrame, zap: ZapConfig
) -> Figure:
    """Draw pre-training, adaptation, retention, the shock of resets, and the table of heads.

    They come as one picture, one below the other: one dataset leaves the namespace.

    Args:
        records: Of the arms that are compared.
        interventions: Ledger of the same.
        exploration: Records of a study's variants; empty for ``compare: arms``.
        zap: Knobs.

    Returns:
        One figure with the five panels in this order.
    """
    from relearn.pipelines.zap import figures
    from relearn.reports.stacked import stacked

    panels = (
        figures.learning(records, interventions, zap),
        figures.adaptation(records, zap),
        figures.retention(records, zap),
        figures.shock(records, zap),
        figures.heads(exploration if len(exploration) else records, zap),
    )
    return stacked(panels)


def _first_job(
    base: Checkpoint,
    stream: Stream,
    zap: ZapConfig,
    *,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
) -> Any:
    from relearn.methods.zap.arms import baseline_of
    from relearn.pipelines.zap.units import Job
    from relearn.tracking import current_run

    return Job(base, stream, zap, baseline_of(zap), seeds.first, execution, current_run())


def _folder(storage: StorageConfig, name: str) -> Path:
    return Path(storage.folder) / "06_models" / "zap" / name
