"""Several figures as one picture, because one dataset leaves a method's namespace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def stacked(panels: Sequence[Figure]) -> Figure:
    """Return one figure that shows the given ones one below the other, as they are.

    Args:
        panels: At least one, in the order from top to bottom.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    pictures = []
    for panel in panels:
        canvas = FigureCanvasAgg(panel)
        canvas.draw()
        pictures.append(np.asarray(canvas.buffer_rgba()))
    dpi = panels[0].dpi
    width = max(picture.shape[1] for picture in pictures)
    height = sum(picture.shape[0] for picture in pictures)
    whole = Canvas(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="white")
    below = 0
    for picture in reversed(pictures):
        high, wide = picture.shape[:2]
        left = (width - wide) / 2 / width
        axis = whole.add_axes((left, below / height, wide / width, high / height))
        axis.imshow(picture, aspect="auto")
        axis.set_axis_off()
        below += high
    return whole
