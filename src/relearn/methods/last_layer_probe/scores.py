"""Transferability scores: what cheap statistics of features hint about a last layer on them.

Hints, never a verdict: their order is known to be wrong now and then, and each run reports how well
they ranked. Each is one number, larger is better (the effective rank only describes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError, ParameterError
from relearn.training.head_targets import check_features, check_labels

if TYPE_CHECKING:
    from torch import Tensor

_BLOCK = 1024
_TIES = 1e-6  # what a nearer neighbour adds to a vote, below 1 / neighbours
_GRID = 81  # ratios in one sweep of the evidence
_SWEEPS = 4
_ENTRIES = 2**23  # of the largest tensor of a sweep
_DECADES = 9.0  # around the mean eigenvalue, to either side


@dataclass(frozen=True)
class _Thin:
    """Squared singular values above rounding, (r,), and left vectors, (n, r), of a matrix."""

    squares: Tensor
    left: Tensor


def _thin(rows: Tensor) -> _Thin:
    """Return the thin decomposition of float64 rows from their smaller Gram matrix."""
    wide = rows.shape[0] <= rows.shape[1]
    squares, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
    kept = squares > torch.finfo(torch.float64).eps * max(rows.shape) * squares[-1]
    squares, vectors = squares[kept], vectors[:, kept]
    return _Thin(squares, vectors if wide else rows @ vectors / squares.sqrt())


def log_me(features: Tensor, labels: Tensor) -> float:
    """Return the largest log evidence of a Bayesian linear model per sample, mean over classes.

    For each class present, targets are 1 for it and 0 else; weights have the prior N(0, 1/a) and
    the noise is N(0, 1/b). With l = a / b the best b is n / Q(l) in closed form, and what is left,
        n/2 log(n / Q) - n/2 - n/2 log(2 pi) + 1/2 sum_j log(l / (l + s_j^2)),
        Q(l) = |y|^2 - sum_j z_j^2 s_j^2 / (l + s_j^2),
    is searched over l, nine decades to either side of the mean eigenvalue s^2. No intercept.

    Args:
        features: Float, shape (n, p).
        labels: int64, shape (n,).

    Raises:
        DataError: NaN, one class, or shapes that do not fit.

    References:
        You et al., LogME (arXiv 2102.11005), section 4; there a and b are found by a fixed point.
    """
    labels = check_labels(labels, None)
    check_features(features, rows=len(labels))
    thin = _thin(features.double())
    targets = torch.nn.functional.one_hot(labels.unique(return_inverse=True)[1]).double()
    inside = (thin.left.T @ targets).square()
    outside = (targets.square().sum(0) - inside.sum(0)).clamp_min(0)
    step = max(1, _ENTRIES // (_GRID * max(1, len(thin.squares))))
    parts = zip(inside.split(step, dim=1), outside.split(step), strict=True)
    best = torch.cat([_best_evidence(thin.squares, part, len(labels)) for part in parts])
    return float(best.mean()) / len(labels)


def _best_evidence(squares: Tensor, targets: tuple[Tensor, Tensor], rows: int) -> Tensor:
    """Return the largest log evidence of each class, from sweeps that close in on it."""
    middle = math.log(float(squares.mean())) if len(squares) else 0.0
    least, most = middle - _DECADES * math.log(10), middle + _DECADES * math.log(10)
    centre, reach = torch.full_like(targets[1], middle), most - middle
    for _ in range(_SWEEPS):
        steps = torch.linspace(-reach, reach, _GRID, dtype=torch.float64, device=centre.device)
        tried = (centre + steps[:, None]).clamp(least, most)
        best, place = _evidence(tried.exp(), squares, targets, rows).max(0)
        centre = tried.gather(0, place[None])[0]
        reach *= 4 / (_GRID - 1)
    return best


def _evidence(ratio: Tensor, squares: Tensor, targets: tuple[Tensor, Tensor], rows: int) -> Tensor:
    """Return the log evidence, (tried, classes), for ratios a / b of that shape."""
    inside, outside = targets
    kept = ratio[:, None] / (ratio[:, None] + squares[:, None])  # (tried, r, classes)
    misfit = (kept * inside).sum(1) + outside
    fit = rows / 2 * (math.log(rows) - misfit.log() - 1 - math.log(2 * math.pi))
    return fit + kept.log().sum(1) / 2


def h_score(features: Tensor, labels: Tensor) -> float:
    """Return tr(S^-1 B): the spread of class means B in units of the spread of features S.

    S is the covariance shrunk towards a multiple of the identity by Ledoit and Wolf's rule, without
    which the score of wide features is noise; with many rows nothing is shrunk.

    Args:
        features: Float, shape (n, p).
        labels: int64, shape (n,).

    Raises:
        DataError: NaN, one class, or shapes that do not fit.

    References:
        Bao et al., An information-theoretic approach to transferability (2019); Ledoit and Wolf,
        A well-conditioned estimator for large-dimensional covariance matrices (2004).
    """
    labels = check_labels(labels, None)
    check_features(features, rows=len(labels))
    rows = features.double()
    rows = rows - rows.mean(0)
    count, width = rows.shape
    thin = _thin(rows)
    mean = float(thin.squares.sum()) / (count * width)
    if not mean:
        return 0.0
    shrunk = _shrinkage(rows, thin.squares / count, mean)
    spread = (1 - shrunk) * thin.squares / count + shrunk * mean
    shares = torch.nn.functional.one_hot(labels).double()
    shares = shares[:, shares.sum(0) > 0]
    weights = shares.sum(0)
    towards = (thin.left.T @ (shares / weights)).square()  # class means in the left vectors
    between = (thin.squares[:, None] * towards) @ (weights / count)
    return float((between / spread).sum())


def _shrinkage(rows: Tensor, variances: Tensor, mean: float) -> float:
    """Return the share of the identity in the covariance, 0 to 1 (Ledoit and Wolf 2004, eq. 14)."""
    count, width = rows.shape
    size = float(variances.square().sum())
    away = size - width * mean**2
    noise = (float(rows.square().sum(1).square().sum()) / count - size) / count
    return min(1.0, max(0.0, noise / away)) if away > 0 else 1.0


def leep(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean log-likelihood of labels through a source classifier's answers.

    mean_i log sum_z P(y_i | z) theta_i(z), with P(y, z) = mean_i theta_i(z) [y_i = y].

    Args:
        probabilities: theta, of the source classes, rows that add up to 1, shape (n, source).
        labels: int64, shape (n,).

    Raises:
        DataError: NaN, one class, rows that are no probabilities, or shapes that do not fit.

    References:
        Nguyen et al., LEEP (arXiv 2002.12462), section 3.
    """
    labels = check_labels(labels, None)
    check_features(probabilities, rows=len(labels), name="probabilities")
    theta = probabilities.double()
    if bool((theta < 0).any()) or bool((theta.sum(1) - 1).abs().max() > 1e-4):
        raise DataError(
            "probabilities: expected rows of numbers not below 0 that add up to 1; take the "
            "softmax of the logits"
        )
    joint = torch.nn.functional.one_hot(labels).double().T @ theta
    given = joint / joint.sum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return float((theta * given[labels]).sum(1).log().mean())


