"""A last layer without training: ridge regression of one-hot targets on features.

The penalty is relative to the mean squared norm of the centred features, so that one grid serves
nets of any width. The smaller of the two normal equations (primal or dual) is solved. Where the
penalty is not known beforehand, ``ridge_path`` tries all of them, in the same unit, and chooses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def ridge_head(
    features: Tensor, labels: Tensor, *, classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Return weight (classes, d) and bias (classes,) of the ridge solution, float32.

    W = argmin ||X_c W^T - Y_c||^2 + penalty * s * ||W||^2 with centred features X_c, centred
    one-hot targets Y_c, s = ||X_c||_F^2 / n; the bias restores the means and is not penalised.

    Args:
        features: Float, shape (n, d).
        labels: int64, shape (n,), in 0..classes-1.
        classes: Number of classes.
        penalty: Relative penalty, above 0.
    """
    x = features.double()
    y = torch.nn.functional.one_hot(labels, classes).double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    ridge = penalty * float(x.square().sum()) / len(x) + torch.finfo(torch.float64).tiny
    if x.shape[0] >= x.shape[1]:
        gram = x.T @ x
        gram.diagonal().add_(ridge)
        weight = torch.cholesky_solve(x.T @ y, torch.linalg.cholesky(gram)).T
    else:
        gram = x @ x.T
        gram.diagonal().add_(ridge)
        weight = (x.T @ torch.cholesky_solve(y, torch.linalg.cholesky(gram))).T
    bias = y_mean - weight @ x_mean
    return weight.float(), bias.float()
