"""Exact leave-one-out of every penalty at once, block by block of rows.

With rows and targets centred and scaled by the square roots of their weights, the residual of row i
when it is left out is (residual of i) / (1 - leverage of i) for every linear smoother of this kind.
Both are one product for all penalties l: with coordinates Z of the rows and C of the targets in the
eigenvectors and D = 1 / (eigenvalues + l), one column for each l,
    primal (Z = rows times eigenvectors, p < n):  residual = R - Z (D C),  slack = S - (Z * Z) D
    dual (Z = eigenvectors, which span all rows): residual = l Z (D C),    slack = l (Z * Z) D
where slack = 1 - leverage, R are the centred targets and S = 1 - weight / sum of weights. The dual
form leaves l out, because only the ratio counts: it is exact even where l is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

_ENTRIES = 2**21  # of the largest matrix of a block
BLOCK_BYTES = 8 * _ENTRIES
_NOTHING_LEFT = 1e-13  # of what is left of a row beside the others; below, digits are noise


@dataclass(frozen=True)
class RowBlock:
    """Some rows as the leave-one-out formula sees them.

    Attributes:
        coordinates: Z, shape (b, rank).
        centred: R, shape (b, outputs): centred and scaled targets.
        room: S, shape (b,).
        values: Targets as they are, shape (b, outputs).
        labels: int64, shape (b,), or None.
        weights: Shape (b,).
    """

    coordinates: Tensor
    centred: Tensor
    room: Tensor
    values: Tensor
    labels: Tensor | None
    weights: Tensor


class LeaveOneOut:
    """Sums of leave-one-out errors and hits over blocks of rows, for all penalties.

    Args:
        eigenvalues: Of the Gram matrix, shape (rank,).
        targets: C, shape (rank, outputs).
        penalties: l, shape (penalties,).
        spanning: Whether Z spans all rows (the dual form).
    """

    def __init__(
        self, eigenvalues: Tensor, targets: Tensor, penalties: Tensor, *, spanning: bool
    ) -> None:
        self._factors = 1 / (eigenvalues[:, None] + penalties)
        self._targets, self._penalties, self._spanning = targets, penalties, spanning
        smallest = self._factors.amin(0)  # bounds what rounding may do to the slack from below
        self._least = smallest if spanning else penalties * smallest
        self._error = torch.zeros_like(penalties)
        self._hits = torch.zeros_like(penalties)
        self._weight, self._labelled = 0.0, True
        self._slack: list[Tensor] = []

    def add(self, block: RowBlock) -> None:
        """Count some rows.

        Args:
            block: They.

        Raises:
            DataError: Without one row and with penalty 0 the others do not determine a solution.
        """
        slack = self._slack_of(block)
        self._slack.append(slack * self._penalties if self._spanning else slack)
        self._weight += float(block.weights.sum())
        outputs = self._targets.shape[1]
        step = max(1, _ENTRIES // (outputs * max(len(self._factors), len(slack))))
        for part in torch.arange(len(self._penalties), device=slack.device).split(step):
            left = self._residual(block, part) / slack[:, part, None]
            left /= block.weights.sqrt()[:, None, None]
            self._error[part] += block.weights @ left.square().mean(2)
            if block.labels is None:
                self._labelled = False
                continue
            hits = (block.values[:, None] - left).argmax(2) == block.labels[:, None]
            self._hits[part] += block.weights @ hits.double()

    def _slack_of(self, block: RowBlock) -> Tensor:
        slack = block.coordinates.square() @ self._factors
        if not self._spanning:
            slack = block.room[:, None] - slack
        lost = (slack <= _NOTHING_LEFT * block.room[:, None]) & (self._least == 0)
        if bool(lost.any()):
            raise DataError(
                "penalties: without one of the rows the others have no solution at penalty 0; "
                "raise the smallest penalty above 0"
            )
        return torch.maximum(slack, block.room[:, None] * self._least)

    def _residual(self, block: RowBlock, part: Tensor) -> Tensor:
        """Return residuals (b, penalties, outputs), in the dual form up to the penalty."""
        weighed = (self._factors[:, part, None] * self._targets[:, None]).flatten(1)
        fitted: Tensor = (block.coordinates @ weighed).unflatten(1, (len(part), -1))
        return fitted if self._spanning else block.centred[:, None] - fitted

    def scores(self, block: RowBlock, which: int) -> Tensor:
        """Return what each row gets from the head that was fitted without it, (b, outputs).

        Args:
            block: The rows.
            which: Position of the penalty.
        """
        part = torch.tensor([which], device=self._penalties.device)
        scale = self._slack_of(block)[:, part] * block.weights.sqrt()[:, None]
        return block.values - self._residual(block, part)[:, 0] / scale

    @property
    def error(self) -> Tensor:
        """Weighted mean squared error for each penalty."""
        return self._error / self._weight

    @property
    def accuracy(self) -> Tensor | None:
        """Weighted share of rows whose class is hit, for each penalty; None without labels."""
        return self._hits / self._weight if self._labelled else None

    @property
    def leverages(self) -> Tensor:
        """Leverages of the rows in the order in which they came, shape (n, penalties)."""
        return 1 - torch.cat(self._slack)


def block_rows(penalties: int, width: int) -> int:
    """Return how many rows fit into one block, 64 to 4096.

    Args:
        penalties: Number of penalties.
        width: Columns of the features.
    """
    return min(4096, max(64, _ENTRIES // (penalties + width)))