def nce(source_labels: Tensor, labels: Tensor) -> float:
    """Return minus the conditional entropy of labels given a source classifier's classes, in nats.

    -H(Y | Z) = sum P(y, z) log P(y | z); 0 where the source class tells the label.

    Args:
        source_labels: int64, shape (n,).
        labels: int64, shape (n,).

    Raises:
        DataError: One class, or another number of source labels.

    References:
        Tran et al., Transferability and hardness of supervised classification tasks (2019).
    """
    labels = check_labels(labels, None)
    if source_labels.shape != labels.shape:
        raise DataError(
            f"source_labels: got shape {tuple(source_labels.shape)}, expected {tuple(labels.shape)}"
        )
    source = source_labels.unique(return_inverse=True)[1]
    one_hot = torch.nn.functional.one_hot
    joint = one_hot(labels).double().T @ one_hot(source).double() / len(labels)
    given = joint / joint.sum(0)
    return float(torch.special.xlogy(joint, given).sum())


def knn_loo(features: Tensor, labels: Tensor, *, neighbours: int = 5) -> float:
    """Return the share of rows whose class most of their nearest other rows have.

    Euclidean distance; of equal votes the class with the nearer neighbours wins.

    Args:
        features: Float, shape (n, p).
        labels: int64, shape (n,).
        neighbours: How many vote, 1 to n - 1.

    Raises:
        DataError: NaN, one class, or shapes that do not fit.
        ParameterError: No neighbour, or more than there are other rows.
    """
    labels = check_labels(labels, None)
    check_features(features, rows=len(labels))
    if not 1 <= neighbours < len(labels):
        raise ParameterError(
            f"neighbours: got {neighbours}, expected 1 to {len(labels) - 1}, one row fewer than "
            "there are"
        )
    rows = features.double()
    rows = rows - rows.mean(0)
    votes = 1 + _TIES * torch.arange(neighbours, 0, -1, device=rows.device) / neighbours
    one_hot, hits = torch.nn.functional.one_hot(labels).double(), 0
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        apart = torch.cdist(block, rows)
        own = torch.arange(len(block), device=rows.device)
        apart[own, own + start] = math.inf
        near = apart.topk(neighbours, largest=False).indices
        answer = (one_hot[near] * votes[:, None]).sum(1).argmax(1)
        hits += int((answer == labels[start : start + _BLOCK]).sum())
    return hits / len(rows)


