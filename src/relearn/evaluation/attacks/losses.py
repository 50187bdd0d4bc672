"""What an attack climbs: one number a sample, higher when the net is closer to being wrong.

``z`` are the logits, ``y`` the label, ``t`` a target class, ``z_(k)`` the k-th largest logit. The
ratios do not change when the logits are scaled, so that a confident net cannot hide its gradient.

References:
    Croce and Hein 2020, arXiv 2003.01690, section 4 (difference of logits ratio).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""``loss(logits, labels, targets)``, shape (batch,); the untargeted ones ignore the targets."""

_TINY = 1e-12


def of_class(logits: Tensor, classes: Tensor) -> Tensor:
    """Return the logit of one class for each row, shape (batch,).

    Args:
        logits: Shape (batch, classes).
        classes: int64, shape (batch,).
    """
    return logits.gather(1, classes.unsqueeze(1)).squeeze(1)


def cross_entropy(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row, shape (batch,).

    Args:
        logits: Shape (batch, classes).
        labels: int64, shape (batch,).
        targets: Not used.
    """
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor, targets: Tensor | None = None) -> Tensor:
    """Return max_{i != y} z_i - z_y, shape (batch,): above 0 exactly where the net is wrong.

    Args:
        logits: Shape (batch, classes).
        labels: int64, shape (batch,).
        targets: Not used.
    """
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return others.amax(1) - of_class(logits, labels)


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return z_t - z_y, shape (batch,).

    Args:
        logits: Shape (batch, classes).
        labels: int64, shape (batch,).
        targets: int64, shape (batch,).
    """
    return of_class(logits, targets) - of_class(logits, labels)


def logits_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return (max_{i != y} z_i - z_y) / (z_(1) - z_(3)), shape (batch,).

    Args:
        logits: Shape (batch, classes), 3 classes or more.
        labels: int64, shape (batch,).
        targets: Not used.
    """
    top = logits.topk(3, dim=1).values
    return margin(logits, labels) / (top[:, 0] - top[:, 2] + _TINY)


def targeted_logits_ratio(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return (z_t - z_y) / (z_(1) - (z_(3) + z_(4)) / 2), shape (batch,).

    Args:
        logits: Shape (batch, classes), 4 classes or more.
        labels: int64, shape (batch,).
        targets: int64, shape (batch,).
    """
    top = logits.topk(4, dim=1).values
    spread = top[:, 0] - (top[:, 2] + top[:, 3]) / 2
    return targeted_margin(logits, labels, targets) / (spread + _TINY)


def likeliest_targets(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """Return the classes with the largest logits but for the label's, int64, (batch, count).

    Args:
        logits: Shape (batch, classes).
        labels: int64, shape (batch,).
        count: Targets wanted; classes - 1 if that is less.
    """
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    return others.topk(min(count, logits.shape[1] - 1), dim=1).indices
