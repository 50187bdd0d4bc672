"""What a forgetting changed: features before and after, confusions, samples newly right or wrong.

The pictures of one training are arrays by name: ``labels`` and ``indices`` (numbers of the
validation images), ``axes_share``, ``cka`` with one row a forgetting, and for forgetting k at each
moment ``cycle<k>.<moment>.coordinates``, ``.clean_predicted`` and ``.attacked_predicted``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from relearn.reports.figures import PALETTE, add_note, name_axis, new_figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    Pictures = Mapping[str, NDArray[Any]]

MOMENTS = {"before": "before", "forgotten": "just forgotten", "relearnt": "relearnt"}
"""Moment to the words above its panel."""

VIEWS = {"clean": "clean images", "attacked": "attacked images"}
"""Which predictions are compared."""

_SHAPES = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p", "h")
_MOST_CLASSES, _WRITTEN = 12, 12


def cycles_of(pictures: Pictures) -> list[int]:
    """Return the numbers of the forgettings that were pictured to the end, rising."""
    found = (re.fullmatch(r"cycle(\d+)\.relearnt\.coordinates", name) for name in pictures)
    return sorted(int(match[1]) for match in found if match)


def few_cycles(pictures: Pictures) -> list[int]:
    """Return the first, the middle and the last forgetting."""
    cycles = cycles_of(pictures)
    return sorted({cycles[0], cycles[len(cycles) // 2], cycles[-1]}) if cycles else []


def changed_samples(pictures: Pictures) -> pd.DataFrame:
    """Return every sample that a cycle of forgetting and relearning made right or wrong.

    Args:
        pictures: Of one training.

    Returns:
        Columns cycle, view (``clean`` or ``attacked``), change (``newly wrong`` or ``newly
        right``), index (of the validation image), label, before, after (predicted classes).
    """
    columns = ["cycle", "view", "change", "index", "label", "before", "after"]
    rows: list[tuple[Any, ...]] = []
    for cycle in cycles_of(pictures):
        for view in VIEWS:
            rows += _changes(pictures, cycle, view)
    return pd.DataFrame(rows, columns=columns)


def _changes(pictures: Pictures, cycle: int, view: str) -> list[tuple[Any, ...]]:
    labels, indices = pictures["labels"], pictures["indices"]
    before, after = (
        pictures[f"cycle{cycle}.{moment}.{view}_predicted"] for moment in ("before", "relearnt")
    )
    was, now = before == labels, after == labels
    return [
        (cycle, view, change, *map(int, (indices[k], labels[k], before[k], after[k])))
        for change, mask in (("newly wrong", was & ~now), ("newly right", ~was & now))
        for k in np.flatnonzero(mask)
    ]


def confusion_change(pictures: Pictures, cycle: int, view: str) -> NDArray[np.int64]:
    """Return the confusion matrix after relearning minus the one before forgetting.

    Args:
        pictures: Of one training.
        cycle: Number of the forgetting.
        view: ``clean`` or ``attacked``.

    Returns:
        Samples, int64, shape (classes, classes): rows are true, columns predicted classes.
    """
    labels = pictures["labels"]
    found = [
        pictures[f"cycle{cycle}.{moment}.{view}_predicted"] for moment in ("before", "relearnt")
    ]
    classes = int(max(labels.max(), *(predicted.max() for predicted in found))) + 1
    change = np.zeros((classes, classes), dtype=np.int64)
    for predicted, sign in zip(found, (-1, 1), strict=True):
        np.add.at(change, (labels, predicted), sign)
    return change


def draw_scatter(pictures: Pictures, cycle: int) -> Figure:
    """Return the features of the same images before, just after, and well after a forgetting.

    All panels of all forgettings share axes that were fixed before the first one, so that points
    may be compared across them.

    Args:
        pictures: Of one training.
        cycle: Number of the forgetting.
    """
    figure, axes = new_figure(12.0, 4.4, columns=len(MOMENTS))
    labels, share = pictures["labels"], 100 * pictures["axes_share"].ravel()
    bounds = _bounds(pictures)
    shown = _largest_classes(labels)
    for axis, (moment, words) in zip(axes[0], MOMENTS.items(), strict=True):
        points = pictures[f"cycle{cycle}.{moment}.coordinates"]
        right = pictures[f"cycle{cycle}.{moment}.attacked_predicted"] == labels
        _draw_points(axis, points, labels, right=right, shown=shown)
        title = f"{words}: {100 * right.mean():.0f} % right under attack"
        name_axis(axis, title=title, x=f"first axis ({share[0]:.0f} % of variance)")
        axis.set_xlim(bounds[0])
        axis.set_ylim(bounds[1])
    axes[0, 0].set_ylabel(f"second axis ({share[1]:.0f} % of variance)", fontsize=10)
    figure.suptitle(f"Forgetting {cycle}: features of the last layer but one", fontsize=12, x=0.5)
    figure.legend(
        handles=[_class_mark(number, shown) for number in shown],
        title="class",
        fontsize=9,
        frameon=False,
        loc="outside right upper",
    )
    add_note(
        figure,
        f"PCA of {len(labels)} validation images, axes fixed before the first forgetting. Filled: "
        "right under attack; hollow: wrong.",
    )
    return figure


def _bounds(pictures: Pictures) -> list[tuple[float, float]]:
    """Return the limits of both axes that hold every point of every picture."""
    every = [value for name, value in pictures.items() if name.endswith(".coordinates")]
    points = np.concatenate(every)
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.06 * np.maximum(high - low, 1e-9)
    return [(float(low[k] - room[k]), float(high[k] + room[k])) for k in (0, 1)]


def _largest_classes(labels: NDArray[Any]) -> list[int]:
    found, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:_MOST_CLASSES]
    return sorted(int(found[k]) for k in order)


def _look(number: int, shown: list[int]) -> tuple[str, str]:
    """Return colour and shape; a class that is not among those shown is a grey dot."""
    if number not in shown:
        return "#BBBBBB", "."
    place = shown.index(number)
    return PALETTE[place % len(PALETTE)], _SHAPES[place % len(_SHAPES)]


def _class_mark(number: int, shown: list[int]) -> Line2D:
    colour, shape = _look(number, shown)
    return Line2D([], [], ls="", marker=shape, color=colour, ms=6, label=str(number))


def _draw_points(
    axis: Axes,
    points: NDArray[Any],
    labels: NDArray[Any],
    *,
    right: NDArray[Any],
    shown: list[int],
) -> None:
    for number in np.unique(labels):
        colour, shape = _look(int(number), shown)
        for mask, fill in ((right, colour), (~right, "none")):
            some = points[(labels == number) & mask]
            axis.plot(some[:, 0], some[:, 1], shape, ms=5, color=colour, mfc=fill, alpha=0.8)


def draw_confusion_change(pictures: Pictures, cycle: int) -> Figure:
    """Return which confusions a cycle brought and which it took away, clean and attacked.

    Args:
        pictures: Of one training.
        cycle: Number of the forgetting.
    """
    figure, axes = new_figure(12.0, 4.9, columns=len(VIEWS))
    changed = changed_samples(pictures)
    changes = {view: confusion_change(pictures, cycle, view) for view in VIEWS}
    limit = max(1, *(int(np.abs(change).max()) for change in changes.values()))
    image = None
    for axis, (view, words) in zip(axes[0], VIEWS.items(), strict=True):
        image = axis.imshow(changes[view], cmap="PuOr", vmin=-limit, vmax=limit)
        axis.grid(visible=False)
        _write_counts(axis, changes[view], limit)
        rows = changed[(changed["cycle"] == cycle) & (changed["view"] == view)]
        counts = rows["change"].value_counts()
        title = f"{words}: {counts.get('newly right', 0)} newly right, "
        title += f"{counts.get('newly wrong', 0)} newly wrong"
        name_axis(axis, title=title, x="predicted class", y="true class")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes[0]), shrink=0.85)
        bar.set_label("samples, relearnt minus before", fontsize=9)
    figure.suptitle(f"Forgetting {cycle}: change of the confusion matrix", fontsize=12)
    add_note(figure, "Violet on the diagonal is good; violet beside it is a new confusion.")
    return figure


def _write_counts(axis: Axes, change: NDArray[np.int64], limit: int) -> None:
    if len(change) > _WRITTEN:
        return
    for (row, column), number in np.ndenumerate(change):
        if number:
            ink = "white" if abs(number) > 0.7 * limit else "black"
            axis.text(column, row, f"{number:+d}", ha="center", va="center", fontsize=8, color=ink)


def draw_cycles(pictures: Pictures) -> Figure:
    """Return over the forgettings how alike features stay, and how many samples change sides.

    Args:
        pictures: Of one training.
    """
    figure, axes = new_figure(12.0, 4.0, columns=2)
    cycles, cka = cycles_of(pictures), pictures["cka"]
    numbers = range(1, len(cka) + 1)
    axes[0, 0].plot(numbers, cka[:, 0], "--o", color=PALETTE[2], ms=4, label="just forgotten")
    axes[0, 0].plot(numbers, cka[:, 1], "-s", color=PALETTE[1], ms=4, label="relearnt")
    axes[0, 0].set_ylim(0, 1.05)
    name_axis(
        axes[0, 0], title="Features like those before", x="forgetting", y="linear CKA (0 to 1)"
    )
    changed = changed_samples(pictures)
    looks = {"newly right": ("-s", PALETTE[1]), "newly wrong": ("--o", PALETTE[2])}
    for change, (dash, colour) in looks.items():
        rows = changed[(changed["change"] == change) & (changed["view"] == "attacked")]
        counts = rows.groupby("cycle").size().reindex(cycles, fill_value=0)
        axes[0, 1].plot(counts.index, counts, dash, color=colour, ms=4, label=change)
    title = f"Of {len(pictures['labels'])} attacked images"
    name_axis(axes[0, 1], title=title, x="forgetting", y="samples that changed")
    for axis in axes[0]:
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(fontsize=9, frameon=False, loc="best")
    add_note(figure, "After relearning against before the forgetting; one training, first seed.")
    return figure
