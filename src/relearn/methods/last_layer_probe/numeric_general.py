"""General variances by quadrature: E[s(U) s(V)] from the Hermite coefficients of s(sigma t).

With U = sigma X and V = tau Y, E[s(U) s(V)] = sum_k c_k(sigma) c_k(tau) rho^k where
c_k(sigma) = E[s(sigma g) h_k(g)]. The c_k are smooth in log sigma, so that they are computed at a
few Chebyshev nodes, between quarters of octaves, and interpolated, with gradients. What the kept
terms leave of E s(sigma g)^2 is put on two more powers of rho, one even and one odd, so that
sigma = tau is exact at rho = 1 and -1. Elsewhere the error is below that rest: about 1e-11 for
smooth s, 1e-5 with kinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.dual_form import correlation
from relearn.methods.last_layer_probe.hermite import hermite_polynomials
from relearn.methods.last_layer_probe.quadrature import density, panels

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.numeric_duals import Integrand

KEPT = 128  # powers of rho
QUARTERS = 4  # tables end at quarters of an octave of sigma


def general_by_octaves(integrand: Integrand) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return general(A, B, D) = E[s(U) s(V)] for an activation without a closed form.

    Args:
        integrand: s.
    """

    @cache
    def table(first: int, last: int) -> Tensor:
        low, high = first / QUARTERS, last / QUARTERS
        count = 16 + int(32 * (high - low))
        k = torch.arange(count, dtype=torch.float64)
        angles = math.pi * (2 * k + 1) / (2 * count)
        sigmas = torch.exp2(low + (high - low) * (angles.cos() + 1) / 2)
        transform = (angles.unsqueeze(0) * k.unsqueeze(1)).cos() * 2 / count
        transform[0] /= 2
        return transform @ torch.cat([_scaled(integrand, sigma) for sigma in sigmas.split(8)])

    def at(variance: Tensor) -> Tensor:
        filled = torch.where(variance > 0, variance, 1.0).double()
        quarter = filled.log2() / 2 * QUARTERS
        first = int(quarter.detach().min().floor())
        last = max(int(quarter.detach().max().ceil()), first + 1)
        x = (2 * (quarter - first) / (last - first) - 1).unsqueeze(-1)
        value = clenshaw(table(first, last), x)
        return torch.where(variance.unsqueeze(-1) > 0, value, _still(integrand)).to(variance)

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        rho, _ = correlation(a, b, d)
        left, right = at(a), at(d)
        result = left[..., -1] * right[..., -1]
        for k in range(KEPT, -1, -1):
            result = result * rho + left[..., k] * right[..., k]
        return result

    return general


def clenshaw(weights: Tensor, x: Tensor) -> Tensor:
    """Return sum_j weights[j] T_j(x), the Chebyshev polynomials T_j.

    Args:
        weights: Shape (count, columns), count at least 2.
        x: In [-1, 1], shape (..., 1).

    Returns:
        Shape (..., columns).
    """
    last, before = torch.zeros_like(weights[0] * x), torch.zeros_like(weights[0] * x)
    for row in weights[1:].flip(0):
        last, before = 2 * x * last - before + row, last
    return x * last - before + weights[0]


def _scaled(integrand: Integrand, sigma: Tensor) -> Tensor:
    """Return c_0 .. c_{KEPT-1} and the roots of the even and odd rest, shape (n, KEPT + 2)."""
    kinks = torch.tensor(sorted(integrand.kinks), dtype=torch.float64)
    reach = integrand.reach
    ends = torch.full((len(sigma), 1), reach, dtype=torch.float64)
    cuts = (kinks / sigma.unsqueeze(1)).clamp(-reach, reach)
    even = torch.linspace(-reach, reach, int(4 * reach) + 1, dtype=torch.float64)
    edges = torch.cat([ends * 0 + even, cuts], dim=1).sort(dim=1).values
    nodes, weights = panels(edges)
    mass = weights * density(nodes)
    values = integrand(sigma.unsqueeze(1) * nodes)
    kept = torch.einsum("kin,in->ik", hermite_polynomials(nodes, KEPT), mass * values)
    square = mass * values * values
    _settled(integrand, square, sigma)
    mirrored = mass * values * integrand(-sigma.unsqueeze(1) * nodes)
    rests = [
        ((square + sign * mirrored) / 2).sum(1) - kept[:, start::2].square().sum(1)
        for start, sign in ((0, 1), (1, -1))
    ]
    return torch.cat([kept, torch.stack(rests, dim=1).clamp_min(0).sqrt()], dim=1)


def _settled(integrand: Integrand, square: Tensor, sigma: Tensor) -> None:
    """Refuse variances whose second moment lies beyond the line or is infinite."""
    edge = torch.maximum(square[:, 0], square[:, -1])
    bad = ~(edge <= 1e-12 * square.sum(1))
    if bool(bad.any()):
        variance = float(sigma[bad].min()) ** 2
        raise ParameterError(
            f"activation.{integrand.name}: E s(U)^2 is infinite or out of reach at variance "
            f"{variance:.3g}, expected smaller pre-activations: put the inputs on the sphere"
        )


def _still(integrand: Integrand) -> Tensor:
    """Return the coefficients at variance 0, where s(U) is the constant s(0)."""
    value = integrand(torch.zeros(1, dtype=torch.float64))
    return torch.cat([value, torch.zeros(KEPT + 1, dtype=torch.float64)])
