"""The heads of a ridge path: one for each penalty, the chosen one, and what chose it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.training.head_targets import check_penalty
from relearn.training.ridge_spectrum import border_warning, choose

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.training.leave_one_out import LeaveOneOut
    from relearn.training.ridge_spectrum import Spectrum

_COLUMNS = 4096


@dataclass(frozen=True)
class Means:
    """What the intercept restores.

    Attributes:
        rows: Weighted mean of the rows (or of the kernel's rows), float64, shape (p,).
        targets: Weighted mean of the targets, float64, shape (outputs,).
    """

    rows: Tensor
    targets: Tensor


@dataclass(frozen=True)
class RidgePath:
    """Ridge heads for a grid of penalties, with the exact leave-one-out error of each.

    Attributes:
        penalties: Ascending, in units of ``scale``, float64, shape (penalties,).
        loo_error: Weighted mean squared error of rows that were left out, shape (penalties,).
        loo_accuracy: Weighted share of left-out rows whose class is hit; None without labels.
        best: Position of the chosen penalty.
        select: By what it was chosen.
        warning: What to say of a choice at the border of the grid; empty if it is inside.
        loo_scores: For each row the scores of the chosen head fitted without that row, shape
            (n, outputs); None for a stream, see ``RidgeSums.loo_scores``.
        leverages: Of the rows, shape (n, penalties).
        means: Of rows and targets.
        spectrum: The eigen-decomposition behind all this.
        features: The rows, where the coefficients belong to rows rather than to features.
    """

    penalties: Tensor
    loo_error: Tensor
    loo_accuracy: Tensor | None
    best: int
    select: str
    warning: str
    loo_scores: Tensor | None
    leverages: Tensor
    means: Means
    spectrum: Spectrum
    features: Tensor | None = None

    @property
    def scale(self) -> float:
        """Unit of the penalties: mean squared norm of the centred rows."""
        return self.spectrum.scale

    @property
    def penalty(self) -> float:
        """The chosen penalty."""
        return float(self.penalties[self.best])

    def head(self, penalty: float | None = None) -> tuple[Tensor, Tensor]:
        """Return weight (outputs, p) and bias (outputs,), float64.

        For a path from a kernel, p is n and the weight multiplies kernel values between a new
        sample and the n rows of the fit.

        Args:
            penalty: In units of ``scale``; None takes the chosen one.

        Raises:
            ParameterError: Negative or not finite.
        """
        penalty = self.penalty if penalty is None else penalty
        check_penalty(penalty, name="penalty")
        weight = self.spectrum.coefficients(penalty).T
        if self.features is not None:
            weight = _combined(weight, self.features)
        return weight, self.means.targets - weight @ self.means.rows

    def predict(self, features: Tensor, penalty: float | None = None) -> Tensor:
        """Return scores of new samples, float64, shape (m, outputs).

        Args:
            features: Shape (m, p), or kernel values between new samples and rows, shape (m, n).
            penalty: As in ``head``.
        """
        weight, bias = self.head(penalty)
        return features.to(weight) @ weight.T + bias

    def leave_one_out(self, features: Tensor, values: Tensor, first: int = 0) -> Tensor:
        """Return the scores of rows of the fit by the chosen head fitted without each of them.

        Args:
            features: Rows of the fit in their order, shape (b, p).
            values: Their targets, one-hot or real-valued, shape (b, outputs).
            first: Position of the first of them in the fit.

        Returns:
            Float64, shape (b, outputs).
        """
        slack = 1 - self.leverages[first : first + len(features), self.best]
        return values - (values - self.predict(features)) / slack[:, None]


def make_path(
    spectrum: Spectrum,
    penalties: Tensor,
    found: LeaveOneOut,
    *,
    select: str,
    means: Means,
    features: Tensor | None = None,
) -> RidgePath:
    """Return the path that leave-one-out sums choose from.

    Args:
        spectrum: Of the rows.
        penalties: Ascending, in units of its scale.
        found: Sums over all rows.
        select: ``squared_error`` or ``accuracy``.
        means: Of rows and targets.
        features: Rows, in the dual form.
    """
    error, accuracy = found.error, found.accuracy
    best = choose(error, accuracy, select)
    return RidgePath(
        penalties=penalties,
        loo_error=error,
        loo_accuracy=accuracy,
        best=best,
        select=select,
        warning=border_warning(penalties, best),
        loo_scores=None,
        leverages=found.leverages,
        means=means,
        spectrum=spectrum,
        features=features,
    )


def _combined(coefficients: Tensor, features: Tensor) -> Tensor:
    """Return coefficients (outputs, n) times features (n, p) in float64, by blocks of columns.

    The coefficients of each output add up to 0, so that a constant may be taken from the features.
    """
    parts = [
        coefficients @ (part.double() - part[:1].double())
        for part in features.split(_COLUMNS, dim=1)
    ]
    return torch.cat(parts, dim=1)
