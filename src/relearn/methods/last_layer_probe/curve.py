"""A function of a correlation rho as polynomials in what it is smooth in, evaluated in place.

Duals of ReLU, erf, GELU and their compositions are smooth in acos(rho), so that one arc cosine and
a dozen products give any of them to within rounding; the dual of a jump composed with itself is
not. Between -1/2 and 1/2 they are smooth in rho, and above -1/4 in sqrt(1 - rho), which cost less
than the arc cosine: numbers that all lie there take the cheaper polynomial. Whether a polynomial
comes close is measured for each function.
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

DEGREES = (*range(1, 17), 20, 24, 28, 32)
CLOSE = {torch.float32: 5e-7, torch.float64: 5e-14}
"""Largest error of the polynomial, as evaluated in that precision."""
CHECKS = 1001


@dataclass(frozen=True)
class Variable:
    """A variable v of a polynomial, brought to z = scale (v - centre) around 0.

    Attributes:
        name: ``itself``: v = rho; ``root``: v = sqrt(1 - rho); ``angle``: v = acos(rho).
        least: Smallest rho.
        most: Largest rho.
        ends: v at the two, in rising order.
    """

    name: str
    least: float
    most: float
    ends: tuple[float, float]

    @property
    def centre(self) -> float:
        """Middle of v."""
        return sum(self.ends) / 2

    @property
    def reach(self) -> float:
        """Largest z: 1, or the largest rho where z is rho as it stands."""
        return self.ends[1] if self.name == "itself" else 1.0

    @property
    def scale(self) -> float:
        """Length of z's range over that of v's."""
        return 2 * self.reach / (self.ends[1] - self.ends[0])

    def rho_at(self, z: Tensor) -> Tensor:
        """Return the correlation at z.

        Args:
            z: From -reach to reach.
        """
        v = z / self.scale + self.centre
        return {"itself": lambda: v, "root": lambda: 1 - v.square(), "angle": v.cos}[self.name]()

    def z_of(self, rho: Tensor, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return z of correlations, written over them.

        Args:
            rho: Within the limits but for rounding.
            numbers: 1, and -scale * centre.
        """
        one, shift = numbers
        if self.name == "itself":
            return rho
        if self.name == "root":
            torch.add(one, rho, alpha=-1, out=rho).clamp_min_(0).sqrt_()
        else:
            rho.clamp_(-1, 1).acos_()
        return torch.add(shift, rho, alpha=self.scale, out=rho)


ANGLE = Variable("angle", -1.0, 1.0, (0.0, math.pi))
CHEAPER = (
    Variable("itself", -0.5, 0.5, (-0.5, 0.5)),
    Variable("root", -0.25, 1.0, (0.0, math.sqrt(1.25))),
)
"""In the order of their cost."""
BEYOND = 1e-5
"""By how much rounding may lead beyond 1."""


@dataclass(frozen=True)
class Polynomial:
    """kappa = sum_k c_k z^k.

    Attributes:
        variable: z.
        coefficients: c_0 first, float64.
    """

    variable: Variable
    coefficients: tuple[float, ...]

    def of(self, rho: Tensor, spare: Tensor) -> Tensor:
        """Return kappa of correlations, written over them.

        Args:
            rho: Within the variable's limits but for rounding.
            spare: Scratch of the same shape.
        """
        *numbers, one, shift = self._numbers(rho.dtype, rho.device)
        z = self.variable.z_of(rho, (one, shift))
        torch.add(numbers[1], z, alpha=self.coefficients[-1], out=spare)
        for number in numbers[2:-1]:
            torch.addcmul(number, spare, z, out=spare)
        if len(numbers) == 2:
            return rho.copy_(spare)
        return torch.addcmul(numbers[-1], spare, z, out=rho)

    @lru_cache(maxsize=8)  # noqa: B019 - curves are few and small, and are kept anyway
    def _numbers(self, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
        """Return the coefficients as tensors, the highest one first, and what ``z_of`` takes."""
        shift = -self.variable.scale * self.variable.centre
        listed = [*reversed(self.coefficients), 1.0, shift]
        return tuple(torch.tensor(each, dtype=dtype, device=device) for each in listed)


@dataclass(frozen=True)
class Curve:
    """kappa as a function of rho.

    Attributes:
        whole: Polynomial in the angle, for all correlations.
        parts: Cheaper ones for some, the cheapest first.
    """

    whole: Polynomial
    parts: tuple[Polynomial, ...] = ()

    def of(self, rho: Tensor, spare: Tensor) -> Tensor:
        """Return kappa of correlations, written over them.

        Args:
            rho: Any; clamped to [-1, 1].
            spare: Scratch of the same shape.
        """
        return self.chosen_for(rho).of(rho, spare)

    def chosen_for(self, rho: Tensor) -> Polynomial:
        """Return the cheapest polynomial that holds for all numbers; ``whole`` for NaN.

        Args:
            rho: Any.
        """
        if not self.parts or rho.numel() == 0:
            return self.whole
        low, high = (float(each) for each in rho.aminmax())
        for part in self.parts:
            limits = part.variable
            most = limits.most + (BEYOND if limits.most == 1 else 0)
            if limits.least <= low and high <= most:
                return part
        return self.whole


def fitted(exact: Callable[[Tensor], Tensor], *, dtype: torch.dtype) -> Curve | None:
    """Return the curve of a function, or None where no polynomial of low degree comes close.

    Args:
        exact: Correlations in float64 -> values, same shape.
        dtype: In which the curve is to be evaluated.
    """
    whole = _polynomial(exact, ANGLE, dtype)
    if whole is None:
        return None
    parts = (_polynomial(exact, variable, dtype) for variable in CHEAPER)
    return Curve(whole, tuple(part for part in parts if part is not None))


def _polynomial(
    exact: Callable[[Tensor], Tensor], variable: Variable, dtype: torch.dtype
) -> Polynomial | None:
    """Return the polynomial of the lowest degree that comes close, if there is one."""
    evenly = torch.linspace(-variable.reach, variable.reach, CHECKS, dtype=torch.float64)
    rho = variable.rho_at(evenly).to(dtype)
    checks = exact(rho.double())
    for degree in DEGREES:
        nodes = torch.from_numpy(chebyshev.chebpts1(degree + 1))
        values = exact(variable.rho_at(nodes * variable.reach))
        series = chebyshev.chebfit(nodes.numpy(), values.numpy(), degree)
        powers = enumerate(chebyshev.cheb2poly(series))
        found = Polynomial(variable, tuple(float(c) / variable.reach**k for k, c in powers))
        apart = found.of(rho.clone(), torch.empty_like(rho)).double() - checks
        if float(apart.abs().max()) <= CLOSE[dtype]:
            return found
    return None
