"""Candidate settings: the scores that their units wrote, and the settings that were chosen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import StaleInputError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution.units import Outcome


def scores_of(
    outcomes: Sequence[Outcome], *, each: int, seconds: Callable[[Any], float]
) -> list[list[tuple[float, float]]]:
    """Return (score, seconds) of every seed of every candidate, as ``search_rates`` takes them.

    Args:
        outcomes: Of units that saved a score; ``each`` in a row belong to one candidate.
        each: Seeds of a candidate.
        seconds: From what a unit wrote down of its time to what counts.
    """
    from relearn.arm_store import load_score

    told = [load_score(Path(outcome.path)) for outcome in outcomes]
    pairs = [(score, float(seconds(spent))) for score, spent in told]
    return [pairs[first : first + each] for first in range(0, len(pairs), each)]


def chosen_row(selection: pd.DataFrame, *, pipeline: str, column: str, name: str) -> pd.Series[Any]:
    """Return the row of the settings that were chosen.

    Args:
        selection: One row a candidate; columns ``column`` and ``chosen``.
        pipeline: Whose table it is.
        column: What has settings, such as ``arm``.
        name: Which of them.

    Raises:
        StaleInputError: The table does not know it.
    """
    rows = selection[(selection[column] == name) & selection["chosen"].astype(bool)]
    if len(rows) != 1:
        raise StaleInputError(
            f"{pipeline}.selection: has no settings for {column} {name!r}; run "
            f"`kedro run --pipeline {pipeline}` whole"
        )
    return rows.iloc[0]
