"""The pictures of a stream of tasks, as one: one dataset leaves the namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.continual_figures import continual_figures
from relearn.reports.stacked import stacked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def overview(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return accuracy matrix, first task, orders, drift and similarity, one below the other.

    Args:
        records: Of the arms.
        baseline: Arm drawn in black.
    """
    drawn = [figure for _, _, figure in continual_figures(records, baseline=baseline)]
    return stacked(drawn)
