"""Figures of the last-layer probe: ladder, width law, depth, learning curve, penalty paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from relearn.reports.arm_rows import values_of
from relearn.reports.comparison import final_values
from relearn.reports.figures import (
    PALETTE,
    add_note,
    colours_of,
    draw_curves,
    name_axis,
    new_figure,
)
from relearn.reports.paired import paired_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ACCURACY = "accuracy (%)"
_MOST_LINES = 8
_WIDTH = r"_(\d+)$"


def probe_figures(records: pd.DataFrame, *, baseline: str) -> Iterator[tuple[str, str, Figure]]:
    """Yield title, caption and figure of everything that the records can show.

    Args:
        records: Of the arms.
        baseline: Arm drawn in black.
    """
    if len(values_of(records, "test", "accuracy")):
        yield (
            "The ladder",
            "Test accuracy of every arm, from the cheapest rung to the dearest.",
            draw_ladder(records, baseline=baseline),
        )
    if len(values_of(records, "learning_curve", "accuracy")):
        yield (
            "Learning curve",
            "The same heads on fewer training images.",
            draw_learning_curve(records, baseline=baseline),
        )
    if len(values_of(records, "width_law", "rms")):
        yield (
            "Width law",
            "Error of the random kernel against its limit; slope -1/2 is predicted.",
            draw_width_law(records),
        )
    if len(values_of(records, "path", "accuracy")):
        yield (
            "Penalty paths",
            "Accuracy leaving one out (ridge) or on validation images (logistic) by penalty.",
            draw_paths(records),
        )


def draw_ladder(
    records: pd.DataFrame, *, baseline: str, target: float = 0.0, confidence: float = 0.95
) -> Figure:
    """Return one line an arm: single seeds as dots, the mean with its t interval.

    Args:
        records: Of all arms, with ``accuracy`` of the task ``test``.
        baseline: Arm drawn in black, with a line through its mean.
        target: Accuracy that is needed, 0 to 1; 0 draws none.
        confidence: Coverage of the intervals.
    """
    final = final_values(records, task="test", metric="accuracy")
    arms = [str(a) for a in dict.fromkeys(records["arm"]) if a in set(final["arm"])]
    figure, axes = new_figure(8.6, 1.5 + 0.36 * max(1, len(arms)))
    axis = axes[0, 0]
    for place, arm in enumerate(arms):
        values = [100 * v for v in final[final["arm"] == arm]["value"]]
        colour = PALETTE[0] if arm == baseline else PALETTE[1]
        _mark(axis, place, values, colour=colour, confidence=confidence)
    base = final[final["arm"] == baseline]["value"]
    if len(base):
        axis.axvline(100 * base.mean(), color=PALETTE[0], lw=1, ls=":")
    if target:
        axis.axvline(100 * target, color=PALETTE[3], lw=1.2, ls="--")
    axis.set_yticks(range(len(arms)), arms)
    axis.set_ylim(len(arms) - 0.5, -0.6)
    axis.grid(visible=False, axis="y")
    name_axis(axis, title="The ladder", x=f"test {_ACCURACY}")
    dashed = " Dashed: the target." if target else ""
    add_note(
        figure,
        f"Dots: single seeds. Diamond and bar: mean with {100 * confidence:g} % t interval. "
        f"Dotted: {baseline}.{dashed}",
    )
    return figure


def _mark(
    axis: Axes, place: float, values: Sequence[float], *, colour: str, confidence: float
) -> None:
    found = paired_interval(values, confidence)
    axis.plot(values, [place + 0.2] * len(values), "o", ms=3.5, color=colour, alpha=0.45)
    axis.plot([found.mean], [place], "D", ms=5.5, color=colour)
    if found.low is not None and found.high is not None:
        ends = [max(0.0, found.low), min(100.0, found.high)]
        axis.plot(ends, [place, place], "-", lw=2.2, color=colour, solid_capstyle="butt")


def draw_learning_curve(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return validation accuracy over the number of training images.

    Args:
        records: With the task ``learning_curve``.
        baseline: Arm drawn in black.
    """
    rows = values_of(records, "learning_curve", "accuracy")
    shown = _leading(rows, baseline)
    return draw_curves(
        rows[rows["arm"].isin(shown)],
        task="learning_curve",
        metric="accuracy",
        x_label="training images",
        title="Learning curve on validation images",
        baseline=baseline,
    )


