"""Figures of what a forgetting costs for a while: the dip, and the epochs until it is made good."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from relearn.reports.arm_rows import forgetting_arms
from relearn.reports.figures import DASHES, PALETTE, add_note, name_axis, new_figure
from relearn.reports.phase_figures import legend_beside

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKS = {"never": "x", "rolled back": "s"}
_NOT_BACK = {"never": "not back in time", "rolled back": "rolled back"}


def recoveries_of(records: pd.DataFrame) -> pd.DataFrame:
    """Return one row per training, seed and forgetting.

    Args:
        records: With the task ``recovery``; its step is the number of the forgetting.

    Returns:
        Columns arm, seed, step and the metrics, such as dip, recovery_epochs and rolled_back.
    """
    arms = forgetting_arms(records)
    rows = records[(records["task"] == "recovery") & records["arm"].isin(arms)]
    table = rows.pivot_table(index=["arm", "seed", "step"], columns="metric", values="value")
    return table.reset_index()


def draw_recovery(records: pd.DataFrame, *, treated: str = "") -> Figure:
    """Return the robust accuracy lost at each forgetting, and the epochs until it was back.

    Args:
        records: As for ``recoveries_of``.
        treated: Arm drawn in blue; empty for the first.
    """
    table = recoveries_of(records)
    figure, axes = new_figure(10.2, 4.2, columns=2)
    arms = sorted(forgetting_arms(records), key=lambda arm: arm != treated)[: len(PALETTE) - 1]
    looks = zip(arms, PALETTE[1:], DASHES[1:], strict=False)
    for place, (arm, colour, dash) in enumerate(looks):
        mine = table[table["arm"] == arm].copy()
        mine["step"] += 0.12 * (place - (len(arms) - 1) / 2)  # beside each other, not on top
        _draw_mean(axes[0, 0], mine["step"], 100 * mine["dip"], (arm, colour, dash))
        back = mine[(mine["recovery_epochs"] >= 0) & (mine["rolled_back"] == 0)]
        _draw_mean(axes[0, 1], back["step"], back["recovery_epochs"], (arm, colour, dash))
        _draw_not_back(axes[0, 1], mine, colour)
    name_axis(axes[0, 0], title="Dip", x="forgetting", y="robust accuracy lost (points)")
    name_axis(axes[0, 1], title="Recovery", x="forgetting", y="epochs until it was back")
    axes[0, 1].yaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0, 1].set_ylim(0, 1.08 * max(1.0, axes[0, 1].get_ylim()[1]))
    legend_beside(
        axes[0, 1],
        [
            Line2D([], [], ls="", marker=mark, color="#555555", mfc="none", label=_NOT_BACK[kind])
            for kind, mark in _MARKS.items()
        ],
    )
    add_note(figure, "One dot per seed and forgetting, line: mean over those that came back.")
    return figure


def _draw_mean(
    axis: Axes, numbers: pd.Series[int], values: pd.Series[float], look: tuple[str, str, str]
) -> None:
    label, colour, dash = look
    mean = values.groupby(numbers).mean().sort_index()
    axis.plot(mean.index, mean.to_numpy(), dash, color=colour, lw=1.9, label=label)
    axis.plot(numbers, values, "o", ms=4, alpha=0.4, color=colour)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_not_back(axis: Axes, rows: pd.DataFrame, colour: str) -> None:
    """Mark on the upper edge, whatever the scale: later than anything that was seen."""
    rolled = rows["rolled_back"] > 0
    found = {"never": rows[(rows["recovery_epochs"] < 0) & ~rolled], "rolled back": rows[rolled]}
    for kind, some in found.items():
        if len(some):  # an empty line has its bounds in the corner, which squeezes the layout
            place = axis.get_xaxis_transform()
            axis.plot(
                some["step"],
                [1.0] * len(some),
                _MARKS[kind],
                ms=7,
                color=colour,
                mfc="none",
                transform=place,
                clip_on=False,
            )
