"""The map of a method's gain over conditions: a heat map with the intervals in its cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from relearn.reports.figures import add_note, name_axis, new_figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

_ROWS, _COLUMN = ["similarity", "classes"], "images"
_COLOURS = "PuOr"  # orange: loss, violet: gain, white: nothing; told apart by colour-blind readers


def draw_map(table: pd.DataFrame, *, title: str, confidence: float) -> Figure:
    """Return one heat map for each metric, all on one scale of colours that is white at zero.

    Args:
        table: Columns classes, images, similarity (levels), base_classes, images_per_class
            (numbers), metric, n, difference, low, high, in percent points.
        title: What minus what.
        confidence: Coverage of the intervals.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    figure, axes = new_figure(1.4 + 4.0 * len(metrics), 4.6, columns=len(metrics))
    limit = max(1.0, float(table["difference"].abs().max()))
    image = None
    for axis, metric in zip(axes[0], metrics, strict=True):
        image = _draw_panel(axis, table[table["metric"] == metric], limit)
        name_axis(axis, title=metric.replace("_", " ").replace(".", ": "), x="images a class")
    if image is not None:
        bar = figure.colorbar(image, ax=list(axes[0]), shrink=0.9)
        bar.set_label(f"{title} (percent points)", fontsize=9)
    count = int(table["n"].min())
    add_note(figure, f"n = {count} pairs. In the cell: mean, {100 * confidence:g} % t interval.")
    return figure


def _draw_panel(axis: Axes, rows: pd.DataFrame, limit: float) -> AxesImage:
    means, low, high = (
        rows.pivot_table(index=_ROWS, columns=_COLUMN, values=name, sort=False, dropna=False)
        for name in ("difference", "low", "high")
    )
    sizes = rows.drop_duplicates("classes").set_index("classes")["base_classes"]
    images = rows.drop_duplicates("images").set_index("images")["images_per_class"]
    values = means.to_numpy(dtype=float)
    image = axis.imshow(values, aspect="auto", cmap=_COLOURS, vmin=-limit, vmax=limit)
    axis.grid(visible=False)
    axis.set_yticks(range(len(means)), [f"{sizes[c]} {s}\nclasses" for s, c in means.index])
    axis.set_xticks(range(means.shape[1]), [str(images[level]) for level in means.columns])
    for row, column in np.ndindex(values.shape):
        number, ends = values[row, column], (low, high)
        span = [f"{end.to_numpy(dtype=float)[row, column]:+.1f}" for end in ends]
        text = f"{number:+.1f}" + ("" if "+nan" in span else f"\n[{', '.join(span)}]")
        ink = "white" if abs(number) > 0.7 * limit else "black"
        axis.text(column, row, text, ha="center", va="center", color=ink, fontsize=9)
    return image
