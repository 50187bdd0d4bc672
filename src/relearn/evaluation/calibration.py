"""Whether a net's confidence can be believed: calibration error, log likelihood, Brier score."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def expected_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Return sum over bins of (share of samples) |accuracy - mean confidence|, 0 to 1.

    The bins cut the largest probability into equal widths. Written here because torchmetrics, the
    other road of the tests, takes three seconds of every worker process to import.

    Args:
        logits: Shape (n, classes).
        labels: int64, shape (n,).
        bins: Number of bins.

    References:
        Guo et al. 2017, arXiv 1706.04599, equation 3.
    """
    sure, named = probabilities(logits).max(1)
    right = (named == labels.cpu()).double()
    which = (sure * bins).ceil().long().clamp(1, bins) - 1  # a bin holds its upper end
    gaps = torch.zeros(bins, dtype=torch.float64).index_add_(0, which, right - sure)
    return float(gaps.abs().sum() / len(sure))


def negative_log_likelihood(logits: Tensor, labels: Tensor) -> float:
    """Return the mean of -log p_y, in nats, 0 or more.

    Args:
        logits: Shape (n, classes).
        labels: int64, shape (n,).
    """
    return float(functional.cross_entropy(logits.cpu().double(), labels.cpu()))


def brier_score(logits: Tensor, labels: Tensor) -> float:
    """Return the mean of sum_k (p_k - [k = y])^2, 0 to 2.

    Args:
        logits: Shape (n, classes).
        labels: int64, shape (n,).

    References:
        Brier 1950, equation 2.
    """
    truth = functional.one_hot(labels.cpu(), logits.shape[1])
    return float((probabilities(logits) - truth).square().sum(1).mean())


def probabilities(logits: Tensor) -> Tensor:
    """Return the softmax, float64, shape (n, classes), on the CPU.

    Args:
        logits: Shape (n, classes).
    """
    return logits.detach().cpu().double().softmax(1)
