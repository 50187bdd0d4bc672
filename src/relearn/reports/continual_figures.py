"""Figures of tasks learnt one after the other: what is kept, what is lost, which weights move."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.arm_rows import leading_arms, left_out, values_of
from relearn.reports.figures import (
    PALETTE,
    add_note,
    colours_of,
    draw_curves,
    draw_heatmap,
    name_axis,
    new_figure,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from matplotlib.figure import Figure

KINDS = ("q", "k", "v", "o", "fc1", "fc2")
"""Columns of the picture of drift, in the order of a block."""

READINGS = ("_no_tap", "_tii", "_batch_wise")
"""Endings of arms that are further readings of a training; pictures of trainings leave them out."""

LEADING = ("lorac_ipc", "lorac_ipc_random", "shared_lora", "ncm", "ranpac", "sequential_full")
"""Arms that pictures with one line an arm show first, beside the baseline."""

FIRST = "task_01"
"""Metric of ``matrix``: accuracy on the first task."""


def continual_figures(records: pd.DataFrame, *, baseline: str) -> Iterator[tuple[str, str, Figure]]:
    """Yield title, caption and figure of everything that the records can show.

    Args:
        records: Of the arms, with the tasks ``matrix``, ``test``, ``drift`` and ``similarity``
            where they were measured.
        baseline: Arm drawn in black.
    """
    shown = _picture_arm(records, baseline)
    if len(values_of(records, "curve", "seen_accuracy")["step"].unique()) > 1:
        yield (
            "Accuracy on all tasks so far",
            "Mean over the tasks learnt so far, among all their classes.",
            draw_seen(records, baseline=baseline),
        )
    if shown and len(rows_of(records, "matrix", shown)):
        yield (
            f"Accuracy on every task: {shown}",
            "Row: after so many tasks. Column: accuracy on that task, among all classes so far.",
            draw_matrix(records, arm=shown),
        )
    if len(values_of(records, "matrix", FIRST)):
        yield (
            "The first task while others are learnt",
            "What is left of the first task after each further one.",
            draw_first_task(records, baseline=baseline),
        )
    if len(values_of(records, "test", "forgetting")):
        yield (
            "Accuracy against forgetting",
            "One dot a seed, that is one order of the classes; below and to the right is better.",
            draw_orders(records, baseline=baseline),
        )
    if shown and len(rows_of(records, "drift", shown)):
        yield (
            f"How far each matrix moved: {shown}",
            "A matrix that is frozen after a task moves by exactly nothing from then on.",
            draw_drift(records, arm=shown),
        )
    if len(records[records["task"] == "similarity"]):
        yield (
            "How alike the tasks are",
            "Cosine between the mean features of two tasks, on the backbone before any of them.",
            draw_similarity(records),
        )


def rows_of(records: pd.DataFrame, task: str, arm: str) -> pd.DataFrame:
    """Return the rows of one task and arm.

    Args:
        records: Of all arms.
        task: As in ``Record.task``.
        arm: Name of the arm.
    """
    return records[(records["task"] == task) & (records["arm"] == arm)]


def draw_matrix(records: pd.DataFrame, *, arm: str) -> Figure:
    """Return the accuracy matrix of one arm in percent, mean over seeds.

    Args:
        records: With the task ``matrix``: step = tasks learnt, metric such as ``task_01``.
        arm: Arm that is drawn.
    """
    rows = rows_of(records, "matrix", arm)
    table = 100 * _numbered(rows).pivot_table(index="step", columns="number", values="value")
    return draw_heatmap(
        table,
        title=f"Accuracy of {arm}",
        x_label="task",
        y_label="tasks learnt",
        unit="%",
        note=f"Mean over n = {rows['seed'].nunique()} seeds, each with its own order of classes.",
    )


def draw_first_task(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return the accuracy on the first task over the number of tasks learnt, one line an arm.

    Args:
        records: With the task ``matrix``.
        baseline: Arm drawn in black.
    """
    rows = values_of(records, "matrix", FIRST)
    return _draw_leading(rows, title="Accuracy on the first task", baseline=baseline)


