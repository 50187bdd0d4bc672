"""Nodes of the ``zap_map`` pipeline: plan the conditions, train them, tabulate, draw.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.zap.config import ZapConfig
from relearn.methods.zap.map_config import ZapMapConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Figure = Stream = Checkpoint = Any


def plan_conditions(
    *,
    base: Checkpoint,
    stream: Stream,
    zap: ZapConfig,
    zap_map: ZapMapConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    seeds: SeedsConfig,
) -> DataFrame:
    """Return what each condition is with each seed, before anything is trained.

    Args:
        base: Its architecture is trained anew; its weights are not used.
        stream: Frozen data, of which each condition takes a part.
        zap: Knobs of the method.
        zap_map: Knobs of the map.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        seeds: Seeds of the pairs; each draws its own classes and images.

    Returns:
        Columns classes, images, similarity, seed, base_classes, images_per_class, class_distance,
        epochs, steps.
    """
    import pandas as pd

    from relearn.pipelines.zap.units import Job
    from relearn.pipelines.zap_map.cells import cells_of
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    here = ExecutionConfig(
        device="cpu", precision="fp32", devices=1, workers=1, threads=1, backend="loky"
    )
    first = Job(base, stream, zap, zap.evidence.baseline_arm, seeds.first, here, None)
    return pd.DataFrame([cell.facts(stream) for cell in cells_of(first, zap_map, seeds.all)])


def choose_shifts(
    *,
    base: Checkpoint,
    stream: Stream,
    plan: DataFrame,
    zap: ZapConfig,
    zap_map: ZapMapConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Return the shifts tried for each condition and arm, and which one is taken.

    Args:
        base: As for ``plan_conditions``.
        stream: As for ``plan_conditions``.
        plan: Its first seed is the first that is reported.
        zap: Knobs of the method.
        zap_map: Knobs of the map.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns classes, images, similarity, arm, shift_pixels, score, chosen.
    """
    from relearn.pipelines.zap_map.cells import score_shifts

    first = _first_job(base, stream, zap, plan=plan, execution=execution)
    return score_shifts(first, zap_map, _folder(storage, "tuning"))


def train_conditions(
    *,
    base: Checkpoint,
    stream: Stream,
    plan: DataFrame,
    selection: DataFrame,
    zap: ZapConfig,
    zap_map: ZapMapConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Train baseline and treated arm in every condition with every seed; return the units' index.

    Args:
        base: As for ``plan_conditions``.
        stream: As for ``plan_conditions``.
        plan: The conditions and seeds.
        selection: Shift of each condition and arm.
        zap: Knobs of the method; ``evidence`` names the two arms.
        zap_map: Knobs of the map.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns of the plan, then arm, shift_pixels, path, digest, reused.
    """
    from relearn.pipelines.zap_map.cells import train_cells

    first = _first_job(base, stream, zap, plan=plan, execution=execution)
    folder = _folder(storage, "arms")
    return train_cells(first, zap_map, plan=plan, selection=selection, folder=folder)


def collect_records(units: DataFrame, zap: ZapConfig, zap_map: ZapMapConfig) -> DataFrame:
    """Return the records of all conditions.

    Args:
        units: Index of the units.
        zap: Its digest, with that of the map, ties the table to the parameters.
        zap_map: See ``zap``.
    """
    from relearn.pipelines.zap_map.table import records_of
    from relearn.provenance import Provenance, digest

    records = records_of(units)
    config = digest([digest(zap), digest(zap_map)])
    records.attrs["provenance"] = Provenance("zap_map.records", "zap_map", config=config).to_json()
    return records


def tabulate(units: DataFrame, records: DataFrame, zap: ZapConfig) -> DataFrame:
    """Return the paired difference of each condition, with its interval and diagnostics.

    Args:
        units: Index of the units.
        records: Of all conditions.
        zap: Names the arms and the confidence.
    """
    from relearn.pipelines.zap_map.table import table_of

    return table_of(units, records, zap)


def diagnose(records: DataFrame, table: DataFrame, zap: ZapConfig) -> dict[str, Any]:
    """Return, by condition, what a reader must know before believing its difference.

    Args:
        records: Of all conditions.
        table: As from ``tabulate``.
        zap: Knobs of the method.
    """
    from relearn.pipelines.zap_map.table import findings_of

    return findings_of(records, table, zap)


def draw_figure(table: DataFrame, zap: ZapConfig) -> Figure:
    """Return the map: differences in points, with their intervals in the cells.

    Args:
        table: As from ``tabulate``.
        zap: Names the arms and the confidence.
    """
    from relearn.reports.map_figure import draw_map

    evidence = zap.evidence
    return draw_map(
        table,
        title=f"{evidence.treated_arm} minus {evidence.baseline_arm}",
        confidence=evidence.confidence,
    )


def _first_job(
    base: Checkpoint,
    stream: Stream,
    zap: ZapConfig,
    *,
    plan: DataFrame,
    execution: ExecutionConfig,
) -> Any:
    from relearn.pipelines.zap.units import Job
    from relearn.tracking import current_run

    arm, seed = zap.evidence.baseline_arm, int(plan["seed"].min())
    return Job(base, stream, zap, arm, seed, execution, current_run())


def _folder(storage: StorageConfig, name: str) -> Path:
    return Path(storage.folder) / "06_models" / "zap_map" / name