def _leading(rows: pd.DataFrame, baseline: str) -> list[str]:
    """Return the baseline and the arms that end highest, as many as can be told apart."""
    last = rows.sort_values("step").groupby(["arm", "seed"])["value"].last()
    order = last.groupby("arm").mean().sort_values(ascending=False, kind="stable")
    others = [str(arm) for arm in order.index if arm != baseline]
    return [baseline, *others][:_MOST_LINES]


def draw_width_law(records: pd.DataFrame) -> Figure:
    """Return RMS error of the random kernel over width, both logarithmic, with fitted slopes.

    Args:
        records: With ``rms`` of the task ``width_law``, of arms named ``random_<body>_<width>``.
    """
    rows = values_of(records, "width_law", "rms").copy()
    rows["body"] = rows["arm"].str.removeprefix("random_").str.replace(_WIDTH, "", regex=True)
    figure, axes = new_figure(7.4, 4.4)
    axis = axes[0, 0]
    bodies = list(dict.fromkeys(rows["body"]))
    looks = colours_of(["", *bodies])
    for body in bodies:
        mine = rows[rows["body"] == body]
        means = mine.groupby("step")["value"].mean()
        colour, dash = looks[body]
        axis.plot(mine["step"], mine["value"], "o", ms=3.5, alpha=0.4, color=colour)
        label = body
        if len(means) > 1:
            x = means.index.to_numpy(dtype=float)
            slope, level = np.polyfit(np.log(x), np.log(means.to_numpy()), 1)
            axis.plot(x, np.exp(level) * x**slope, dash, color=colour, lw=1.8)
            label = f"{body}: slope {slope:.2f}"
        axis.plot(means.index, means, "D", ms=5, color=colour, label=label)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.legend(fontsize=9, frameon=False)
    name_axis(
        axis,
        title="Random kernel against its limit",
        x="replicas r",
        y="RMS error over the diagonal",
    )
    count = rows["seed"].nunique()
    add_note(figure, f"Dots: n = {count} seeds. Line: least squares. Predicted slope: -0.5.")
    return figure


def draw_paths(records: pd.DataFrame) -> Figure:
    """Return accuracy by penalty for the arms that end highest, mean over seeds.

    Args:
        records: With the task ``path``.
    """
    scores, penalties = (
        values_of(records, "path", "accuracy"),
        values_of(records, "path", "penalty"),
    )
    best = scores.groupby("arm", sort=False)["value"].max().sort_values(ascending=False)
    arms = [str(arm) for arm in best.index if "permuted" not in str(arm)][:_MOST_LINES]
    figure, axes = new_figure(8.0, 4.4)
    axis = axes[0, 0]
    looks = colours_of(arms)
    for arm in arms:
        y = scores[scores["arm"] == arm].groupby("step")["value"].mean()
        x = penalties[penalties["arm"] == arm].groupby("step")["value"].mean()
        colour, dash = looks[arm]
        axis.plot(x, 100 * y, dash, color=colour, lw=1.7, label=arm)
        place = int(y.to_numpy().argmax())
        axis.plot([x.iloc[place]], [100 * y.iloc[place]], "o", ms=5, color=colour)
    axis.set_xscale("log")
    if arms:
        axis.legend(fontsize=8, frameon=False)
    name_axis(axis, title="Penalty paths", x="penalty over the mean squared norm", y=_ACCURACY)
    add_note(figure, "Mean over seeds. Dot: the best penalty. No test image is read here.")
    return figure


def draw_depth(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Return the correlation of two inputs layer by layer, and where each skeleton stands.

    Args:
        rows: As in the report before training: skeleton, depth, curve, regime, effective_rank.
    """
    figure, axes = new_figure(8.0, 4.2)
    axis = axes[0, 0]
    looks = colours_of(["", *(str(row["skeleton"]) for row in rows)])
    drawn: set[tuple[float, ...]] = set()
    for row in rows:
        colour, dash = looks[str(row["skeleton"])]
        curve = [float(value) for value in row["curve"]]
        label = f"{row['skeleton']}: {row['regime']}, rank {100 * row['effective_rank']:.0f} %"
        style = "" if tuple(curve) in drawn else dash
        drawn.add(tuple(curve))
        if style:
            axis.plot(range(len(curve)), curve, style, color=colour, lw=1.6)
        place = min(int(row["depth"]), len(curve) - 1)
        axis.plot([place], [curve[place]], "o", ms=7, color=colour, label=label)
    axis.set_ylim(-0.02, 1.02)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if rows:
        axis.legend(fontsize=8, frameon=False, loc="lower right")
    name_axis(axis, title="Depth before training", x="layers", y="correlation of two inputs")
    add_note(figure, "Dot: the skeleton's own depth. Rank: effective rank of its kernel / images.")
    return figure
