"""Nodes that read the units: tables, proof, diagnostics, recommendation, pictures.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError
from relearn.methods.forget_relearn.config import ForgetRelearnConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
else:
    DataFrame = Figure = Any

_log = logging.getLogger(__name__)


def collect_results(
    units: DataFrame, confirmed_units: DataFrame, forget_relearn: ForgetRelearnConfig
) -> tuple[DataFrame, ...]:
    """Return records, costs, ledger and predictions to be compared, and a study's exploration.

    Args:
        units: Index of the arms.
        confirmed_units: Index of a study's confirmation; then only this is compared.
        forget_relearn: Its digest ties the tables to the parameters.
    """
    from pandas import DataFrame

    from relearn.arm_store import tables_of
    from relearn.provenance import Provenance, digest

    arms = forget_relearn.compare == "arms"
    compared = units if arms else confirmed_units
    tables = tables_of([Path(p) for p in compared["path"]])
    exploration = DataFrame(columns=tables["records"].columns)
    if not arms:
        exploration = tables_of([Path(p) for p in units["path"]])["records"]
    config = digest(forget_relearn)
    made = Provenance("forget_relearn.records", "forget_relearn", config=config).to_json()
    for table in (*tables.values(), exploration):
        table.attrs["provenance"] = made
    names = ("records", "costs", "interventions", "predictions")
    return (*(tables[name] for name in names), exploration)


def check_ledger(units: DataFrame, confirmed_units: DataFrame) -> dict[str, Any]:
    """Verify every forgetting again, by drawing its mask and values anew.

    Args:
        units: Index of the arms.
        confirmed_units: Index of a study's confirmation.

    Returns:
        rows, verified, by_mask_alone (of these, rows whose values come from a trained net, so that
        no seed can give them), failed (a list of what did not come out the same) and orders_equal.
    """
    from relearn.pipelines.forget_relearn.study import verify_units

    both = [
        (str(arm), int(seed), Path(path))
        for table in (units, confirmed_units)
        for arm, seed, path in zip(table["arm"], table["seed"], table["path"], strict=True)
    ]
    return verify_units(both)


def diagnose(
    records: DataFrame,
    costs: DataFrame,
    selection: DataFrame,
    forecast: Mapping[str, Any],
    *,
    forget_relearn: ForgetRelearnConfig,
) -> dict[str, Any]:
    """Say what a reader must know before believing the table, masked gradients above all.

    Args:
        records: Of the arms that are compared.
        costs: Of the same.
        selection: Settings chosen for each training.
        forecast: What the run was said to take.
        forget_relearn: Knobs.

    Returns:
        findings (sentences), best_last (rows), spending, masked (checks that failed) and gate
        (why nothing may be decided from the table; empty where it may).
    """
    from relearn.pipelines.forget_relearn import findings

    masked = findings.masked_gradients(records)
    return {
        "findings": findings.findings_of(records, selection, forget_relearn),
        "best_last": findings.best_last(records),
        "spending": findings.spending(costs, forecast, forget_relearn),
        "masked": masked,
        "gate": f"The gradients are masked: {'; '.join(masked)}." if masked else "",
    }


def recommend(
    records: DataFrame,
    costs: DataFrame,
    exploration: DataFrame,
    diagnostics: Mapping[str, Any],
    *,
    forget_relearn: ForgetRelearnConfig,
) -> dict[str, Any]:
    """Name the baseline by its rule, and recommend the treated arm or a study's winner, or none.

    Args:
        records: Of the arms, or of a study's confirmation.
        costs: Of the same.
        exploration: Records of a study's variants; empty for ``compare: arms``.
        diagnostics: Nothing is recommended where they say that gradients are masked.
        forget_relearn: Knobs.

    Returns:
        study, arms, candidates of the baseline, seeds, difference with its interval,
        recommendation, variants of a study.

    Raises:
        EvidenceError: A check against masked gradients failed; all records are saved by now.
    """
    from relearn.pipelines.forget_relearn.study import recommendation_of, study_table

    if diagnostics["masked"]:
        raise EvidenceError(
            f"gradient masking: {'; '.join(diagnostics['masked'])}; the robust accuracies are not "
            "to be believed and nothing is recommended (records and diagnostics are kept); train "
            "with a stronger attack (forget_relearn.attack), or see forget_relearn.judging.masking"
        )
    found = recommendation_of(records, costs, exploration, forget_relearn)
    if forget_relearn.compare != "arms":
        _log.info("\n\n%s\n", study_table(found))
    return found


def draw_figures(
    records: DataFrame,
    interventions: DataFrame,
    exploration: DataFrame,
    forget_relearn: ForgetRelearnConfig,
) -> Figure:
    """Draw curves, phases and recoveries, and below them a study where there is one.

    Args:
        records: Of the arms that are compared.
        interventions: Ledger of the same.
        exploration: Records of a study's variants; empty for ``compare: arms``.
        forget_relearn: Knobs.

    Returns:
        One figure: one dataset leaves the namespace.
    """
    from relearn.pipelines.forget_relearn import figures
    from relearn.reports.stacked import stacked

    drawn = figures.overview(records, interventions, forget_relearn)
    if not len(exploration):
        return drawn
    return stacked([drawn, figures.study_figure(exploration, forget_relearn)])


def draw_before_after(
    units: DataFrame, confirmed_units: DataFrame, forget_relearn: ForgetRelearnConfig
) -> tuple[Figure, DataFrame]:
    """Draw features and predictions before, right after and long after each forgetting.

    Args:
        units: Index of the arms.
        confirmed_units: Index of a study's confirmation; then only this is drawn.
        forget_relearn: Knobs.

    Returns:
        The picture, and the validation images that became right or wrong.
    """
    from relearn.pipelines.forget_relearn import figures

    compared = units if forget_relearn.compare == "arms" else confirmed_units
    drawn = figures.before_after(compared, forget_relearn)
    return drawn, figures.changed(compared, forget_relearn)
