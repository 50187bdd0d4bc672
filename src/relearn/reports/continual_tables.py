"""Tables of tasks learnt one after the other: orders, orthogonality, what was held important.

Every function returns rows of plain values, which the report shows as a table.
"""

from __future__ import annotations

import statistics
from itertools import combinations
from typing import TYPE_CHECKING, Any

from relearn.reports.arm_rows import values_of
from relearn.reports.continual_figures import READINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

FREEZE = "freeze_matrix"
"""Kind of the ledger's rows that freeze a matrix."""


def order_rows(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what the order of classes does to each arm: one row an arm, one seed an order.

    Args:
        records: With ``final_average_accuracy`` and ``forgetting`` of ``test``.

    Returns:
        Rows of arm, orders, then mean, sd, lowest and highest of both metrics; forgetting is empty
        where nothing is learnt task by task.
    """
    accuracy = _by_seed(records, "test", "final_average_accuracy")
    lost = _by_seed(records, "test", "forgetting")
    rows = []
    for arm, mine in accuracy.items():
        spreads = (_spread("accuracy", mine), _spread("forgetting_accuracy", lost.get(arm)))
        rows.append({"arm": arm, "orders": len(mine), **spreads[0], **spreads[1]})
    return rows


def orthogonality_rows(records: pd.DataFrame, costs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how orthogonal the modules of each training are at the end, and what it costs.

    Args:
        records: With the tasks ``largest_cosine``, ``distance`` and ``condition``: step = tasks
            learnt, metric = the matrix.
        costs: With ``train_seconds`` of the same arms.

    Returns:
        Rows of arm, matrix (the one with the largest cosine between columns of two tasks),
        largest_cosine, mean_distance (|| A^T A - I ||_F over matrices), largest_condition, and
        seconds of training over those of the same training without orthogonality; means over
        seeds, extremes over seeds too; the last is empty where that was not trained.
    """
    seconds = {arm: _mean(own) for arm, own in _by_seed(costs, "cost", "train_seconds").items()}
    rows = []
    for arm, cosine in _last(records, "largest_cosine").items():
        worst = cosine.iloc[int(cosine["value"].to_numpy().argmax())]
        free = seconds.get(_without(arm))
        rows.append(
            {
                "arm": arm,
                "matrix": str(worst["metric"]),
                "largest_cosine": float(worst["value"]),
                "mean_distance": float(_last(records, "distance")[arm]["value"].mean()),
                "largest_condition": float(_last(records, "condition")[arm]["value"].max()),
                "seconds_over_off": seconds[arm] / free if free and arm in seconds else None,
            }
        )
    return rows


def similarity_rows(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, for each order, how alike its tasks are on the backbone.

    Args:
        records: With the task ``similarity``: step = one task, metric such as ``task_02`` = the
            other, value = the cosine of their mean features.

    Returns:
        Rows of seed, mean, lowest and highest cosine between two different tasks.
    """
    rows = records[records["task"] == "similarity"]
    rows = rows[rows["arm"] == rows["arm"].iloc[0]] if len(rows) else rows
    other = rows["metric"].str.removeprefix("task_").astype(int)
    apart = rows[other > rows["step"]]
    return [
        {
            "seed": str(seed),
            "mean_cosine": float(own["value"].mean()),
            "lowest": float(own["value"].min()),
            "highest": float(own["value"].max()),
        }
        for seed, own in apart.groupby("seed")
    ]


def stability_rows(records: pd.DataFrame, interventions: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how far seeds agree on which matrices matter, and on which were frozen.

    Args:
        records: With the task ``importance``: step = tasks learnt, metric = the matrix.
        interventions: The ledger.

    Returns:
        Rows of arm, seeds, rank_correlation (Spearman, after the first task, when all matrices
        still learn), frozen (matrices a seed, mean) and frozen_overlap (shared over all, Jaccard)
        with what random sets of that size would share; means over pairs of seeds, empty where
        there is no pair.
    """
    frozen = _frozen(interventions)
    rows = []
    for arm in [arm for arm in dict.fromkeys(records["arm"]) if arm in frozen]:
        own = records[(records["task"] == "importance") & (records["arm"] == arm)]
        sets, matrices = list(frozen[arm].values()), own["metric"].nunique()
        size = sum(map(len, sets)) / len(sets)
        rows.append(
            {
                "arm": arm,
                "seeds": len(sets),
                "rank_correlation": _rank_correlation(own),
                "frozen": size,
                "frozen_overlap": _pairwise(sets, lambda a, b: len(a & b) / len(a | b)),
                "overlap_by_chance": size / (2 * matrices - size) if matrices else None,
            }
        )
    return rows


def _by_seed(table: pd.DataFrame, task: str, metric: str) -> dict[str, list[float]]:
    rows = values_of(table, task, metric)
    rows = rows[~rows["arm"].str.endswith(READINGS)]
    return {
        str(arm): [float(value) for value in own["value"]]
        for arm, own in rows.groupby("arm", sort=False)
    }


def _spread(name: str, values: list[float] | None) -> dict[str, float | None]:
    ends = ("lowest", "highest")
    if not values:
        return dict.fromkeys((name, f"sd_of_{name}", *(f"{end}_{name}" for end in ends)))
    sd = statistics.stdev(values) if len(values) > 1 else None
    told = {name: _mean(values), f"sd_of_{name}": sd}
    return told | {f"lowest_{name}": min(values), f"highest_{name}": max(values)}


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _last(records: pd.DataFrame, task: str) -> dict[str, pd.DataFrame]:
    """Return, by training, the rows of a table of matrices after the last task."""
    rows = records[(records["task"] == task) & ~records["arm"].str.endswith(READINGS)]
    rows = rows[rows["step"] == rows["step"].max()]
    return {str(arm): own for arm, own in rows.groupby("arm", sort=False)}


def _without(arm: str) -> str:
    """Return the arm that is trained alike without orthogonality."""
    return f"{'lorac_ipc' if arm.startswith('lorac_ipc') else 'lorac'}_no_ortho"


def _frozen(interventions: pd.DataFrame) -> dict[str, dict[int, set[str]]]:
    """Return, by arm and seed, the names of the frozen matrices."""
    found: dict[str, dict[int, set[str]]] = {}
    if not len(interventions):
        return found
    rows = interventions[interventions["kind"] == FREEZE]
    rows = rows[~rows["arm"].str.endswith(READINGS)]
    for (arm, seed), own in rows.groupby(["arm", "seed"], sort=False):
        found.setdefault(str(arm), {})[int(str(seed))] = set(own["target"])
    return found


def _rank_correlation(rows: pd.DataFrame) -> float | None:
    first = rows[rows["step"] == rows["step"].min()] if len(rows) else rows
    wide = first.pivot_table(index="metric", columns="seed", values="value")
    columns = [wide[seed] for seed in wide.columns]
    return _pairwise(columns, lambda a, b: float(a.corr(b, method="spearman")))


def _pairwise(items: list[Any], measure: Callable[[Any, Any], float]) -> float | None:
    found = [measure(one, other) for one, other in combinations(items, 2)]
    return _mean(found) if found else None
