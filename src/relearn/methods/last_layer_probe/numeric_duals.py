"""Duals of any activation by quadrature: tanh, sigmoid, SiLU, softplus, ELU, your own.

Smooth s: the Hermite coefficients fall off fast; dual(cos theta) = sum_i a_i^2 cos(theta)^i with
the tail mass 1 - sum_i a_i^2 put on the last term, so that dual(1) = 1. Where that mass does not
vanish (kinks, jumps, steep functions) the double integral is taken at the Chebyshev angles,

    E[s(U) E[s(cos(theta) U + sin(theta) W)]],

both integrals on panels that end at the kinks, the outer ones finer towards kink and
kink / cos(theta), where the inner mean turns within a width tan(theta).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.polynomial import Chebyshev

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.angle_table import AngleDual, angle_dual, power_dual
from relearn.methods.last_layer_probe.dual_form import DualForm
from relearn.methods.last_layer_probe.hermite import hermite_polynomials
from relearn.methods.last_layer_probe.numeric_general import general_by_octaves
from relearn.methods.last_layer_probe.quadrature import (
    density,
    evaluate,
    panels,
    settled_reach,
    split_line,
)

if TYPE_CHECKING:
    from torch import Tensor

TERMS = 128  # Hermite coefficients tried first
SMALL = 1e-12  # tail mass, or last Chebyshev coefficients, that count as nothing
DEGREES = (64, 128, 256)  # of the Chebyshev series in the angle
WORST = 1e-5  # a dual less certain than this is refused


@dataclass(frozen=True)
class Integrand:
    """An activation as the quadrature sees it.

    Attributes:
        apply: s, elementwise.
        kinks: Where s or its derivative jumps.
        name: For messages.
        reach: Half the line that carries E s(g)^2.
    """

    apply: Callable[[Tensor], Tensor]
    kinks: tuple[float, ...]
    name: str
    reach: float

    def __call__(self, t: Tensor) -> Tensor:
        """Return s(t), float64.

        Args:
            t: Float64.
        """
        return evaluate(self.apply, t, self.name)


def hermite_coefficients(integrand: Integrand, count: int) -> Tensor:
    """Return E[s(g) h_i(g)] for i < count, not normalised, float64.

    Args:
        integrand: s.
        count: How many; the panels resolve h_i up to about 500.
    """
    line = split_line(integrand.kinks, integrand.reach, int(4 * integrand.reach))
    nodes, weights = panels(line)
    return hermite_polynomials(nodes, count) @ (weights * density(nodes) * integrand(nodes))


def numeric_form(
    apply: Callable[[Tensor], Tensor], *, name: str, kinks: tuple[float, ...] = ()
) -> DualForm:
    """Return moments and duals of any elementwise function.

    Args:
        apply: s, a function of floating tensors.
        name: For messages.
        kinks: Where s or its derivative jumps, in any order.

    Raises:
        ParameterError: s is not elementwise, is 0, has infinite variance, a kink that is not
            named, or a dual that no table can hold.
    """
    integrand = Integrand(apply, kinks, name, settled_reach(apply, kinks, name))
    nodes, weights = panels(split_line(kinks, integrand.reach, int(4 * integrand.reach)))
    values, mass = integrand(nodes), weights * density(nodes)
    moment = float((values * values * mass).sum())
    if not moment > 0:
        raise ParameterError(f"activation.{name}: is 0 everywhere, expected E s(g)^2 above 0")
    tables, error = _tables(integrand, moment)
    return DualForm(
        second_moment=moment,
        mean=float((values * mass).sum()),
        slope=tables.slope,
        dual=tables.dual,
        derivative=tables.derivative,
        general=_no_general(name) if any(tables.poles) else general_by_octaves(integrand),
        coefficients=lambda count: hermite_coefficients(integrand, count) / math.sqrt(moment),
        error=error,
    )


def _no_general(name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return a general form that says why there is none: the series in rho falls off too slowly."""

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        raise ParameterError(
            f"activation.{name}: jumps and has no closed form, got variances of shapes "
            f"{tuple(a.shape)}, {tuple(b.shape)}, {tuple(d.shape)}, expected inputs on the "
            "sphere: use `dual`"
        )

    return general


def _tables(integrand: Integrand, moment: float) -> tuple[AngleDual, float]:
    """Return the tables of the normalised dual, and its error."""
    squares = (hermite_coefficients(integrand, TERMS).square() / moment).numpy()
    tail = 1 - squares.sum()
    if abs(tail) < SMALL:
        squares[-1] += tail
        return power_dual(squares), 1e-11
    for degree in DEGREES:
        series = Chebyshev.interpolate(
            lambda x: np.array([_dual_at(integrand, float(t)) for t in x]) / moment,
            degree,
            [0, math.pi],
        )
        error = float(np.abs(series.coef[-6:]).max() + abs(series(0.0) - 1))
        if error < 1e-10:
            break
    if error > WORST:
        raise ParameterError(
            f"activation.{integrand.name}: its dual is certain to {error:.1g} only, expected "
            f"{WORST:g}; name every kink or jump in `kinks`, or take a less steep function"
        )
    return angle_dual(series.trim(SMALL / 10)), 100 * error + 1e-11


def _dual_at(integrand: Integrand, theta: float) -> float:
    """Return E[s(U) s(V)], not normalised, corr(U, V) = cos(theta), 0 < theta < pi."""
    nodes, weights = panels(_graded_line(integrand, theta))
    mass = weights * density(nodes)
    kept = mass > 1e-30
    nodes, mass = nodes[kept], mass[kept]
    return float((mass * integrand(nodes) * _inner_mean(integrand, nodes, theta)).sum())


def _graded_line(integrand: Integrand, theta: float) -> Tensor:
    """Return edges that halve towards each kink and its image, down to the width tan(theta)."""
    width = max(abs(math.tan(theta)), 1e-6)
    levels = max(0, math.ceil(-math.log2(width)) + 3)
    steps = [0.0, *(sign * 2.0**-level for level in range(levels) for sign in (1, -1))]
    images = [kink / math.cos(theta) for kink in integrand.kinks]
    cuts = [place + step for place in (*integrand.kinks, *images) for step in steps]
    return split_line(cuts, integrand.reach, int(2 * integrand.reach))


def _inner_mean(integrand: Integrand, u: Tensor, theta: float) -> Tensor:
    """Return E s(cos(theta) u + sin(theta) W) for each u, float64, shape (n,)."""
    cosine, sine = math.cos(theta), math.sin(theta)
    kinks = torch.tensor(sorted(integrand.kinks), dtype=torch.float64)
    cuts = (kinks - cosine * u.unsqueeze(1)) / sine
    ends = torch.full((len(u), 1), integrand.reach, dtype=torch.float64)
    edges = torch.cat([-ends, cuts.clamp(-integrand.reach, integrand.reach), ends], dim=1)
    nodes, weights = panels(edges, order=64)
    values = integrand(cosine * u.unsqueeze(1) + sine * nodes)
    return (values * weights * density(nodes)).sum(1)
