"""Ridge regression over a stream of rows: exact leave-one-out in memory of order p squared.

A first pass adds up moments, a second pass over the same rows gives leverages and with them the
leave-one-out error of every penalty. Rows are never kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError, ParameterError
from relearn.training.head_targets import Targets, check_class_weights, check_labels
from relearn.training.leave_one_out import BLOCK_BYTES
from relearn.training.ridge_moments import Moments, path_of_moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor

    from relearn.training.ridge_heads import RidgePath

    Batches = Iterable[tuple[Tensor, Tensor]]

_SQUARES = 6  # p x p matrices held at once while the Gram matrix is decomposed
_BLOCKS = 8  # blocks of 16 MiB held at once in the second pass


class RidgeSums:
    """Moments of features and labels, from which a ridge regression is solved.

    Args:
        width: Columns p of the features.
        classes: Number of classes.
        class_weights: One number above 0 for each class, shape (classes,), see
            ``balanced_class_weights``; None weighs all rows alike.

    Raises:
        ParameterError: Unusable weights or sizes.
    """

    def __init__(self, width: int, classes: int, *, class_weights: Tensor | None = None) -> None:
        if width < 1 or classes < 2:
            raise ParameterError(
                f"classes: got {classes} classes and {width} features, expected at least 2 and 1"
            )
        self._classes = classes
        self._class_weights = check_class_weights(class_weights, classes)
        self._moments = Moments(width, classes)
        self._counts = torch.zeros(classes, dtype=torch.int64)

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return self._moments.rows

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add some rows to the sums.

        Args:
            features: Float, shape (b, p).
            labels: int64, shape (b,), 0..classes-1.

        Raises:
            DataError: Other shapes than before, NaN, or a label out of range.
        """
        targets = self._coded(labels)
        self._moments.add(features, targets)
        self._counts += labels.cpu().bincount(minlength=self._classes)

    def path(
        self,
        again: Batches,
        *,
        penalties: Sequence[float] | Tensor | None = None,
        select: str = "squared_error",
    ) -> RidgePath:
        """Return the ridge path of all rows added, as ``ridge_path`` would.

        Args:
            again: The same rows once more, in the same order, in batches of any size.
            penalties: As in ``ridge_path``.
            select: As in ``ridge_path``.

        Raises:
            DataError: One class, or the second pass differs from the first.
            ParameterError: As in ``ridge_path``.
        """
        if int((self._counts > 0).sum()) < 2:
            raise DataError(
                f"labels: the {self.rows} rows added are of one class or none, expected at least "
                "two classes"
            )

        def blocks(rows: int) -> Iterator[tuple[Tensor, Targets]]:
            for features, labels in again:
                parts = map(self._coded, labels.split(rows))
                yield from zip(features.split(rows), parts, strict=True)

        return path_of_moments(self._moments, blocks, penalties=penalties, select=select)

    def loo_scores(self, path: RidgePath, again: Batches) -> Tensor:
        """Return for each row the scores of the chosen head fitted without it, (n, classes).

        Args:
            path: Made by ``path``.
            again: The same rows a third time.
        """
        parts: list[Tensor] = []
        first = 0
        for features, labels in again:
            parts.append(path.leave_one_out(features, self._coded(labels).values, first))
            first += len(labels)
        return torch.cat(parts)

    def _coded(self, labels: Tensor) -> Targets:
        labels = check_labels(labels, self._classes, part=True)
        values = torch.nn.functional.one_hot(labels, self._classes).double()
        return Targets(values, labels, self._class_weights.to(labels.device)[labels])


def memory_bound(width: int, classes: int, *, rows: int, penalties: int = 41) -> int:
    """Return how many bytes ``RidgeSums`` takes at most, batches of the caller apart.

    Six p x p matrices while the Gram matrix is decomposed, eight blocks of 16 MiB in the second
    pass, coefficients for all penalties, and the leverages of all rows: all float64.

    Args:
        width: Columns p of the features.
        classes: Number of classes.
        rows: Rows of the fit.
        penalties: Length of the path.
    """
    numbers = _SQUARES * width**2 + penalties * (2 * rows + width * classes)
    return 8 * numbers + _BLOCKS * BLOCK_BYTES
