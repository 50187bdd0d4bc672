"""A function of a correlation rho as a polynomial in acos(rho), where it is smooth in that angle.

Duals of ReLU, erf, GELU and their compositions are; the dual of a jump composed with itself is not.
One arc cosine and a dozen products then give any of them to within rounding, in place. Whether they
do is measured for each function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from numpy.polynomial import chebyshev

if TYPE_CHECKING:
    from torch import Tensor

DEGREES = (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
CLOSE = {torch.float32: 5e-7, torch.float64: 5e-14}
"""Largest error of the polynomial, as evaluated in that precision."""
CHECKS = 1001


@dataclass(frozen=True)
class Curve:
    """kappa = sum_k c_k z^k with z = 2 acos(rho) / pi - 1.

    Attributes:
        coefficients: c_0 first, float64.
    """

    coefficients: tuple[float, ...]

    def of(self, rho: Tensor, spare: Tensor) -> Tensor:
        """Return kappa of correlations, written over them.

        Args:
            rho: Any; clamped to [-1, 1].
            spare: Scratch of the same shape.
        """
        numbers = self._numbers(rho.dtype, rho.device)
        z = torch.add(numbers[-1], rho.clamp_(-1, 1).acos_(), alpha=2 / math.pi, out=rho)
        torch.add(numbers[1], z, alpha=self.coefficients[-1], out=spare)
        for number in numbers[2:-2]:
            torch.addcmul(number, spare, z, out=spare)
        if len(numbers) == 3:
            return rho.copy_(spare)
        return torch.addcmul(numbers[-2], spare, z, out=rho)

    @lru_cache(maxsize=8)  # noqa: B019 - curves are few and small, and are kept anyway
    def _numbers(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        """Return the coefficients as tensors, the highest one first, and -1."""
        listed = [*reversed(self.coefficients), -1.0]
        return tuple(torch.tensor(each, dtype=dtype, device=device) for each in listed)


def fitted(exact: Callable[[Tensor], Tensor], *, dtype: torch.dtype) -> Curve | None:
    """Return the curve of a function, or None where no polynomial of low degree comes close.

    Args:
        exact: Correlations in float64 -> values, same shape.
        dtype: In which the curve is to be evaluated.
    """
    theta = torch.linspace(0, math.pi, CHECKS, dtype=torch.float64)
    rho = theta.cos().to(dtype)
    checks = exact(rho.double())
    for degree in DEGREES:
        nodes = torch.from_numpy(chebyshev.chebpts1(degree + 1))
        values = exact(((nodes + 1) * (math.pi / 2)).cos())
        series = chebyshev.chebfit(nodes.numpy(), values.numpy(), degree)
        curve = Curve(tuple(float(c) for c in chebyshev.cheb2poly(series)))
        found = curve.of(rho.clone(), torch.empty_like(rho))
        if float((found.double() - checks).abs().max()) <= CLOSE[dtype]:
            return curve
    return None