def draw_seen(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return the mean accuracy on all tasks so far over their number, one line an arm.

    Args:
        records: With the task ``curve``.
        baseline: Arm drawn in black.
    """
    rows = values_of(records, "curve", "seen_accuracy")
    return _draw_leading(rows, title="Mean accuracy on all tasks so far", baseline=baseline)


def draw_orders(records: pd.DataFrame, *, baseline: str) -> Figure:
    """Return final average accuracy against forgetting, one dot for each arm and seed.

    Args:
        records: With ``final_average_accuracy`` and ``forgetting`` of ``test``.
        baseline: Arm drawn in black.
    """
    names = ("final_average_accuracy", "forgetting")
    rows = records[(records["task"] == "test") & records["metric"].isin(names)]
    rows = rows[~rows["arm"].str.endswith(READINGS)]
    table = rows.pivot_table(index=["arm", "seed"], columns="metric", values="value", sort=False)
    table = 100 * table.dropna()
    arms = [str(arm) for arm in dict.fromkeys(table.index.get_level_values("arm"))]
    looks = colours_of(arms, baseline)
    figure, axes = new_figure(8.0, 5.0)
    axis = axes[0, 0]
    for place, arm in enumerate(arms):
        mine, colour = table.loc[arm], looks[arm][0]
        x, y = mine["final_average_accuracy"], mine["forgetting"]
        marker = "os^vD"[place // len(PALETTE) % 5]
        axis.plot(x, y, marker, ms=4, color=colour, alpha=0.45)
        axis.plot([x.mean()], [y.mean()], marker, ms=9, color=colour, label=arm)
    name_axis(
        axis,
        title="What is known at the end, and what was lost on the way",
        x="final average accuracy (%)",
        y="forgetting (points)",
    )
    axis.legend(fontsize=8, frameon=False, ncols=2)
    add_note(figure, "Small: one seed with its own order of classes. Large: mean over seeds.")
    return figure


def draw_drift(records: pd.DataFrame, *, arm: str) -> Figure:
    """Return || W^(t) - W^(t-1) ||_F^2 of each matrix, summed over all tasks, blocks by kinds.

    Args:
        records: With the task ``drift``: step = number of the task, metric such as ``3.fc1``.
        arm: Arm that is drawn.
    """
    rows = rows_of(records, "drift", arm)
    wide = drift_table(records, arm=arm)
    wide = 100 * wide / max(float(wide.max().max()), 1e-12)
    return draw_heatmap(
        wide,
        title=f"Drift of every matrix, summed over tasks: {arm}",
        x_label="matrix",
        y_label="block",
        unit="% of the largest",
        note=f"Squared norms of the changes, mean over n = {rows['seed'].nunique()} seeds.",
    )


def drift_table(records: pd.DataFrame, *, arm: str) -> pd.DataFrame:
    """Return || W^(t) - W^(t-1) ||_F^2 summed over tasks, blocks by kinds, mean over seeds.

    Args:
        records: With the task ``drift``: step = number of the task, metric such as ``3.fc1``.
        arm: Whose.
    """
    rows = records[(records["task"] == "drift") & (records["arm"] == arm)]
    total = rows.groupby(["metric", "seed"])["value"].sum().groupby("metric").mean()
    parts = total.index.to_series().str.partition(".")
    table = total.to_frame().assign(block=parts[0].astype(int), kind=parts[2])
    wide = table.pivot_table(index="block", columns="kind", values="value")
    return wide.reindex(columns=[kind for kind in KINDS if kind in wide])


def draw_similarity(records: pd.DataFrame) -> Figure:
    """Return the cosine between the mean features of tasks, for the first seed.

    Args:
        records: With the task ``similarity``: step = one task, metric such as ``task_01``
            = the other.
    """
    rows = records[records["task"] == "similarity"]
    first = rows[(rows["seed"] == rows["seed"].min()) & (rows["arm"] == rows["arm"].iloc[0])]
    table = _numbered(first).pivot_table(index="step", columns="number", values="value")
    return draw_heatmap(
        table,
        title="Similarity of tasks",
        x_label="task",
        y_label="task",
        unit="cosine",
        note=f"Order of seed {int(rows['seed'].min())}.",
    )


def _draw_leading(rows: pd.DataFrame, *, title: str, baseline: str) -> Figure:
    """Return one line for each training that there is room for, in percent over tasks learnt."""
    rows = rows[~rows["arm"].str.endswith(READINGS)].assign(task="matrix", metric="accuracy")
    arms = [str(arm) for arm in dict.fromkeys(rows["arm"])]
    shown = leading_arms(rows, named=(baseline, *[arm for arm in LEADING if arm in arms]))
    figure = draw_curves(
        rows[rows["arm"].isin(shown)],
        task="matrix",
        metric="accuracy",
        x_label="tasks learnt",
        title=title,
        baseline=baseline,
    )
    if left_out(arms, shown):
        add_note(figure, "Line: mean over seeds. Band: range." + left_out(arms, shown))
    return figure


def _picture_arm(records: pd.DataFrame, baseline: str) -> str:
    """Return the arm whose matrix and drift are drawn: the treated one, else the baseline."""
    arms = [str(arm) for arm in dict.fromkeys(records["arm"])]
    found = [*_treated(arms), *[arm for arm in arms if arm == baseline], *arms]
    return found[0] if found else ""


def _treated(arms: list[str]) -> list[str]:
    return [arm for arm in arms if arm == "lorac_ipc"]


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(number=rows["metric"].str.removeprefix("task_").astype(int))
