"""Closed forms of the activations with one kink or jump at 0: ReLU and its relatives, step, sign.

With theta = acos(rho); a below 0, b above 0:

    a min(t, 0) + b max(t, 0):  c = (a-b)^2/(2 pi) (sin theta - rho theta) + rho (a^2 + b^2)/2
    step 1[t > 0]:              c = (pi - theta)/(2 pi)

Both families are homogeneous, so that general variances only multiply by (A D)^(degree/2).
Cho and Saul 2009 (arc-cosine kernels); Daniely et al. 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.dual_form import (
    DualForm,
    DualWithSlope,
    Entrywise,
    correlation,
)

if TYPE_CHECKING:
    from torch import Tensor


def hermite_at_zero(count: int) -> Tensor:
    """Return h_0(0) .. h_{count-1}(0) of the orthonormal Hermite polynomials, float64.

    Args:
        count: How many, at least 0.
    """
    values = torch.zeros(max(count, 2), dtype=torch.float64)
    values[0] = 1.0
    for n in range(1, count - 1):
        values[n + 1] = -math.sqrt(n / (n + 1)) * values[n - 1]
    return values[:count]


def _ramp_coefficients(count: int) -> Tensor:
    """Return E[max(g, 0) h_i(g)]; from i = 2 on by parts twice, where the ramp is a point mass."""
    result = torch.zeros(max(count, 2), dtype=torch.float64)
    result[0], result[1] = 1 / math.sqrt(2 * math.pi), 0.5
    i = torch.arange(2, max(count, 2), dtype=torch.float64)
    result[2:] = hermite_at_zero(len(i)) / (i * (i - 1) * 2 * math.pi).sqrt()
    return result[:count]


def _step_coefficients(count: int) -> Tensor:
    """Return E[1[g > 0] h_i(g)]; from i = 1 on by parts, where the step is a point mass."""
    result = torch.full((max(count, 1),), 0.5, dtype=torch.float64)
    i = torch.arange(1, max(count, 1), dtype=torch.float64)
    result[1:] = hermite_at_zero(len(i)) / (i * 2 * math.pi).sqrt()
    return result[:count]


def _homogeneous(
    degree: int, moment: float, dual: Entrywise, derivative: Entrywise
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return general(A, B, D) = m (A D)^(degree/2) dual(rho), and 0 where A D = 0."""

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        rho, scale = correlation(a, b, d)
        value: Tensor = DualWithSlope.apply(rho, dual, derivative)
        return moment * value * (scale if degree else (scale > 0).to(value.dtype))

    return general


def rectified(below: float, above: float) -> DualForm:
    """Return the form of below * min(t, 0) + above * max(t, 0).

    Args:
        below: Slope for t < 0.
        above: Slope for t > 0, not both 0.
    """
    moment = (below**2 + above**2) / 2
    bend, line = (above - below) ** 2 / (2 * math.pi * moment), 1.0

    def dual(rho: Tensor) -> Tensor:
        curve = (1 - rho * rho).clamp_min_(0).sqrt_()
        return curve.sub_(rho.acos().mul_(rho)).mul_(bend).add_(rho, alpha=line)

    def derivative(rho: Tensor) -> Tensor:
        return rho.acos().mul_(-bend).add_(line)

    def coefficients(count: int) -> Tensor:
        result = (above - below) * _ramp_coefficients(count)
        if count > 1:
            result[1] += below
        return result / math.sqrt(moment)

    return DualForm(
        second_moment=moment,
        mean=(above - below) / math.sqrt(2 * math.pi),
        slope=1.0,
        dual=dual,
        derivative=derivative,
        general=_homogeneous(1, moment, dual, derivative),
        coefficients=coefficients,
    )


def rectified_pair(a: float, b: float) -> DualForm:
    """Return the form of a * min(t, 0) + b * max(t, 0).

    Args:
        a: Slope for t < 0.
        b: Slope for t > 0.

    Raises:
        ParameterError: Both are 0.
    """
    if a == b == 0:
        raise ParameterError(
            "activation.ab_relu: a and b are both 0, expected one that is not: s is 0 everywhere"
        )
    return rectified(a, b)


def jump(below: float) -> DualForm:
    """Return the form of the function that is ``below`` for t < 0 and 1 for t > 0.

    Args:
        below: 0 gives the step, -1 the sign.
    """
    moment, mean = (1 + below**2) / 2, (1 + below) / 2
    bend = (1 - below) ** 2 / (2 * math.pi * moment)

    def dual(rho: Tensor) -> Tensor:
        return rho.acos().mul_(-bend).add_(1)

    def derivative(rho: Tensor) -> Tensor:
        return bend * (1 - rho * rho).clamp_min(0).rsqrt()

    def coefficients(count: int) -> Tensor:
        result = (1 - below) * _step_coefficients(count)
        result[:1] += below
        return result / math.sqrt(moment)

    return DualForm(
        second_moment=moment,
        mean=mean,
        slope=math.inf,
        dual=dual,
        derivative=derivative,
        general=_homogeneous(0, moment, dual, derivative),
        coefficients=coefficients,
    )


def identity() -> DualForm:
    """Return the form of s(t) = t, whose dual is rho itself."""

    def coefficients(count: int) -> Tensor:
        return (torch.arange(count) == 1).double()

    return DualForm(
        second_moment=1.0,
        mean=0.0,
        slope=1.0,
        dual=lambda rho: rho.clone(),
        derivative=torch.ones_like,
        general=lambda a, b, d: b + torch.zeros_like(a * d),
        coefficients=coefficients,
    )
