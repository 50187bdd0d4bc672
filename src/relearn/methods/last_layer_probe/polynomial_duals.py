"""Closed forms of polynomials given by their Hermite coefficients: the dual is a polynomial too.

For s = sum_k a_k h_k the sphere form is sum_k a_k^2 rho^k. For general variances the scaled
argument is expanded again, h_k(sqrt(A) t) = sum_j (...) h_{k-2j}(t), which gives

    E[s(U) s(V)] = sum_i c_i(A) c_i(D) B^i,
    c_i(A) = sum_j a_{i+2j} sqrt((i+2j)! / i!) / (2^j j!) (A - 1)^j.

Daniely et al. 2016, section on dual activations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from relearn.methods.last_layer_probe.dual_form import DualForm

if TYPE_CHECKING:
    from torch import Tensor


def horner(weights: Sequence[float], x: Tensor) -> Tensor:
    """Return sum_i weights[i] x^i, shaped as x.

    Args:
        weights: From the constant upwards, at least one.
        x: Float.
    """
    result = torch.full_like(x, weights[-1])
    for weight in weights[-2::-1]:
        result = result * x + weight
    return result


def hermite_series(coefficients: Sequence[float]) -> DualForm:
    """Return the form of sum_k coefficients[k] h_k(t), h_k the orthonormal Hermite polynomials.

    Args:
        coefficients: Finite, not all 0.
    """
    moment = math.fsum(value**2 for value in coefficients)
    squares = [value**2 / moment for value in coefficients]
    slopes = [k * value for k, value in enumerate(squares)][1:] or [0.0]

    def expanded(variance: Tensor, i: int) -> Tensor:
        weights = [
            a * math.sqrt(math.perm(i + 2 * j, 2 * j)) / (2**j * math.factorial(j))
            for j, a in enumerate(coefficients[i::2])
        ]
        return horner(weights, variance - 1)

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        terms = (expanded(a, i) * expanded(d, i) * b**i for i in range(len(coefficients)))
        return torch.stack([*torch.broadcast_tensors(*terms)]).sum(0)

    def normalised(count: int) -> Tensor:
        known = torch.tensor(coefficients, dtype=torch.float64)[:count] / math.sqrt(moment)
        return torch.nn.functional.pad(known, (0, count - len(known)))

    return DualForm(
        second_moment=moment,
        mean=float(coefficients[0]),
        slope=math.fsum(slopes),
        dual=lambda rho: horner(squares, rho),
        derivative=lambda rho: horner(slopes, rho),
        general=general,
        coefficients=normalised,
    )
