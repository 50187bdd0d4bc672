"""Figures of the comparison: differences with intervals, curves over steps, heat maps, costs.

Every function returns a ``matplotlib.figure.Figure`` of its own (pyplot keeps global state and is
closed under our feet by datasets). Colours are Okabe and Ito's, told apart by colour-blind
readers; the baseline is always grey-black, and lines differ in dash as well as in colour.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from relearn.reports.names import metric_title
from relearn.reports.wording import scale_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes

    from relearn.reports.comparison import Comparison

PALETTE = ("#222222", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
DASHES = ("-", "-", "--", "--", "-.", "-.", ":", ":")
_TEXT, _GRID, _SMALL = "#222222", "#DDDDDD", 8.5


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Return a figure in inches and its axes, as an array of shape (rows, columns).

    Args:
        width: Inches.
        height: Inches.
        rows: Rows of axes.
        columns: Columns of axes.
    """
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(visible=True, color=_GRID, linewidth=0.7)
        axis.set_axisbelow(True)
        axis.tick_params(labelsize=9, colors=_TEXT)
    return figure, axes


def name_axis(axis: Axes, *, title: str = "", x: str = "", y: str = "") -> None:
    """Give an axis its title and its labels.

    Args:
        axis: The axis.
        title: What is drawn.
        x: What runs to the right, with unit.
        y: What runs upwards, with unit.
    """
    axis.set_title(title, fontsize=11, loc="left", color=_TEXT)
    axis.set_xlabel(x, fontsize=10)
    axis.set_ylabel(y, fontsize=10)


_LETTERS_PER_INCH = 15
"""Letters of a note that fit on an inch."""


def add_note(figure: Figure, text: str) -> None:
    """Write a line under the figure, or several where it is too narrow for one.

    Args:
        figure: As from ``new_figure``.
        text: What n and the spread mean.
    """
    letters = int(figure.get_figwidth() * _LETTERS_PER_INCH)
    text = textwrap.fill(text, width=letters, break_on_hyphens=False)
    figure.supxlabel(text, fontsize=_SMALL, color="#555555", x=0.01, ha="left")


def colours_of(arms: Sequence[str], baseline: str = "") -> dict[str, tuple[str, str]]:
    """Return arm to (colour, dash); the baseline takes the first one.

    Args:
        arms: All arms of the figure, in the order of the legend.
        baseline: Arm drawn in black; empty for the first.
    """
    ordered = sorted(arms, key=lambda arm: arm != baseline) if baseline else list(arms)
    styles = zip(PALETTE, DASHES, strict=True)
    looks = list(styles)
    return {arm: looks[i % len(looks)] for i, arm in enumerate(ordered)}


def draw_differences(comparisons: Sequence[Comparison]) -> Figure:
    """Return a forest plot: one line per comparison, each pair a dot, the interval a bar.

    Args:
        comparisons: Those that are measured; metrics of different units get axes of their own.
    """
    shown = [c for c in comparisons if c.difference is not None]
    units = list(dict.fromkeys(scale_of(c.question.metric).points for c in shown)) or [""]
    groups = [[c for c in shown if scale_of(c.question.metric).points == u] for u in units]
    height = 0.9 + 0.62 * max(len(shown), 1) + 0.5 * len(groups)
    figure, axes = new_figure(8.6, height, rows=len(groups))
    for axis, unit, group in zip(axes[:, 0], units, groups, strict=True):
        _draw_forest(axis, group)
        name_axis(axis, x=f"treated minus baseline{f' ({unit})' if unit else ''}")
    confidence = f"{100 * shown[0].question.confidence:g} %" if shown else ""
    add_note(figure, f"Small dots: one pair of seeds each. Bar: mean with {confidence} t interval.")
    return figure


def _draw_forest(axis: Axes, group: Sequence[Comparison]) -> None:
    for place, comparison in enumerate(reversed(group)):
        scale, found = scale_of(comparison.question.metric), comparison.difference
        if found is None:
            continue
        pairs = zip(comparison.treated_values, comparison.baseline_values, strict=True)
        dots = [scale.factor * (treated - baseline) for treated, baseline in pairs]
        colour = PALETTE[1] if comparison.question.name == "headline" else PALETTE[3]
        axis.plot(dots, [place - 0.18] * len(dots), "o", ms=4, color=colour, alpha=0.45)
        mean = scale.factor * found.mean
        axis.plot([mean], [place], "D", ms=6, color=colour)
        if found.low is not None and found.high is not None:
            ends = [scale.factor * found.low, scale.factor * found.high]
            axis.plot(ends, [place, place], "-", lw=2.4, color=colour, solid_capstyle="butt")
    axis.axvline(0, color=_TEXT, lw=1)
    axis.set_yticks(range(len(group)), [_line_title(c) for c in reversed(group)])
    axis.set_ylim(-0.6, len(group) - 0.4)
    axis.grid(visible=False, axis="y")


