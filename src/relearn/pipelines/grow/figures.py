"""The pictures of growing: accuracy against steps and FLOPs, start and end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.figures import draw_curves
from relearn.reports.growth_figures import draw_flops, draw_start_and_end
from relearn.reports.stacked import stacked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def overview(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return accuracy over steps, over FLOPs with the teacher counted, and start against end.

    They come as one picture, one below the other: one dataset leaves the namespace.

    Args:
        records: Of the arms.
        baseline: Arm drawn in black.
    """
    return stacked(
        [
            draw_curves(
                records,
                task="curve",
                metric="validation_accuracy",
                x_label="optimizer step since growth",
                title="Validation accuracy by steps, the teacher already there",
                baseline=baseline,
            ),
            draw_flops(records, baseline=baseline),
            draw_start_and_end(records, baseline=baseline),
        ]
    )
