"""What one eigen-decomposition knows of a ridge regression, and the path of heads in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import ParameterError
from relearn.training.head_targets import check_penalty

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

GRID = (-8.0, 2.0, 41)
SELECTIONS = ("squared_error", "accuracy")
ROUNDING = 1e-12  # figures that differ by less are equal: sums in another order must not choose


@dataclass(frozen=True)
class Spectrum:
    """Gram matrix of centred, weighted rows, in its eigenvectors.

    Attributes:
        eigenvalues: Float64, ascending, 0 or above, shape (rank,).
        basis: From coordinates to coefficients, shape (coefficients, rank).
        targets: Coordinates of the centred targets, shape (rank, outputs).
        rows: Number n of rows.
    """

    eigenvalues: Tensor
    basis: Tensor
    targets: Tensor
    rows: int

    @property
    def scale(self) -> float:
        """Mean squared norm of the centred rows, the unit of penalties; 1 if all are alike."""
        return float(self.eigenvalues.sum()) / self.rows or 1.0

    @property
    def noise(self) -> float:
        """Eigenvalues below this are 0 up to rounding."""
        largest = float(self.eigenvalues[-1]) if len(self.eigenvalues) else 0.0
        return torch.finfo(torch.float64).eps * len(self.eigenvalues) * largest

    def coefficients(self, penalty: float) -> Tensor:
        """Return basis D targets, shape (coefficients, outputs).

        Args:
            penalty: In units of ``scale``.
        """
        shrunk = self.targets / (self.eigenvalues + penalty * self.scale)[:, None]
        return self.basis @ shrunk


def eigen(gram: Tensor, digits: float, *, what: str, size: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (ascending, none below 0) and eigenvectors (columns) of a Gram matrix.

    Args:
        gram: Symmetric, float64.
        digits: Relative accuracy of its entries.
        what: How a message names it.
        size: Largest entry before the matrix was centred, which may have left rounding alone.

    Raises:
        ParameterError: It is not positive semi-definite, by more than rounding.
    """
    values, vectors = torch.linalg.eigh(gram)
    if len(values):
        low, high = float(values[0]), float(values[-1])
        if max(high, -low) <= len(values) * digits * size:
            return torch.zeros_like(values), vectors
        if low < -len(values) * digits * max(high, -low):
            raise ParameterError(
                f"{what}: smallest eigenvalue {low:.3g} beside a largest of {high:.3g}, expected "
                "a positive semi-definite matrix; compute it in float64 or look at the kernel"
            )
    return values.clamp_min(0), vectors


def penalties_of(
    spectrum: Spectrum, given: Sequence[float] | Tensor | None, *, count: int
) -> Tensor:
    """Return the penalties of a path, ascending, in units of ``spectrum.scale``.

    Args:
        spectrum: Of the rows.
        given: Penalties, or None: 41 values, 1e-8 to 1e2 mean eigenvalues of the smaller Gram
            matrix, without those that rounding would drown.
        count: Size of the smaller Gram matrix: min(n, p), or n for a kernel.

    Raises:
        ParameterError: None, negative or infinite ones, or one so small that the Gram matrix is
            singular.
    """
    floor = spectrum.noise / spectrum.scale
    if given is None:
        grid = torch.logspace(*GRID, dtype=torch.float64) * spectrum.rows / count
        return grid[grid >= min(floor, float(grid[-1]))].to(spectrum.eigenvalues.device)
    values = check_penalties(given)
    singular = int((spectrum.eigenvalues <= spectrum.noise).sum())
    too_small = float(values[0]) < floor or not float(values[0])
    if (singular and too_small) or not len(spectrum.eigenvalues):
        size = len(spectrum.eigenvalues)
        raise ParameterError(
            f"penalties: {float(values[0]):.3g} is too small for a singular Gram matrix (rank "
            f"{size - singular} of {size}), expected at least {max(floor, 1e-300):.1g}; raise the "
            "smallest penalty or drop features that repeat others"
        )
    return values.to(spectrum.eigenvalues.device)


def check_penalties(given: Sequence[float] | Tensor) -> Tensor:
    """Return penalties as float64, ascending, each once.

    Args:
        given: At least one number, 0 or above.

    Raises:
        ParameterError: None, negative or infinite ones.
    """
    values: Tensor = torch.as_tensor(given, dtype=torch.float64).cpu().flatten().unique()
    if not len(values):
        raise ParameterError("penalties: got none, expected at least one number, 0 or above")
    for value in values.tolist():
        check_penalty(value)
    return values


def choose(error: Tensor, accuracy: Tensor | None, select: str) -> int:
    """Return the position of the chosen penalty; of equals the largest.

    Args:
        error: Leave-one-out squared error for each penalty.
        accuracy: Leave-one-out accuracy, or None.
        select: ``squared_error``, or ``accuracy`` (of equals the one with the least error).

    Raises:
        ParameterError: Unknown, or accuracy without labels.
    """
    if select not in SELECTIONS or (select == "accuracy" and accuracy is None):
        known = SELECTIONS if accuracy is not None else SELECTIONS[:1]
        raise ParameterError(f"select: got {select!r}, expected one of {', '.join(known)}")
    if select == "accuracy" and accuracy is not None:
        error = error.masked_fill(accuracy < accuracy.max() - ROUNDING, float("inf"))
    return int((error <= error.min() * (1 + ROUNDING)).nonzero()[-1])


def border_warning(penalties: Tensor, best: int) -> str:
    """Return what to say of a choice at the end of the grid; empty if it is inside.

    Args:
        penalties: Ascending.
        best: Position of the chosen one.
    """
    last = len(penalties) - 1
    if 0 < best < last or not last:
        return ""
    end, say = ("smallest", "smaller") if best == 0 else ("largest", "larger")
    return (
        f"penalties: the {end} of {last + 1} was chosen ({float(penalties[best]):.3g}); the best "
        f"may lie outside: add {say} ones"
    )
