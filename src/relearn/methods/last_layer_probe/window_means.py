"""The mean over what a node sees, for all nodes of a layer at once: two small matrix products.

A window is a rectangle, so that its mean is a mean along the height of means along the width, and
the number of positions that are really there is a product as well. Strides, borders and paddings
are all in the two matrices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.methods.last_layer_probe.skeleton_graph import Grid, Span, Wiring, spans

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.scratch import Scratch


@dataclass(frozen=True)
class WindowMean:
    """Takes values at the positions of one layer to means at those of a layer above.

    Attributes:
        rows: Shape (height above, height); None: the rows stay as they are.
        columns: Shape (width above, width); None: likewise.
        positions: Indices (rows, columns) whose mean is taken, for one node; None: all of them
            where there are no matrices either and ``whole`` is set.
        whole: One node sees everything listed.
        share: Factor on the result: the part that this input has in all that the node sees.
    """

    rows: Tensor | None
    columns: Tensor | None
    positions: tuple[Tensor, Tensor] | None
    whole: bool
    share: float

    @property
    def idle(self) -> bool:
        """Whether values come out as they went in."""
        return not self.whole and self.rows is None and self.columns is None and self.share == 1

    def of(self, values: Tensor, scratch: Scratch | None = None) -> Tensor:
        """Return the means; a fresh tensor unless ``idle``.

        Args:
            values: Shape (height, width, ...).
            scratch: Where the result and what is between may lie.

        Returns:
            Shape (height above, width above, ...).
        """
        if self.whole:
            seen = values.flatten(0, 1) if self.positions is None else values[self.positions]
            result = seen.mean(dim=0)[None, None] if len(seen) > 1 else seen[None]
        else:
            result = self._windowed(values, scratch)
        if self.share == 1:
            return result
        own = scratch is not None and not (self.rows is None and self.columns is None)
        return result.mul_(self.share) if own else result * self.share

    def _windowed(self, values: Tensor, scratch: Scratch | None) -> Tensor:
        height, width, *rest = values.shape
        between = values
        if self.rows is not None:
            between = _times(self.rows, values.reshape(height, -1), scratch)
        if self.columns is None:
            return between.view(-1, width, *rest)
        result = _times(self.columns, between.reshape(-1, width, math.prod(rest)), scratch)
        if scratch is not None and self.rows is not None:
            scratch.give(between)
        return result.view(-1, len(self.columns), *rest)


def _times(matrix: Tensor, values: Tensor, scratch: Scratch | None) -> Tensor:
    if scratch is None:
        return torch.matmul(matrix, values)
    out = scratch.take(*values.shape[:-2], len(matrix), values.shape[-1])
    return torch.matmul(matrix, values, out=out)


def window_means(
    wiring: Wiring, grids: dict[str, Grid], *, dtype: torch.dtype, device: torch.device
) -> tuple[WindowMean, ...]:
    """Return one mean for each input of a layer; their results are to be added.

    Args:
        wiring: The layer.
        grids: Positions of the layers below.
        dtype: Of the values.
        device: Where they lie.
    """
    if wiring.window is not None:
        grid = grids[wiring.inputs[0]]
        rows, columns = (_matrix(s, wiring.padding).to(device, dtype) for s in spans(wiring, grid))
        share = 1 / len(wiring.inputs)
        mean = WindowMean(_unless_idle(rows), _unless_idle(columns), None, False, share)
        return (mean,) * len(wiring.inputs)
    seen = [len(wiring.positions) or grids[i][0] * grids[i][1] for i in wiring.inputs]
    index = _index(wiring, device)
    return tuple(
        WindowMean(None, None, index, grids[name] != (1, 1), count / sum(seen))
        for name, count in zip(wiring.inputs, seen, strict=True)
    )


def _index(wiring: Wiring, device: torch.device) -> tuple[Tensor, Tensor] | None:
    if not wiring.positions:
        return None
    rows, columns = torch.tensor(wiring.positions, device=device).unbind(dim=1)
    return rows, columns


def _matrix(span: Span, padding: str) -> Tensor:
    """Return the mean along one side, float64, shape (outputs, length)."""
    matrix = torch.zeros(len(span.starts), span.length, dtype=torch.float64)
    for output in range(len(span.starts)):
        seen = span.seen(output)
        matrix[output, seen.start : seen.stop] = 1 / (
            span.window if padding == "zeros" else len(seen)
        )
    return matrix


def _unless_idle(matrix: Tensor) -> Tensor | None:
    eye = torch.eye(*matrix.shape, dtype=matrix.dtype, device=matrix.device)
    return None if torch.equal(matrix, eye) else matrix
