"""Curves of a training that forgets: its phases and forgettings, and robust overfitting."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from relearn.reports.arm_rows import distinct_arms, leading_arms, left_out, values_of
from relearn.reports.figures import PALETTE, add_note, colours_of, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PHASES = {0: ("warm-up", "white"), 1: ("learning", "#E9E9E9"), 2: ("relearning", "#FDF0D5")}
"""Value of the metric ``phase`` to its name and how its epochs are shaded."""

_BAND, _FEW = 0.15, 8


def draw_phases(records: pd.DataFrame, *, baseline: str, treated: str) -> Figure:
    """Return validation robust accuracy of every arm over the epochs, with the phases behind it.

    Args:
        records: Of all arms that are compared.
        baseline: Arm drawn in black.
        treated: Arm whose phases are shaded and whose forgettings are marked.
    """
    metric = "validation_robust_accuracy"
    rows = values_of(records, "curve", metric)
    groups = distinct_arms(rows)
    figure, axes = new_figure(10.2, 5.0)
    axis = axes[0, 0]
    shaded = _shade_phases(axis, records, treated)
    leaders = tuple(
        next((one for one, same in groups.items() if arm in same), "")
        for arm in (baseline, treated)
    )
    order = leading_arms(rows[rows["arm"].isin(list(groups))], named=leaders, most=_FEW)
    for arm, (colour, dash) in colours_of(order).items():
        _draw_spread(axis, rows[rows["arm"] == arm], arm, (colour, dash), bold=arm in leaders)
    marks = _mark_forgettings(axis, records, treated)
    name_axis(
        axis, title="Robust accuracy on validation images", x="epoch", y="robust accuracy (%)"
    )
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_beside(axis, [*shaded, *marks])
    count = rows["seed"].nunique()
    add_note(
        figure,
        f"Mean over n = {count} seeds; bands of {baseline} and {treated}: lowest to highest seed. "
        f"Phases and dotted lines: {treated}, first seed.\n"
        "An arm that only picks another moment of the same model has the same curve, drawn once."
        f"{left_out(list(groups), order)}",
    )
    return figure


def _draw_spread(
    axis: Axes, rows: pd.DataFrame, label: str, look: tuple[str, str], *, bold: bool
) -> None:
    colour, dash = look
    found = 100 * rows.groupby("step")["value"].agg(["mean", "min", "max"])
    width = 2.4 if bold else 1.4
    axis.plot(found.index, found["mean"], dash, color=colour, lw=width, label=label)
    if bold:
        axis.fill_between(
            found.index, found["min"], found["max"], color=colour, alpha=_BAND, linewidth=0
        )


def legend_beside(axis: Axes, more: Sequence[Artist] = ()) -> None:
    """Write the legend to the right of an axis, where it hides no curve.

    Args:
        axis: Its labelled lines are listed.
        more: Entries after them.
    """
    lines, _ = axis.get_legend_handles_labels()
    axis.legend(
        handles=[*lines, *more],
        fontsize=9,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
    )


def phase_spans(records: pd.DataFrame, arm: str) -> Iterator[tuple[float, float, int]]:
    """Yield first epoch, last epoch and number of each phase of the arm's first seed.

    Args:
        records: With the metric ``phase`` of the task ``curve``.
        arm: The arm in question.
    """
    rows = values_of(records, "curve", "phase")
    rows = rows[rows["arm"] == arm]
    rows = rows[rows["seed"] == rows["seed"].min()].sort_values("step")
    start, before = 0.0, None
    end = 0.0
    for step, phase in zip(rows["step"], rows["value"], strict=True):
        if before is not None and phase != before:
            yield start, end, int(before)
            start = end
        before, end = phase, float(step)
    if before is not None:
        yield start, end, int(before)


def _shade_phases(axis: Axes, records: pd.DataFrame, arm: str) -> list[Artist]:
    seen = {}
    for start, end, phase in phase_spans(records, arm):
        name, colour = PHASES[phase]
        axis.axvspan(start, end, facecolor=colour, zorder=-2, linewidth=0)
        seen[phase] = Patch(facecolor=colour, edgecolor="#999999", label=name)
    return [seen[phase] for phase in sorted(seen)]


def _mark_forgettings(axis: Axes, records: pd.DataFrame, arm: str) -> list[Artist]:
    rows = values_of(records, "recovery", "epoch")
    rows = rows[rows["arm"] == arm]
    epochs = sorted(rows[rows["seed"] == rows["seed"].min()]["value"])
    for epoch in epochs:
        axis.axvline(epoch, color="#555555", lw=1.0, ls=":", zorder=1)
    label = f"forgetting ({len(epochs)} times)"
    return [Line2D([], [], color="#555555", lw=1.0, ls=":", label=label)] if epochs else []


def draw_overfitting(records: pd.DataFrame, *, arms: Sequence[str]) -> Figure:
    """Return training against validation robust accuracy of the trained net, one panel an arm.

    Args:
        records: With the student's metrics of the task ``curve``.
        arms: Arms to show, from left to right; those without such records are left out.
    """
    train = values_of(records, "curve", "student_train_robust_accuracy")
    validation = values_of(records, "curve", "student_validation_robust_accuracy")
    shown = [arm for arm in dict.fromkeys(arms) if (train["arm"] == arm).any()]
    figure, axes = new_figure(10.2, 4.4, columns=max(1, len(shown)))
    for place, arm in enumerate(shown):
        axis = axes[0, place]
        if place:
            axis.sharey(axes[0, 0])
        _draw_gap(axis, train[train["arm"] == arm], validation[validation["arm"] == arm])
        _mark_alarms(axis, records, arm)
        title = f"{arm}: the net in training"
        name_axis(axis, title=title, x="epoch", y="" if place else "robust accuracy (%)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=9, frameon=False, loc="best")
    add_note(
        figure,
        f"Mean over n = {train['seed'].nunique()} seeds, band: lowest to highest. Robust "
        "overfitting: validation falls while training goes on rising.",
    )
    return figure


def _draw_gap(axis: Axes, train: pd.DataFrame, validation: pd.DataFrame) -> None:
    looks = (
        ("training images", train, "--", PALETTE[2]),
        ("validation", validation, "-", PALETTE[1]),
    )
    last = []
    for label, rows, dash, colour in looks:
        found = rows.groupby("step")["value"].agg(["mean", "min", "max"]) * 100
        axis.plot(found.index, found["mean"], dash, color=colour, lw=2, label=label)
        axis.fill_between(
            found.index, found["min"], found["max"], color=colour, alpha=_BAND, linewidth=0
        )
        last.append(float(found["mean"].iloc[-1]))
    top, peak = last
    where = float(train["step"].max())
    axis.annotate(
        "", (where, peak), (where, top), arrowprops={"arrowstyle": "<->", "color": "#555555"}
    )
    axis.annotate(
        f"{top - peak:.0f} points",
        (where, (top + peak) / 2),
        xytext=(-6, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1},
    )


def _mark_alarms(axis: Axes, records: pd.DataFrame, arm: str) -> None:
    rows = values_of(records, "alarm", "robust_overfitting_epoch")
    epochs = rows[(rows["arm"] == arm) & (rows["value"] >= 0)]["value"]
    if not len(epochs):
        return
    axis.plot(
        epochs,
        [0.03] * len(epochs),
        "^",
        ms=8,
        color=PALETTE[0],
        markerfacecolor="white",
        transform=axis.get_xaxis_transform(),
        label="alarm of robust overfitting",
    )
