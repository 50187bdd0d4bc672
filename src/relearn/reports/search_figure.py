"""Scores of a study by trial, and by each of the choices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from relearn.reports.figures import PALETTE, add_note, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS, _LONG = 3, 6
_PRESENT, _TRIED, _LINE = PALETTE[0], PALETTE[1], PALETTE[2]


def draw_search(trials: pd.DataFrame, *, choices: Sequence[str]) -> Figure:
    """Return one panel of scores in the order of the trials and one for each choice.

    Args:
        trials: Columns number, state, present, score (0 to 1) and one for each choice; rows without
            a score are not drawn.
        choices: Columns that were chosen.
    """
    scored = trials[trials["score"].notna()]
    panels = 1 + len(choices)
    rows = -(-panels // _COLUMNS)
    figure, axes = new_figure(4.2 * _COLUMNS, 3.1 * rows, rows=rows, columns=_COLUMNS)
    flat = list(axes.flat)
    _draw_course(flat[0], scored)
    for axis, choice in zip(flat[1:], choices, strict=False):
        _draw_choice(axis, scored, choice)
    for axis in flat[panels:]:
        axis.set_axis_off()
    pruned = int((trials["state"] == "pruned").sum())
    failed = int((trials["state"] == "fail").sum())
    add_note(
        figure,
        f"n = {len(trials)} trials, {pruned} stopped early (hollow), {failed} failed; robust "
        "accuracy of the stable model on validation images. Star: the present setting.",
    )
    return figure


def _draw_course(axis: Axes, trials: pd.DataFrame) -> None:
    complete = trials[trials["state"] == "complete"]
    _points(axis, trials, trials["number"])
    best = complete["score"].cummax()
    axis.step(complete["number"], 100 * best, where="post", color=_LINE, label="best so far")
    _mark_numbers(axis, whole=True)
    axis.legend(fontsize=8, loc="lower right")
    name_axis(axis, title="Trials in order", x="trial", y="score (%)")


def _draw_choice(axis: Axes, trials: pd.DataFrame, choice: str) -> None:
    values, title = trials[choice], choice.replace("_", " ")
    if values.map(lambda value: isinstance(value, str)).all():
        names = sorted(values.unique())
        _points(axis, trials, values.map({name: place for place, name in enumerate(names)}))
        tilted = 20 if max(len(name) for name in names) > _LONG and len(names) > 2 else 0
        axis.set_xticks(range(len(names)), names, rotation=tilted)
        axis.set_xlim(-0.5, len(names) - 0.5)
    else:
        _points(axis, trials, values)
        _mark_numbers(axis, whole=all(float(value).is_integer() for value in values))
    name_axis(axis, title=f"By {title}", x=title, y="score (%)")


def _mark_numbers(axis: Axes, *, whole: bool) -> None:
    """Mark whole numbers evenly, and shares on the scale on which they were drawn."""
    if whole:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _points(axis: Axes, trials: pd.DataFrame, places: pd.Series) -> None:
    """Draw complete trials full, pruned ones hollow, the present setting as a star."""
    present = trials["present"].astype(bool)
    complete = trials["state"] == "complete"
    score = 100 * trials["score"]
    kinds: tuple[tuple[pd.Series[bool], dict[str, Any]], ...] = (
        (complete & ~present, {"color": _TRIED, "marker": "o", "s": 26}),
        (~complete & ~present, {"facecolors": "none", "edgecolors": _TRIED, "s": 26}),
        (present, {"color": _PRESENT, "marker": "*", "s": 130, "zorder": 3}),
    )
    for mask, style in kinds:
        axis.scatter(places[mask], score[mask], **style)