def kernel_target_alignment(kernel: Tensor, labels: Tensor) -> float:
    """Return the cosine between the centred kernel and the centred kernel of the labels, 0 to 1.

    <H K H, H Y Y' H> / (|H K H| |H Y Y' H|) with one-hot Y and H = I - 1 1' / n; 0 for a constant
    kernel.

    Args:
        kernel: Float, symmetric, shape (n, n).
        labels: int64, shape (n,).

    Raises:
        DataError: NaN, one class, or shapes that do not fit.

    References:
        Cortes, Mohri, Rostamizadeh, Algorithms for learning kernels based on centered alignment
        (2012), definition 4.
    """
    labels = check_labels(labels, None)
    centred = _centred(kernel, rows=len(labels))
    targets = torch.nn.functional.one_hot(labels).double()
    targets = targets - targets.mean(0)
    size = float(centred.norm() * (targets.T @ targets).norm())
    return float((targets * (centred @ targets)).sum()) / size if size else 0.0


def effective_rank(kernel: Tensor) -> float:
    """Return exp of the entropy of the centred kernel's spectrum, 1 to n - 1; 0 if it is constant.

    Args:
        kernel: Float, symmetric, positive semi-definite, shape (n, n).

    Raises:
        DataError: NaN, or not a square matrix.

    References:
        Roy and Vetterli, The effective rank (2007), definition 1.
    """
    values = torch.linalg.eigvalsh(_centred(kernel, rows=len(kernel))).clamp_min(0)
    total = float(values.sum())
    if total <= torch.finfo(kernel.dtype).eps * float(kernel.abs().max()) * len(kernel):
        return 0.0
    shares = values / total
    return math.exp(-float(torch.special.xlogy(shares, shares).sum()))


def _centred(kernel: Tensor, *, rows: int) -> Tensor:
    check_features(kernel, rows=rows, name="kernel")
    if kernel.shape[0] != kernel.shape[1]:
        raise DataError(
            f"kernel: got shape {tuple(kernel.shape)}, expected a square matrix; rows of features "
            "give one by features @ features.T"
        )
    full = kernel.double()
    mean = full.mean(0)
    return full - mean - (full.mean(1) - mean.mean())[:, None]
