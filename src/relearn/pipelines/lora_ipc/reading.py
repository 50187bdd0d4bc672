"""Nodes of the ``lora_ipc`` pipeline that read what the units left: tables, proof, figures.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.lora_ipc.config import LoraIpcConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Figure = Checkpoint = Any


def collect_results(units: DataFrame, lora_ipc: LoraIpcConfig) -> tuple[DataFrame, ...]:
    """Return records, costs, ledger and predictions of all arms, and what their order did.

    Args:
        units: Index of the arms.
        lora_ipc: Its digest ties the tables to the parameters.
    """
    from relearn.arm_store import tables_of
    from relearn.pipelines.lora_ipc.study import orders_table
    from relearn.provenance import Provenance, digest

    tables = tables_of([Path(p) for p in units["path"]])
    made = Provenance("lora_ipc.records", "lora_ipc", config=digest(lora_ipc)).to_json()
    for table in tables.values():
        table.attrs["provenance"] = made
    names = ("records", "costs", "interventions", "predictions")
    return (*(tables[name] for name in names), orders_table(tables["records"], lora_ipc))


def check_ledger(base: Checkpoint, units: DataFrame) -> dict[str, Any]:
    """Verify that every frozen matrix kept every bit, after each later task.

    Args:
        base: The backbone.
        units: Index of the arms.

    Returns:
        rows, verified, failed (a list of what did not hold) and orders_equal.
    """
    from relearn.pipelines.lora_ipc.proof import verify_units

    columns = zip(units["arm"], units["seed"], units["path"], strict=True)
    return verify_units(base, [(str(arm), int(seed), Path(path)) for arm, seed, path in columns])


def diagnose(
    *,
    records: DataFrame,
    costs: DataFrame,
    interventions: DataFrame,
    selection: DataFrame,
    base_check: Mapping[str, Any],
    lora_ipc: LoraIpcConfig,
) -> dict[str, Any]:
    """Say what a reader must know before believing the table, the cheap alternatives above all.

    Args:
        records: Of the arms.
        costs: Of the same.
        interventions: The ledger.
        selection: Settings chosen for each family.
        base_check: Strength of the backbone.
        lora_ipc: Knobs.

    Returns:
        findings (sentences), base, ranking_stability, gate (why nothing may be decided from the
        table; empty where it may), and rows: cheap_alternatives, orders_of_classes,
        orthogonality_at_the_end, importance_between_seeds, similarity_of_tasks.
    """
    from relearn.pipelines.lora_ipc import findings
    from relearn.reports import continual_tables

    arm = lora_ipc.evidence.treated_arm
    return {
        "findings": findings.findings_of(records, selection, base_check, lora_ipc),
        "base": dict(base_check),
        "cheap_alternatives": findings.cheap_rows(records),
        "orders_of_classes": continual_tables.order_rows(records),
        "orthogonality_at_the_end": continual_tables.orthogonality_rows(records, costs),
        "importance_between_seeds": continual_tables.stability_rows(records, interventions),
        "similarity_of_tasks": continual_tables.similarity_rows(records),
        "ranking_stability": findings.ranking_stability(records, arm=arm),
        "gate": "" if base_check["strong"] else str(base_check["reason"]),
    }


def recommend(
    records: DataFrame, costs: DataFrame, diagnostics: Mapping[str, Any], lora_ipc: LoraIpcConfig
) -> dict[str, Any]:
    """Name the baseline by its rule, and recommend the treated arm, or none.

    Args:
        records: Of the arms.
        costs: Of the same.
        diagnostics: Gate and cheap alternatives.
        lora_ipc: Knobs.

    Returns:
        arms, candidates of the baseline, seeds, difference with its interval, recommendation.
    """
    from relearn.pipelines.lora_ipc.study import recommendation_of

    return recommendation_of(records, costs, diagnostics, lora_ipc)


def draw_figures(records: DataFrame, recommendation: Mapping[str, Any]) -> Figure:
    """Draw the accuracy matrix, forgetting, orders, drift and the similarity of tasks.

    Args:
        records: Of the arms.
        recommendation: Names the baseline, which is drawn in black.

    Returns:
        One figure: one dataset leaves the namespace.
    """
    from relearn.pipelines.lora_ipc.figures import overview

    return overview(records, baseline=str(recommendation["baseline_arm"]))
