"""Moments of rows and targets in float64, block by block, and the primal Gram matrix in them.

The first row is taken from all rows before anything is added up, because a large mean would eat the
digits of the centred moments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError
from relearn.training.head_targets import check_features
from relearn.training.leave_one_out import LeaveOneOut, RowBlock, block_rows
from relearn.training.ridge_heads import Means, RidgePath, make_path
from relearn.training.ridge_spectrum import Spectrum, eigen, penalties_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor

    from relearn.training.head_targets import Targets

_SAME = 1e-5  # share of all squares by which single precision may change a second pass


class Moments:
    """Weighted sums of features x, targets y, x x' and x y'.

    Args:
        width: Columns p of the features.
        outputs: Columns of the targets.

    Attributes:
        rows: Rows so far.
    """

    def __init__(self, width: int, outputs: int) -> None:
        self.rows = 0
        self._width, self._outputs = width, outputs
        self._weight = self._target_size = 0.0
        self._shift: Tensor | None = None

    def add(self, features: Tensor, targets: Targets) -> None:
        """Add some rows.

        Args:
            features: Float, shape (b, p).
            targets: Of these rows; their weights are taken as they are.

        Raises:
            DataError: Another number of rows or columns, or NaN.
        """
        self._check(features, targets)
        if self._shift is None:
            self._begin(features)
        x = self._shifted(features)
        weighed = x * targets.weights[:, None]
        self._gram.addmm_(x.T, weighed)
        self._cross.addmm_(weighed.T, targets.values)
        self._sum += weighed.sum(0)
        self._target_sum += targets.weights @ targets.values
        self._target_size += float((targets.weights @ targets.values.square()).sum())
        self._weight += float(targets.weights.sum())
        self.rows += len(x)

    def _check(self, features: Tensor, targets: Targets) -> None:
        check_features(features, rows=len(targets.values))
        if features.shape[1] != self._width:
            raise DataError(
                f"features: got {features.shape[1]} columns, expected {self._width} as in the "
                "rows before"
            )

    def _begin(self, features: Tensor) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=features.device)

        self._shift = features[0].double()
        self._gram, self._sum = zeros(self._width, self._width), zeros(self._width)
        self._cross, self._target_sum = zeros(self._width, self._outputs), zeros(self._outputs)

    def _shifted(self, features: Tensor) -> Tensor:
        if self._shift is None:
            raise DataError("features: no row was added, expected a first pass over all rows")
        return features.double() - self._shift

    @property
    def means(self) -> Means:
        """Weighted means.

        Raises:
            DataError: No row was added.
        """
        if self._shift is None:
            raise DataError("features: no row was added, expected at least two rows")
        return Means(self._shift + self._sum / self._weight, self._target_sum / self._weight)

    def spectrum(self) -> Spectrum:
        """Return the decomposed moments; weights count as if their mean were 1.

        Raises:
            DataError: No row was added.
        """
        means, unit = self.means, self.rows / self._weight
        gram = self._gram - torch.outer(self._sum, self._sum / self._weight)
        digits = torch.finfo(torch.float64).eps
        values, vectors = eigen((gram + gram.T) * (unit / 2), digits, what="features")
        cross = self._cross - torch.outer(self._sum, means.targets)
        return Spectrum(values, vectors, vectors.T @ cross * unit, self.rows)

    def block(self, features: Tensor, targets: Targets, spectrum: Spectrum) -> RowBlock:
        """Return rows of the second pass as leave-one-out needs them.

        Args:
            features: Float, shape (b, p), rows that were added before.
            targets: Of these rows, with the same weights as before.
            spectrum: Of all rows.

        Raises:
            DataError: Another number of rows or columns, or NaN.
        """
        self._check(features, targets)
        weights = targets.weights * (self.rows / self._weight)
        root = weights.sqrt()[:, None]
        x = (self._shifted(features) - self._sum / self._weight) * root
        centred = (targets.values - self._target_sum / self._weight) * root
        room = 1 - targets.weights / self._weight
        return RowBlock(x @ spectrum.basis, centred, room, targets.values, targets.labels, weights)

    def require_same(self, rows: int, squares: Tensor, cross: Tensor, spectrum: Spectrum) -> None:
        """Make sure that a second pass saw what the first one saw.

        Args:
            rows: Rows of the second pass.
            squares: Sums of the squared coordinates of all its rows, shape (p,): the eigenvalues.
            cross: Sums of coordinates times centred targets, shape (p, outputs).
            spectrum: Of the first pass.

        Raises:
            DataError: Other rows, other features, or other targets.
        """
        if rows != self.rows:
            raise DataError(
                f"batches: the second pass gave {rows} rows, the first {self.rows}; give the same "
                "rows again"
            )
        size = float(spectrum.eigenvalues.sum())
        off = float((squares - spectrum.eigenvalues).abs().max())
        if not off <= _SAME * size:
            raise DataError(
                "batches: the features of the second pass differ from those of the first; hold "
                "the body in evaluation mode, without augmentation"
            )
        off = float((cross - spectrum.targets).abs().max())
        if not off <= _SAME * (size * self._target_size) ** 0.5:
            raise DataError(
                "batches: the targets of the second pass are not those of the same rows of the "
                "first; give rows and targets in one order"
            )


def path_of_moments(
    moments: Moments,
    again: Callable[[int], Iterable[tuple[Tensor, Targets]]],
    *,
    penalties: Sequence[float] | Tensor | None,
    select: str,
) -> RidgePath:
    """Return the path, with leave-one-out from a second pass over the rows.

    Args:
        moments: Of all rows.
        again: Gives the rows once more, in blocks of at most so many.
        penalties: As ``penalties_of`` takes them.
        select: ``squared_error`` or ``accuracy``.

    Raises:
        DataError: The second pass differs from the first.
        ParameterError: Unusable penalties or selection.
    """
    spectrum, means = moments.spectrum(), moments.means
    width = len(spectrum.eigenvalues)
    grid = penalties_of(spectrum, penalties, count=min(moments.rows, width))
    found = LeaveOneOut(
        spectrum.eigenvalues, spectrum.targets, grid * spectrum.scale, spanning=False
    )
    rows, squares = 0, torch.zeros_like(spectrum.eigenvalues)
    cross = torch.zeros_like(spectrum.targets)
    for features, targets in again(block_rows(len(grid), width)):
        block = moments.block(features, targets, spectrum)
        found.add(block)
        squares += block.coordinates.square().sum(0)
        cross.addmm_(block.coordinates.T, block.centred)
        rows += len(features)
    moments.require_same(rows, squares, cross, spectrum)
    return make_path(spectrum, grid, found, select=select, means=means)
