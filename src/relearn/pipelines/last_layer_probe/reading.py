"""Nodes of the ``last_layer_probe`` pipeline that read what the units left.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError
from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
from relearn.parameters import StorageConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Figure = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)


def collect_results(
    units: DataFrame, selection: DataFrame, last_layer_probe: LastLayerProbeConfig
) -> tuple[DataFrame, ...]:
    """Return records, costs, ledger and predictions of all arms.

    Args:
        units: Index of the arms.
        selection: Its seconds are part of what a trained arm costs.
        last_layer_probe: Its digest ties the tables to the parameters.
    """
    from relearn.arm_store import tables_of
    from relearn.pipelines.last_layer_probe.tables import with_tuning
    from relearn.provenance import Provenance, digest

    tables = tables_of([Path(p) for p in units["path"]])
    tables["costs"] = with_tuning(tables["costs"], selection)
    config = digest(last_layer_probe)
    made = Provenance("last_layer_probe.records", "last_layer_probe", config=config).to_json()
    for table in tables.values():
        table.attrs["provenance"] = made
    return tuple(tables[name] for name in ("records", "costs", "interventions", "predictions"))


def check_ledger(units: DataFrame, base: Checkpoint) -> dict[str, Any]:
    """Make every frozen body again and compare it with its row.

    Args:
        units: Index of the arms.
        base: Net whose body some of them used.

    Returns:
        rows, verified, failed (a list of what did not come out the same) and orders_equal.
    """
    from relearn.pipelines.last_layer_probe.ledger_check import verify_units

    rows = zip(units["arm"], units["seed"], units["path"], strict=True)
    return verify_units([(str(arm), int(seed), Path(path)) for arm, seed, path in rows], base)


def recommend(
    *,
    records: DataFrame,
    costs: DataFrame,
    predictions: DataFrame,
    before: Mapping[str, Any],
    last_layer_probe: LastLayerProbeConfig,
) -> dict[str, Any]:
    """Judge every body, compare neighbouring rungs, and say what to do next.

    Args:
        records: Of all arms.
        costs: Of the same.
        predictions: Of the same; they say how sure a difference is.
        before: Why the data may be special.
        last_layer_probe: Thresholds.

    Returns:
        study, baseline_arm, treated_arm, verdict, verdicts of all bodies, ladder, gaps, costs,
        learning curve, next step, thresholds, warnings.
    """
    from relearn.pipelines.last_layer_probe.study import recommendation_of

    found = recommendation_of(records, costs, predictions, before, config=last_layer_probe)
    _log.info("last_layer_probe: %s", found["text"])
    return found


def recheck_bodies(
    *,
    units: DataFrame,
    records: DataFrame,
    stream: Stream,
    last_layer_probe: LastLayerProbeConfig,
    storage: StorageConfig,
) -> dict[str, Any]:
    """Compare each body with the one an earlier run had, on the small set where it changed.

    The seals lie beside the units, so that they outlive the report.

    Args:
        units: Index of the arms.
        records: With the accuracies on the small set.
        stream: Frozen data; another one breaks no seal.
        last_layer_probe: How many images, and what counts as a change.
        storage: Where seals lie.

    Returns:
        Arm to status, and what changed.
    """
    from relearn.pipelines.last_layer_probe.seals import recheck_arms

    folder = Path(storage.folder) / "06_models" / "last_layer_probe" / "seals"
    found = recheck_arms(units, records, last_layer_probe, data=stream.digest, folder=folder)
    for arm, told in found.items():
        if told["changed"]:
            _log.warning(
                "last_layer_probe: %s: its %s changed since the last run; what it earned %s",
                arm,
                " and ".join(told["changed"]),
                told["status"],
            )
    return found


def diagnose(
    *,
    records: DataFrame,
    selection: DataFrame,
    recommendation: Mapping[str, Any],
    recheck: Mapping[str, Any],
    before: Mapping[str, Any],
    last_layer_probe: LastLayerProbeConfig,
) -> dict[str, Any]:
    """Say what a reader must know before believing the table.

    Args:
        records: Of all arms.
        selection: Settings chosen for the trained arms.
        recommendation: Verdicts and gaps.
        recheck: Bodies that changed.
        before: Depth, first weights, images.
        last_layer_probe: Knobs.

    Returns:
        findings (sentences), verdicts, ladder, width_law, hints.
    """
    from relearn.pipelines.last_layer_probe import findings, tables

    return {
        "findings": findings.findings_of(
            records, selection, recommendation, recheck, before=before, config=last_layer_probe
        ),
        "verdicts": recommendation["verdicts"],
        "ladder": recommendation["gaps"],
        "width_law": tables.width_laws(records),
        "hints": tables.rank_correlations(records),
        "sensitivity": tables.sensitivity_table(records),
    }


def draw_figures(
    records: DataFrame,
    recommendation: Mapping[str, Any],
    before: Mapping[str, Any],
    last_layer_probe: LastLayerProbeConfig,
) -> Figure:
    """Draw ladder, learning curve, width law, depth report and penalty paths.

    Args:
        records: Of all arms.
        recommendation: Names baseline and treated arm.
        before: With the depth report.
        last_layer_probe: Target and coverage.

    Returns:
        One figure: one dataset leaves the namespace.
    """
    from relearn.pipelines.last_layer_probe.figures import overview

    return overview(records, recommendation, before, config=last_layer_probe)


def check_controls(
    recommendation: Mapping[str, Any],
    overview_figure: Any,
    last_layer_probe: LastLayerProbeConfig,
) -> dict[str, Any]:
    """Check that permuted labels and a body of noise ended in FAIL.

    Args:
        recommendation: With the verdicts on the controls.
        overview_figure: Only so that everything is drawn before a run may fail here.
        last_layer_probe: ``verdict.stop_on_controls``.

    Returns:
        Control to verdict, and whether all are FAIL.

    Raises:
        EvidenceError: One is not, and ``verdict.stop_on_controls`` holds.
    """
    del overview_figure
    controls = {name: told["verdict"] for name, told in recommendation["controls"].items()}
    wrong = [f"{name} {verdict}" for name, verdict in controls.items() if verdict != "FAIL"]
    if wrong and last_layer_probe.verdict.stop_on_controls:
        raise EvidenceError(
            f"last_layer_probe.verdict: controls that must end in FAIL did not "
            f"({', '.join(wrong)}); something leaks, or there are too few test "
            "images: raise seeds.count or samples.test_images, or set "
            "last_layer_probe.verdict.stop_on_controls=false to see the report"
        )
    return {"controls": controls, "passed": not wrong}
