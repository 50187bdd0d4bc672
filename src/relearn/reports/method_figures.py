"""Figures of what surrounds a comparison: costs of the arms, and the shock after a reset."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from relearn.reports.figures import PALETTE, add_note, colours_of, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_costs(
    costs: pd.DataFrame, *, baselines: Sequence[str], metric: str = "train_seconds"
) -> Figure:
    """Return one bar per arm with the ratio to the baseline written beside it.

    Args:
        costs: As from ``relearn.reports.costs.cost_table``: arm, metric, unit, seeds, mean, sd,
            ratio.
        baselines: Arms drawn in black.
        metric: Cost that is drawn.
    """
    rows = costs[costs["metric"] == metric].reset_index(drop=True)
    figure, axes = new_figure(8.0, 1.1 + 0.42 * max(len(rows), 1))
    axis = axes[0, 0]
    colours = [PALETTE[0] if arm in baselines else PALETTE[1] for arm in rows["arm"]]
    spread = rows["sd"].fillna(0.0)
    axis.barh(rows["arm"], rows["mean"], xerr=spread, color=colours, height=0.6, capsize=3)
    ends, ratios = rows["mean"] + spread, rows["ratio"]
    for place, (end, ratio) in enumerate(zip(ends, ratios, strict=True)):
        text = "" if math.isnan(ratio) else f"  {ratio:.2f}x"
        axis.text(end, place, text, va="center", fontsize=9)
    axis.set_ylim(max(len(rows), 1) - 0.4, -0.6)
    axis.margins(x=0.15)
    axis.grid(visible=False, axis="y")
    unit = rows["unit"].iloc[0] if len(rows) else ""
    name_axis(axis, x=f"{metric.replace('_', ' ')}{f' ({unit})' if unit else ''}")
    count = int(rows["seeds"].max()) if len(rows) else 0
    note = f"Mean over up to {count} seeds, line: one standard deviation. 1.00x = the baseline."
    add_note(figure, note)
    return figure


def draw_shocks(shocks: pd.DataFrame, *, baseline: str = "") -> Figure:
    """Return the accuracy lost at each reset and the steps until it was back.

    Args:
        shocks: Columns arm, seed, reset (1, 2, ...: number of the reset), drop (accuracy before
            minus accuracy right after, 0 to 1), recovery_steps (optimizer steps until the level
            before was reached again; missing where it never was).
        baseline: Arm drawn in black.
    """
    figure, axes = new_figure(9.6, 4.0, columns=2)
    arms = list(dict.fromkeys(shocks["arm"]))
    looks = colours_of(arms, baseline) if baseline else colours_of(["", *arms])
    for arm in arms:
        rows, (colour, _) = shocks[shocks["arm"] == arm], looks[arm]
        _mark_resets(axes[0, 0], rows["reset"], 100 * rows["drop"], (arm, colour))
        back = rows.dropna(subset=["recovery_steps"])
        _mark_resets(axes[0, 1], back["reset"], back["recovery_steps"], (arm, colour))
        _mark_never(axes[0, 1], rows[rows["recovery_steps"].isna()]["reset"], colour)
    name_axis(axes[0, 0], title="Shock", x="reset", y="accuracy lost (points)")
    name_axis(axes[0, 1], title="Recovery", x="reset", y="optimizer steps until recovered")
    if arms:
        axes[0, 0].legend(fontsize=9, frameon=False)
    add_note(figure, "One dot per seed and reset, line: mean. Crosses: not recovered in time.")
    return figure


def _mark_resets(
    axis: Axes, resets: pd.Series[int], values: pd.Series[float], look: tuple[str, str]
) -> None:
    label, colour = look
    axis.plot(resets, values, "o", ms=4, alpha=0.4, color=colour)
    mean = values.groupby(resets).mean().sort_index()
    axis.plot(mean.index, mean.to_numpy(), "-", color=colour, lw=1.8, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mark_never(axis: Axes, resets: Sequence[int], colour: str) -> None:
    if not len(resets):
        return  # an empty line has its bounds in the figure's corner, which squeezes the layout
    # At the upper edge whatever the scale: later than anything that was seen.
    place = axis.get_xaxis_transform()
    axis.plot(resets, [1.0] * len(resets), "x", ms=6, color=colour, transform=place, clip_on=False)
