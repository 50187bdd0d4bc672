"""The pictures of the probe as one, drawn by the figure functions of the reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relearn.reports.probe_figures import draw_depth, draw_ladder, probe_figures
from relearn.reports.stacked import stacked

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig


def overview(
    records: pd.DataFrame,
    recommendation: Mapping[str, Any],
    before: Mapping[str, Any],
    *,
    config: LastLayerProbeConfig,
) -> Figure:
    """Return ladder, depth report, learning curve, width law and penalty paths as one.

    Args:
        records: Of all arms.
        recommendation: Names the baseline.
        before: With the depth report.
        config: Target and coverage.
    """
    baseline = str(recommendation["baseline_arm"])
    first = draw_ladder(
        records,
        baseline=baseline,
        target=config.verdict.target,
        confidence=config.evidence.confidence,
    )
    _, *others = [figure for _, _, figure in probe_figures(records, baseline=baseline)]
    depth = [draw_depth(before["depth"])] if before["depth"] else []
    return stacked([first, *depth, *others])
