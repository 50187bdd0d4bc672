"""Nodes of the ``grow`` pipeline that read what the units left: tables, proof, findings, figures.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.grow.config import GrowConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
else:
    DataFrame = Figure = Any

_log = logging.getLogger(__name__)


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

    speed_up, even = tables.speed_up(records, grow), tables.break_even(records, costs, grow)
    saved = findings.speed_of(speed_up, even)
    for sentence in saved:
        _log.info("grow: %s", sentence)
    return {
        "findings": [*saved, *findings.findings_of(records, selection, headroom, grow)],
        "speed_up": speed_up,
        "break_even": even,
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
