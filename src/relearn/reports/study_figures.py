"""Figures of a study of one knob: what each variant earns, and a grid of two knobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.reports.arm_rows import values_of
from relearn.reports.comparison import final_values
from relearn.reports.figures import PALETTE, add_note, draw_heatmap, name_axis, new_figure
from relearn.reports.paired import paired_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def paired_gains(
    records: pd.DataFrame, *, task: str, metric: str, baseline: str
) -> dict[str, list[float]]:
    """Return, arm by arm, the differences to the baseline seed by seed, in percent points.

    Args:
        records: Of all variants and the baseline.
        task: As in ``Record.task``.
        metric: As in ``Record.metric``; a share from 0 to 1.
        baseline: Arm that is taken off.
    """
    final = final_values(records, task=task, metric=metric)
    wide = 100 * final.pivot_table(index="seed", columns="arm", values="value")
    order = [str(arm) for arm in dict.fromkeys(records["arm"]) if arm in wide and arm != baseline]
    return {arm: list((wide[arm] - wide[baseline]).dropna()) for arm in order}


def draw_gains(
    records: pd.DataFrame,
    *,
    baseline: str,
    title: str,
    labels: Mapping[str, str],
    rivals: Sequence[str] = (),
    confidence: float = 0.95,
) -> Figure:
    """Return one bar per variant: the mean difference to the baseline on validation images.

    Args:
        records: With ``robust_accuracy`` of the task ``validation``, on which variants compete.
        baseline: Arm that is taken off.
        title: Title.
        labels: Arm to the words that stand beside its bar.
        rivals: Arms drawn in grey: cheap alternatives that are no variant of the study.
        confidence: Coverage of the interval.
    """
    gains = paired_gains(records, task="validation", metric="robust_accuracy", baseline=baseline)
    gains = {arm: values for arm, values in gains.items() if values}
    figure, axes = new_figure(9.2, 1.9 + 0.5 * max(1, len(gains)))
    axis = axes[0, 0]
    for place, (arm, values) in enumerate(gains.items()):
        _draw_bar(axis, place, values, grey=arm in rivals, confidence=confidence)
    axis.axvline(0, color=PALETTE[0], lw=1)
    axis.set_yticks(range(len(gains)), [labels.get(arm, arm) for arm in gains])
    axis.set_ylim(len(gains) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")
    axis.margins(x=0.08)
    name_axis(axis, title=title, x=f"robust accuracy minus {baseline} (points, validation images)")
    count = max((len(values) for values in gains.values()), default=0)
    grey = " Grey: cheap alternatives, not variants." if set(rivals) & set(gains) else ""
    add_note(
        figure,
        f"Bar: mean over n = {count} pairs; line: {100 * confidence:g} % t interval; dots: single "
        f"pairs.{grey}\nThe winner is judged on fresh seeds and test images, not here.",
    )
    return figure


def _draw_bar(
    axis: Axes, place: int, values: Sequence[float], *, grey: bool, confidence: float
) -> None:
    found = paired_interval(values, confidence)
    colour = "#B5B5B5" if grey else "#8FBFE0"
    axis.barh([place], [found.mean], color=colour, height=0.6, edgecolor="#555555", linewidth=0.6)
    if found.low is not None and found.high is not None:
        axis.plot([found.low, found.high], [place - 0.12] * 2, "-", color=PALETTE[0], lw=2)
    axis.plot(values, [place + 0.12] * len(values), "o", ms=4.5, color=PALETTE[2])


def grid_table(
    records: pd.DataFrame, *, pattern: str, rows: str, columns: str
) -> tuple[pd.DataFrame, int]:
    """Return validation robust accuracy in percent over a grid of two knobs, and the seeds.

    Args:
        records: With ``robust_accuracy`` of the task ``validation``.
        pattern: Regular expression with one named group a knob, read off the names of the arms.
        rows: Group that runs downwards.
        columns: Group that runs to the right.
    """
    found = values_of(records, "validation", "robust_accuracy").copy()
    knobs = found["arm"].str.extract(pattern)
    found = found.assign(**{name: knobs[name].astype(float) for name in (rows, columns)})
    found = found.dropna(subset=[rows, columns])
    table = 100 * found.pivot_table(index=rows, columns=columns, values="value")
    table.index = [f"{value:g}" for value in table.index]
    table.columns = [f"{value:g}" for value in table.columns]
    return table, int(found["seed"].nunique())


def draw_grid(
    records: pd.DataFrame, *, title: str, pattern: str, rows: str, columns: str
) -> Figure:
    """Return the grid of ``grid_table`` as a heat map, with the mean of every cell written in.

    Args:
        records: As for ``grid_table``.
        title: Title.
        pattern: As for ``grid_table``.
        rows: As for ``grid_table``.
        columns: As for ``grid_table``.
    """
    table, seeds = grid_table(records, pattern=pattern, rows=rows, columns=columns)
    return draw_heatmap(
        table,
        title=title,
        x_label=columns.replace("_", " "),
        y_label=rows.replace("_", " "),
        unit="robust accuracy (%)",
        note=f"Mean over n = {seeds} seeds, validation images. The winner is judged on fresh seeds "
        "and test images.",
    )
