"""The dual form of ridge regression: the n x n Gram matrix of rows or a kernel, without its mean.

The weighted mean direction u = sqrt(weights) / norm is unpenalised (the intercept). A Householder
reflection H takes u to the first axis; what is left, H K H without its first row and column, has
n - 1 eigenvectors that are orthogonal to u by construction: nothing is subtracted afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError
from relearn.training.leave_one_out import RowBlock
from relearn.training.ridge_heads import Means
from relearn.training.ridge_spectrum import Spectrum, eigen

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.training.head_targets import Targets

_COLUMNS = 4096
_ASYMMETRY = 16  # in units of rounding of the largest entry


@dataclass(frozen=True)
class Dual:
    """A decomposed Gram matrix and what leave-one-out needs of its rows.

    Attributes:
        spectrum: Eigenvalues, and coefficients of the rows.
        block: All rows.
        means: Of rows and targets.
    """

    spectrum: Spectrum
    block: RowBlock
    means: Means


def dual_of_features(features: Tensor, targets: Targets) -> Dual:
    """Return the dual form for features.

    Args:
        features: Float, shape (n, p).
        targets: Of the n rows.
    """
    share = targets.weights / targets.weights.sum()
    gram = targets.weights.new_zeros(len(features), len(features))
    means = []
    for part in features.split(_COLUMNS, dim=1):
        columns = part.double() - part[:1].double()
        shift = share @ columns
        means.append(shift + part[0].double())
        columns -= shift
        gram.addmm_(columns, columns.T)
    return _decomposed(gram, targets, torch.cat(means), digits=torch.finfo(torch.float64).eps)


def dual_of_kernel(kernel: Tensor, targets: Targets) -> Dual:
    """Return the dual form for a kernel matrix.

    Args:
        kernel: Float, symmetric, positive semi-definite, shape (n, n).
        targets: Of the n rows.

    Raises:
        DataError: Not a square matrix of floats, not symmetric, or NaN.
        ParameterError: Not positive semi-definite.
    """
    rows = len(targets.values)
    if kernel.shape != (rows, rows) or not kernel.is_floating_point():
        raise DataError(
            f"kernel: got {kernel.dtype} of shape {tuple(kernel.shape)}, expected floats of shape "
            f"({rows}, {rows}), one row for each target"
        )
    if not bool(torch.isfinite(kernel).all()):
        raise DataError("kernel: it holds NaN or infinity, expected finite numbers")
    digits = torch.finfo(kernel.dtype).eps
    gap, size = float((kernel - kernel.T).abs().max()), float(kernel.abs().max())
    if gap > _ASYMMETRY * digits * size:
        raise DataError(
            f"kernel: it differs from its transpose by {gap:.3g}, expected a symmetric matrix; "
            "fill one half and mirror it"
        )
    share = targets.weights / targets.weights.sum()
    full = kernel.double()
    return _decomposed(full, targets, share @ full, digits=digits)


def _decomposed(gram: Tensor, targets: Targets, row_mean: Tensor, *, digits: float) -> Dual:
    root = targets.weights.sqrt()
    share = targets.weights / targets.weights.sum()
    target_mean = share @ targets.values
    centred = (targets.values - target_mean) * root[:, None]
    mirror = _mirror(root / root.norm())
    inner = _reflected(_reflected(gram * root * root[:, None], mirror).T, mirror)[1:, 1:]
    values, vectors = eigen(inner, digits, what="kernel", size=float(gram.abs().max()))
    vectors = _reflected(torch.nn.functional.pad(vectors, (0, 0, 1, 0)), mirror)
    spectrum = Spectrum(
        eigenvalues=values,
        basis=vectors * root[:, None],
        targets=vectors.T @ centred,
        rows=len(root),
    )
    block = RowBlock(vectors, centred, 1 - share, targets.values, targets.labels, targets.weights)
    return Dual(spectrum, block, Means(row_mean, target_mean))


def _mirror(unit: Tensor) -> Tensor:
    """Return v of the reflection 1 - 2 v v' / v'v that takes a unit vector to the first axis."""
    normal = unit.clone()
    normal[0] += 1.0  # entries are positive, so that nothing cancels; the image is minus the axis
    return torch.nn.functional.normalize(normal, dim=0)


def _reflected(matrix: Tensor, mirror: Tensor) -> Tensor:
    return torch.addr(matrix, mirror, mirror @ matrix, alpha=-2.0)
