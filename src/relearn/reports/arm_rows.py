"""Rows of records by metric and arm: which arms share a training, and which of them forget."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def values_of(records: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Return the rows of one metric.

    Args:
        records: Columns as in ``relearn.reports.comparison.COLUMNS``.
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
    """
    return records[(records["task"] == task) & (records["metric"] == metric)]


def distinct_arms(rows: pd.DataFrame) -> dict[str, list[str]]:
    """Return arm to all arms with the very same rows: models of one training share its curves.

    Args:
        rows: Of one metric.
    """
    found: dict[tuple[object, ...], list[str]] = {}
    for arm in dict.fromkeys(rows["arm"]):
        mine = rows[rows["arm"] == arm].sort_values(["seed", "step"])
        key = tuple(mine[["seed", "step", "value"]].itertuples(index=False, name=None))
        found.setdefault(key, []).append(str(arm))
    return {arms[0]: arms for arms in found.values()}


def forgetting_arms(records: pd.DataFrame) -> list[str]:
    """Return the arms that forget, in the order of the records, each training once."""
    return list(distinct_arms(values_of(records, "recovery", "dip")))


def treated_of(records: pd.DataFrame, *, named: str = "") -> str:
    """Return the arm whose forgettings are drawn: the named one, or the first that forgets.

    Args:
        records: Of all arms that are compared.
        named: Preferred where the records have it.
    """
    arms = list(dict.fromkeys(records["arm"]))
    forgetting = forgetting_arms(records)
    return named if named in arms else (forgetting[0] if forgetting else "")


def final_means(records: pd.DataFrame, task: str, metric: str) -> pd.Series[float]:
    """Return the mean over seeds of the value at the largest step of each seed, by arm.

    Args:
        records: Of all arms that are compared.
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
    """
    from relearn.reports.comparison import final_values

    final = final_values(records, task=task, metric=metric)
    return final.groupby("arm", sort=False)["value"].mean()


def leading_arms(records: pd.DataFrame, *, named: tuple[str, ...], most: int = 7) -> list[str]:
    """Return the named arms and then as many others as lines can still be told apart.

    Args:
        records: Of one metric.
        named: Arms that must be there, in this order; those without records are left out.
        most: How many arms altogether. Other moments (``_stopped``) and the student of a training
            come last.
    """
    arms = list(dict.fromkeys(records["arm"]))
    first = [arm for arm in dict.fromkeys(named) if arm in arms]
    rest = [str(arm) for arm in arms if arm not in first]
    rest.sort(key=lambda arm: arm.endswith(("_stopped", "_student")))
    return [*first, *rest][: max(most, len(first))]


def left_out(arms: list[str], shown: list[str]) -> str:
    """Return the end of a note that names the arms a figure has no room for; empty where none.

    Args:
        arms: All there are.
        shown: Those that are drawn.
    """
    rest = [arm for arm in arms if arm not in shown]
    return f" No room for {', '.join(rest)}." if rest else ""