def _line_title(comparison: Comparison) -> str:
    question = comparison.question
    what = f"{question.task.replace('_', ' ')} {question.metric.replace('_', ' ')}"
    arms = f"{question.treated} minus {question.baseline}"
    return f"{question.name}: {what}\n{arms}, n = {len(comparison.seeds)}"


def draw_curves(
    records: pd.DataFrame,
    *,
    task: str,
    metric: str,
    x_label: str = "optimizer step",
    title: str = "",
    baseline: str = "",
    marks: Mapping[str, Sequence[int]] | None = None,
) -> Figure:
    """Return one curve per arm: mean over seeds, with the range from lowest to highest seed.

    Serves learning curves, adaptation curves (few-shot accuracy over steps) and retention curves
    (accuracy on the classes learnt so far).

    Args:
        records: Columns arm, seed, task, step, metric, value.
        task: Protocol that is drawn.
        metric: Metric that is drawn.
        x_label: What ``step`` counts, with unit.
        title: Title; empty names metric and task.
        baseline: Arm drawn in black.
        marks: Arm to steps at which its weights were changed outside the optimizer.
    """
    rows = records[(records["task"] == task) & (records["metric"] == metric)]
    scale = scale_of(metric)
    figure, axes = new_figure(8.0, 4.4)
    axis = axes[0, 0]
    looks = colours_of(list(dict.fromkeys(rows["arm"])), baseline)
    for arm, (colour, dash) in looks.items():
        steps, mean, low, high = _spread_of(rows[rows["arm"] == arm], scale.factor)
        axis.plot(steps, mean, dash, color=colour, lw=1.9, label=_counted(rows, arm))
        axis.fill_between(steps, low, high, color=colour, alpha=0.14, linewidth=0)
        for step in (marks or {}).get(arm, ()):
            axis.axvline(step, color=colour, lw=0.8, ls=":", alpha=0.7)
    unit = f" ({scale.unit})" if scale.unit else ""
    heading = title or metric_title(task, metric)
    name_axis(axis, title=heading, x=x_label, y=f"{metric.replace('_', ' ')}{unit}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if looks:
        axis.legend(fontsize=9, frameon=False)
    marked = " Dotted lines: changes outside the optimizer." if marks else ""
    add_note(figure, f"Line: mean over seeds. Band: lowest to highest seed.{marked}")
    return figure


def _counted(rows: pd.DataFrame, arm: str) -> str:
    return f"{arm} (n = {rows[rows['arm'] == arm]['seed'].nunique()})"


def _spread_of(rows: pd.DataFrame, factor: float) -> tuple[Any, Any, Any, Any]:
    """Return steps with mean, lowest and highest value over the seeds."""
    found = rows.groupby("step")["value"].agg(["mean", "min", "max"]).sort_index()
    values = found.to_numpy(dtype=float) * factor
    return found.index.to_numpy(), values[:, 0], values[:, 1], values[:, 2]


def draw_heatmap(
    table: pd.DataFrame,
    *,
    title: str,
    x_label: str,
    y_label: str,
    unit: str = "",
    note: str = "",
    width: float = 7.6,
) -> Figure:
    """Return a heat map, with the numbers written in where there is room for them.

    Serves the table of reset initialisation against transfer-head initialisation, and the accuracy
    matrix of continual transfer (rows: classes learnt so far; columns: class).

    Args:
        table: Numbers as they are to be shown; row and column labels are index and columns.
        title: Title.
        x_label: What the columns are.
        y_label: What the rows are.
        unit: Unit of the numbers.
        note: What n and the numbers mean.
        width: Inches.
    """
    values = table.to_numpy(dtype=float)
    small = values.size <= 120
    figure, axes = new_figure(width, min(1.6 + 0.42 * len(table), 7.6) if small else 5.0)
    axis = axes[0, 0]
    image = axis.imshow(values, aspect="auto", cmap="cividis", interpolation="nearest")
    figure.colorbar(image, ax=axis, shrink=0.9).set_label(unit, fontsize=9)
    axis.grid(visible=False)
    _label_cells(axis, table, every_cell=small)
    name_axis(axis, title=title, x=x_label, y=y_label)
    add_note(figure, note)
    return figure


def _label_cells(axis: Axes, table: pd.DataFrame, *, every_cell: bool) -> None:
    most = 16 if every_cell else 12
    rows = range(0, len(table), max(1, -(-len(table) // most)))
    columns = range(0, table.shape[1], max(1, -(-table.shape[1] // 12)))
    axis.set_yticks(rows, [str(table.index[r]) for r in rows])
    axis.set_xticks(columns, [str(table.columns[c]) for c in columns])
    if not every_cell:
        return
    values = table.to_numpy(dtype=float)
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for row, column in np.ndindex(values.shape):
        number = values[row, column]
        ink = "white" if number < middle else "black"
        text = "-" if np.isnan(number) else f"{number:.1f}"
        axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
