"""Ridge regression for every penalty at once, with the exact leave-one-out error of each.

One eigen-decomposition of the smaller Gram matrix serves all penalties. The intercept is not
penalised and is part of the leave-one-out. Penalties are in units of s, the mean squared norm of
the centred rows, as in ``closed_form.ridge_head``:
    W, b = argmin sum_i w_i ||y_i - W x_i - b||^2 + penalty * s * ||W||^2
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from relearn.errors import one_of
from relearn.training.head_targets import Targets, check_features, read_targets
from relearn.training.leave_one_out import LeaveOneOut
from relearn.training.ridge_dual import Dual, dual_of_features, dual_of_kernel
from relearn.training.ridge_heads import RidgePath, make_path
from relearn.training.ridge_moments import Moments, path_of_moments
from relearn.training.ridge_spectrum import penalties_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

ROADS = ("auto", "primal", "dual")
_ROWS = 4096


def ridge_path(
    features: Tensor,
    targets: Tensor,
    *,
    penalties: Sequence[float] | Tensor | None = None,
    weights: Tensor | str | None = None,
    classes: int | None = None,
    select: str = "squared_error",
    road: str = "auto",
) -> RidgePath:
    """Return ridge heads for all penalties and the exact leave-one-out error of each.

    Leaving a row out keeps the weights of the others. Float64, on the device of the features.

    Args:
        features: Float, shape (n, p).
        targets: Labels, int64, shape (n,), or real-valued targets, shape (n, outputs).
        penalties: In units of the mean squared norm of the centred rows, 0 or above. None takes 41
            values, 1e-8 to 1e2 times the mean eigenvalue of the smaller Gram matrix.
        weights: None, ``balanced`` (classes weigh the same in total), or shape (n,), above 0.
        classes: Number of classes; None takes the largest label plus one.
        select: What chooses the penalty: leave-one-out ``squared_error`` or ``accuracy``.
        road: ``primal`` (p x p), ``dual`` (n x n), or ``auto``, the smaller; they give the same.

    Raises:
        DataError: NaN, one class, or shapes that do not fit.
        ParameterError: A negative penalty, 0 beside a singular Gram matrix, or an unknown choice.
    """
    if road not in ROADS:
        raise one_of("road", road, ROADS)
    read = read_targets(targets, classes=classes, weights=weights)
    check_features(features, rows=len(read.values))
    if road == "primal" or (road == "auto" and features.shape[0] > features.shape[1]):
        return _primal_path(features, read, penalties=penalties, select=select)
    dual = dual_of_features(features, read)
    path = _dual_path(dual, penalties, select=select, count=min(features.shape))
    return replace(path, features=features)


def ridge_path_from_kernel(
    kernel: Tensor,
    targets: Tensor,
    *,
    penalties: Sequence[float] | Tensor | None = None,
    weights: Tensor | str | None = None,
    classes: int | None = None,
    select: str = "squared_error",
) -> RidgePath:
    """Return kernel ridge heads for all penalties and the exact leave-one-out error of each.

    ``path.predict(k)`` takes kernel values between new samples and the n rows, shape (m, n).

    Args:
        kernel: Float, symmetric and positive semi-definite, shape (n, n).
        targets: As in ``ridge_path``.
        penalties: In units of the mean diagonal entry of the centred kernel.
        weights: As in ``ridge_path``.
        classes: As in ``ridge_path``.
        select: As in ``ridge_path``.

    Raises:
        DataError: Not a finite symmetric matrix of the right size, or one class.
        ParameterError: Not positive semi-definite, or as in ``ridge_path``.
    """
    read = read_targets(targets, classes=classes, weights=weights)
    dual = dual_of_kernel(kernel, read)
    return _dual_path(dual, penalties, select=select, count=len(kernel))


def _dual_path(
    dual: Dual, penalties: Sequence[float] | Tensor | None, *, select: str, count: int
) -> RidgePath:
    spectrum = dual.spectrum
    grid = penalties_of(spectrum, penalties, count=count)
    found = LeaveOneOut(
        spectrum.eigenvalues, spectrum.targets, grid * spectrum.scale, spanning=True
    )
    found.add(dual.block)
    path = make_path(spectrum, grid, found, select=select, means=dual.means)
    return replace(path, loo_scores=found.scores(dual.block, path.best))


def _primal_path(
    features: Tensor, read: Targets, *, penalties: Sequence[float] | Tensor | None, select: str
) -> RidgePath:
    def blocks(rows: int) -> Iterator[tuple[Tensor, Targets]]:
        for start in range(0, len(features), rows):
            part = slice(start, start + rows)
            yield features[part], read.part(part)

    moments = Moments(features.shape[1], read.values.shape[1])
    for block, targets in blocks(_ROWS):
        moments.add(block, targets)
    path = path_of_moments(moments, blocks, penalties=penalties, select=select)
    return replace(path, loo_scores=path.leave_one_out(features, read.values))
