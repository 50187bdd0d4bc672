"""What the arms cost: seconds, parameters, FLOPs, memory, and the ratio to the baseline.

Costs are records of the task ``cost`` at step 0 in a table of their own, because they differ from
run to run while measurements do not.
"""

from __future__ import annotations

import pandas as pd

from relearn.reports.comparison import check_records

TRAIN_SECONDS = "train_seconds"

UNITS = {
    "train_seconds": "s",
    "total_seconds": "s",
    "intervention_seconds": "s",
    "parameters": "",
    "flops": "FLOPs",
    "peak_memory_bytes": "bytes",
}
"""Unit of the cost metrics that every method reports; a metric of its own has none here."""


def cost_table(costs: pd.DataFrame, *, method: str, baseline: str) -> pd.DataFrame:
    """Return mean and spread over seeds of every cost, with the ratio to the baseline.

    Args:
        costs: Columns as in ``relearn.reports.comparison.COLUMNS``; may be empty.
        method: Such as ``zap``, for messages.
        baseline: Arm whose cost is 1.

    Returns:
        Columns arm, metric, unit, seeds, mean, sd, ratio (missing where the baseline has no such
        cost or its cost is 0).

    Raises:
        EvidenceError: Duplicates, or values that are not finite.
    """
    columns = ["arm", "metric", "unit", "seeds", "mean", "sd", "ratio"]
    if costs.empty:
        return pd.DataFrame(columns=columns)
    check_records(costs, name=f"{method}.costs")
    groups = costs.groupby(["arm", "metric"], sort=True)["value"]
    table = groups.agg(seeds="count", mean="mean", sd="std").reset_index()
    own = table[table["arm"] == baseline].set_index("metric")["mean"]
    whole = table["metric"].map(own)
    table["ratio"] = table["mean"].div(whole.where(whole > 0))
    table["unit"] = table["metric"].map(UNITS).fillna("")
    return table[columns]


def cost_ratio(table: pd.DataFrame, *, arm: str, metric: str = TRAIN_SECONDS) -> float | None:
    """Return how many times the baseline an arm costs; None where that was not measured.

    Args:
        table: As from ``cost_table``.
        arm: The arm in question.
        metric: The cost in question.
    """
    rows = table[(table["arm"] == arm) & (table["metric"] == metric)]["ratio"].dropna()
    return float(rows.iloc[0]) if len(rows) else None


def cost_of(table: pd.DataFrame, *, arm: str, metric: str = TRAIN_SECONDS) -> float | None:
    """Return the mean cost of an arm; None where it was not measured."""
    rows = table[(table["arm"] == arm) & (table["metric"] == metric)]["mean"].dropna()
    return float(rows.iloc[0]) if len(rows) else None
