"""Figures of growing: accuracy over FLOPs, where each arm starts and ends, and a Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.arm_rows import final_means, values_of
from relearn.reports.figures import PALETTE, add_note, colours_of, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from matplotlib.figure import Figure

_GIGA = 1e9
_ACCURACY = "validation accuracy (%)"


def growth_figures(records: pd.DataFrame, *, baseline: str) -> Iterator[tuple[str, str, Figure]]:
    """Yield title, caption and figure of everything that the records can show.

    Args:
        records: Of the arms.
        baseline: Arm drawn in black.
    """
    if len(values_of(records, "curve", "total_flops")):
        yield (
            "Accuracy for all computation",
            "The teacher's training is counted where an arm needs a teacher.",
            draw_flops(records, baseline=baseline),
        )
    if len(values_of(records, "start", "accuracy")):
        yield (
            "Start and end",
            "Validation accuracy before the first step and after the last.",
            draw_start_and_end(records, baseline=baseline),
        )


def draw_flops(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return validation accuracy over all FLOPs of training, the teacher's counted.

    Args:
        records: With ``validation_accuracy`` and ``total_flops`` of the task ``curve``.
        baseline: Arm drawn in black.
    """
    rows = values_of(records, "curve", "validation_accuracy")
    spent = values_of(records, "curve", "total_flops")
    figure, axes = new_figure(8.0, 4.4)
    axis = axes[0, 0]
    looks = colours_of(list(dict.fromkeys(rows["arm"])), baseline)
    for arm, (colour, dash) in looks.items():
        found = rows[rows["arm"] == arm].groupby("step")["value"].agg(["mean", "min", "max"])
        flops = spent[spent["arm"] == arm].groupby("step")["value"].mean() / _GIGA
        count = rows[rows["arm"] == arm]["seed"].nunique()
        axis.plot(
            flops, 100 * found["mean"], dash, color=colour, lw=1.9, label=f"{arm} (n = {count})"
        )
        axis.fill_between(
            flops, 100 * found["min"], 100 * found["max"], color=colour, alpha=0.14, linewidth=0
        )
    name_axis(
        axis,
        title="Validation accuracy by all computation, the teacher counted",
        x="training FLOPs (10$^9$)",
        y=_ACCURACY,
    )
    if looks:
        axis.legend(fontsize=9, frameon=False)
    add_note(figure, "Line: mean over seeds. Band: lowest to highest seed.")
    return figure


def draw_start_and_end(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return one bar for each arm from its first to its last validation accuracy.

    Args:
        records: With the tasks ``start`` and ``validation``.
        baseline: Arm drawn in black.
    """
    begin = 100 * final_means(records, "start", "accuracy")
    end = 100 * final_means(records, "validation", "accuracy")
    arms = [str(arm) for arm in dict.fromkeys(values_of(records, "start", "accuracy")["arm"])]
    looks = colours_of(arms, baseline)
    figure, axes = new_figure(8.0, 1.7 + 0.45 * len(arms))
    axis = axes[0, 0]
    for place, arm in enumerate(arms):
        colour = looks[arm][0]
        axis.plot([begin[arm], end[arm]], [place, place], "-", color=colour, lw=2.4)
        axis.plot([begin[arm]], [place], "o", ms=7, mfc="white", mec=colour)
        axis.plot([end[arm]], [place], "o", ms=7, color=colour)
    level = 100 * values_of(records, "start", "teacher_accuracy")["value"].mean()
    axis.axvline(level, color=PALETTE[0], lw=1, ls=":")
    axis.set_yticks(range(len(arms)), arms)
    axis.set_ylim(len(arms) - 0.5, -0.5)
    axis.grid(visible=False, axis="y")
    name_axis(axis, title="Where each arm starts and ends", x=_ACCURACY)
    add_note(figure, "Open: before the first step. Full: at the end. Dotted: the teacher. Means.")
    return figure


def draw_front(table: pd.DataFrame) -> Figure:
    """Return validation accuracy over latency of every design, the front joined by a line.

    Args:
        table: One row a design: design, parent (empty for the teacher), latency_seconds,
            validation_accuracy, on_front.
    """
    figure, axes = new_figure(8.0, 4.8)
    axis = axes[0, 0]
    x, y = 1e3 * table["latency_seconds"], 100 * table["validation_accuracy"]
    front = table["on_front"].astype(bool)
    order = x[front].sort_values().index
    axis.plot(x[order], y[order], "-", color=PALETTE[1], lw=1.4)
    axis.plot(x[~front], y[~front], "o", ms=6, mfc="white", mec=PALETTE[3])
    axis.plot(x[front], y[front], "o", ms=7, color=PALETTE[1])
    teacher = table["parent"].fillna("") == ""
    axis.plot(x[teacher], y[teacher], "s", ms=8, color=PALETTE[0])
    for place in order:
        axis.annotate(
            str(table["design"][place]),
            (x[place], y[place]),
            xytext=(5, -11),
            textcoords="offset points",
            fontsize=8,
        )
    name_axis(
        axis,
        title="What a larger net earns, and what it costs for ever",
        x="latency of a batch (ms)",
        y=_ACCURACY,
    )
    add_note(
        figure,
        "Square: the teacher. Full: no other design is better in both. One seed, chosen on these "
        "images: confirm what you take.",
    )
    return figure
