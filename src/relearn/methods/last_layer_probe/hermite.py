"""Orthonormal Hermite polynomials: sqrt(n+1) h_{n+1}(t) = t h_n(t) - sqrt(n) h_{n-1}(t)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def hermite_polynomials(t: Tensor, count: int) -> Tensor:
    """Return h_0(t) .. h_{count-1}(t), shape (count, *t.shape).

    Args:
        t: Float, any shape.
        count: How many, at least 1.
    """
    rows = [torch.ones_like(t), t][:count]
    for n in range(1, count - 1):
        rows.append((t * rows[n] - math.sqrt(n) * rows[n - 1]) / math.sqrt(n + 1))
    return torch.stack(rows)


def hermite_sum(t: Tensor, coefficients: Sequence[float]) -> Tensor:
    """Return sum_k coefficients[k] h_k(t), shaped as t, holding three terms at a time.

    Args:
        t: Float, any shape.
        coefficients: At least one.
    """
    before, present = torch.zeros_like(t), torch.ones_like(t)
    total = coefficients[0] * present
    for n, weight in enumerate(coefficients[1:]):
        before, present = present, (t * present - math.sqrt(n) * before) / math.sqrt(n + 1)
        if weight:
            total = total + weight * present
    return total
