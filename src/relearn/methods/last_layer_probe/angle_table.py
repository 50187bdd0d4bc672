"""A dual as a table over theta = acos(rho): any activation costs a gather and a few products.

Duals are smooth in theta even where they are not in rho: with a kink of s the dual has a term
theta^3, with a jump a term theta, both analytic on [0, pi]. float64 is interpolated with cubics
(error about 1e-14), float32 with lines (error about 1e-7, its rounding).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.polynomial import Chebyshev, Polynomial

if TYPE_CHECKING:
    from torch import Tensor

INTERVALS = 4096
JUMP = 1e-6  # a slope in theta at 0 or pi above this is a jump of s


@dataclass(frozen=True)
class AngleTable:
    """Values and theta-derivatives of a function on equally spaced angles from 0 to pi.

    Attributes:
        values: float64, shape (INTERVALS + 1,).
        slopes: float64, shape (INTERVALS + 1,).
    """

    values: Tensor
    slopes: Tensor

    def __call__(self, rho: Tensor) -> Tensor:
        """Return the interpolated function at acos(rho), shape and type as rho.

        Args:
            rho: In [-1, 1], float32 or float64.
        """
        place = rho.acos().mul_(INTERVALS / math.pi)
        index = place.floor().clamp_(0, INTERVALS - 1)
        x = place.sub_(index)
        index = index.long()
        values = self.values.to(rho)
        low, high = values[index], values[index + 1]
        if rho.dtype != torch.float64:
            return torch.lerp(low, high, x)
        slopes = (self.slopes * (math.pi / INTERVALS)).to(rho)
        rise, start, end = high - low, slopes[index], slopes[index + 1]
        # cubic with the two values and the two slopes of its interval
        bent = (2 * start + end - 3 * rise) - x * (start + end - 2 * rise)
        return low + x * (start - x * bent)


def tabulate(
    value: Callable[[np.ndarray], np.ndarray], slope: Callable[[np.ndarray], np.ndarray]
) -> AngleTable:
    """Return the table of a function of the angle.

    Args:
        value: theta, shape (n,) -> its values.
        slope: theta, shape (n,) -> its derivative by theta.
    """
    theta = np.linspace(0, math.pi, INTERVALS + 1)
    return AngleTable(torch.from_numpy(value(theta)), torch.from_numpy(slope(theta)))


@dataclass(frozen=True)
class AngleDual:
    """The tables of a normalised dual and of its derivative.

    Attributes:
        dual: The dual's table.
        weighted: Table of derivative dual times the weight that takes away its poles.
        poles: Whether the derivative dual is infinite at rho = 1, and at rho = -1.
        slope: The derivative dual at rho = 1, may be infinite.
    """

    dual: AngleTable
    weighted: AngleTable
    poles: tuple[bool, bool]
    slope: float

    def derivative(self, rho: Tensor) -> Tensor:
        """Return the derivative dual at rho, infinite at a pole.

        Args:
            rho: In [-1, 1].
        """
        value = self.weighted(rho)
        if self.poles[0]:
            value = value / ((1 - rho) / 2).clamp_min(0).sqrt()
        if self.poles[1]:
            value = value / ((1 + rho) / 2).clamp_min(0).sqrt()
        return value


def power_dual(squares: np.ndarray) -> AngleDual:
    """Return the tables of the dual sum_i squares[i] cos(theta)^i and of its derivative.

    Args:
        squares: a_i^2, sum 1, shape (n,).
    """
    dual = Polynomial(squares)
    first, second = dual.deriv(), dual.deriv(2)
    values = tabulate(lambda x: dual(np.cos(x)), lambda x: -np.sin(x) * first(np.cos(x)))
    slopes = tabulate(lambda x: first(np.cos(x)), lambda x: -np.sin(x) * second(np.cos(x)))
    return AngleDual(values, slopes, (False, False), float(first(1.0)))


def angle_dual(series: Chebyshev) -> AngleDual:
    """Return the tables of a dual F(theta) and of -F'(theta) / sin(theta), its derivative by rho.

    Where s jumps, F'(0) is not 0 and the derivative has a pole there; it is tabulated times
    sin(theta/2) (cos(theta/2) for a pole at pi), which is finite.

    Args:
        series: F on [0, pi], F(0) = 1.
    """
    first, second = series.deriv(), series.deriv(2)
    poles = (bool(-first(0.0) > JUMP), bool(abs(first(math.pi)) > JUMP))
    weighted = Chebyshev.interpolate(
        lambda theta: -first(theta) / _divisor(theta, poles), series.degree(), [0, math.pi]
    )
    dual = tabulate(series, first)
    dual.values[0] = 1.0
    slope = math.inf if poles[0] else float(-second(0.0))
    return AngleDual(dual, tabulate(weighted, weighted.deriv()), poles, slope)


def _divisor(theta: np.ndarray, poles: tuple[bool, bool]) -> np.ndarray:
    """Return sin(theta) without the factor whose zero is a pole: 2 sin(theta/2) cos(theta/2)."""
    result = np.full_like(theta, 2.0)
    if not poles[0]:
        result = result * np.sin(theta / 2)
    if not poles[1]:
        result = result * np.cos(theta / 2)
    return result
