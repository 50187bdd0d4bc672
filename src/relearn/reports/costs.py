"""What the arms cost: seconds, parameters, FLOPs, memory, and the ratio to the baseline.

Costs are records of the task ``cost`` at step 0 in a table of their own, because they differ from
run to run while measurements do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from relearn.reports.comparison import check_records

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

TRAIN_SECONDS = "train_seconds"
SHORTEST_COMPARED = 0.1
"""Seconds; times the baseline does not take that long for have no ratio worth reading."""

_UNITS = {"seconds": "s", "percent": "%", "bytes": "MiB", "flops": ""}
_MEBIBYTE = 2.0**20


def unit_of(metric: str) -> str:
    """Return the unit in which a cost is shown, read off the last word of its name."""
    return _UNITS.get(metric.rsplit("_", 1)[-1], "")


ARMS_ABREAST = 5
"""Arms up to which they are the columns of the table of costs; a page holds no more."""


def cost_table(costs: pd.DataFrame, *, method: str, baseline: str) -> pd.DataFrame:
    """Return mean and spread over seeds of every cost, with the ratio to the baseline.

    Args:
        costs: Columns as in ``relearn.reports.comparison.COLUMNS``; may be empty.
        method: Such as ``zap``, for messages.
        baseline: Arm whose cost is 1.

    Returns:
        Columns arm, metric, unit, seeds, mean, sd, ratio (missing where the baseline has no such
        cost, where its cost is 0 or less than a tenth of a second, and for percentages, which are
        ratios already).

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
    table["unit"] = table["metric"].map(unit_of)
    least = table["unit"].map({"s": SHORTEST_COMPARED}).fillna(0.0)
    comparable = (whole > least) & (table["unit"] != "%")
    table["ratio"] = table["mean"].div(whole.where(comparable))
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
    """Return the mean cost of an arm; None where it was not measured.

    Args:
        table: As from ``cost_table``.
        arm: The arm in question.
        metric: The cost in question.
    """
    rows = table[(table["arm"] == arm) & (table["metric"] == metric)]["mean"].dropna()
    return float(rows.iloc[0]) if len(rows) else None


def one_per_training(table: pd.DataFrame, *, named: Collection[str] = ()) -> pd.DataFrame:
    """Return the table without arms that are another's training read otherwise.

    Such an arm has the other's name with an ending, such as ``_tii``, and exactly its costs.

    Args:
        table: As from ``cost_table``.
        named: Arms that stay in any case.
    """
    by_arm = {str(arm): rows.set_index("metric")["mean"] for arm, rows in table.groupby("arm")}
    again = {
        arm
        for arm, costs in by_arm.items()
        if arm not in named
        and any(arm.startswith(f"{one}_") and costs.equals(by_arm[one]) for one in by_arm)
    }
    return table[~table["arm"].isin(again)].reset_index(drop=True)


def cost_grid(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return heads and rows fit for reading: arms side by side, or below each other if many.

    Args:
        rows: Records of the table from ``cost_table``.

    Returns:
        Heads of the columns, and rows of a label and its cells: mean +- spread, unit and ratio; a
        dash where an arm has no such cost. Up to ``ARMS_ABREAST`` arms are the columns.
    """
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    found = {(row["metric"], row["arm"]): _cell(row) for row in rows}
    labels = [metric.replace("_", " ").removesuffix(" bytes") for metric in metrics]
    if len(arms) > ARMS_ABREAST:
        return labels, [(a, [found.get((m, a), "-") for m in metrics]) for a in arms]
    cells = [[found.get((m, a), "-") for a in arms] for m in metrics]
    return arms, list(zip(labels, cells, strict=True))


def _cell(row: Mapping[str, Any]) -> str:
    factor = 1 / _MEBIBYTE if row["unit"] == "MiB" else 1.0
    spread = f" ± {_amount(row['sd'] * factor)}" if row.get("sd") else ""
    ratio = "" if row.get("ratio") is None else f" ({row['ratio']:.2f}x)"
    money = f", {row['money']}" if row.get("money") else ""
    unit = f" {row['unit']}" if row["unit"] else ""
    return f"{_amount(row['mean'] * factor)}{spread}{unit}{money}{ratio}"


def _amount(number: float) -> str:
    if abs(number) >= 1e7:
        return f"{number:.3g}"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def add_money(table: pd.DataFrame, *, price_per_hour: float, currency: str) -> pd.DataFrame:
    """Return the cost table with what the seconds cost; unchanged at a price of 0.

    Args:
        table: As from ``cost_table``.
        price_per_hour: Price of one hour of the machine.
        currency: Its unit.
    """
    if price_per_hour == 0 or table.empty:
        return table
    hours = table["mean"].where(table["unit"] == "s") / 3600
    money = [
        "" if pd.isna(spent) else f"{spent * price_per_hour:.2g} {currency}" for spent in hours
    ]
    return table.assign(money=money)
