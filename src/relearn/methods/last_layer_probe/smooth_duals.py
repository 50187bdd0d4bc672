"""Closed forms of smooth activations: exponential, erf, waves, Gaussian, GELU.

Each general form E[s(U) s(V)], Cov(U, V) = [[A, B], [B, D]], follows from a Gaussian integral; the
sphere form is the one at A = D = 1, divided by m = E s(g)^2, written so that nothing overflows.

Daniely et al. 2016 (exponential, sine, Hermite); Williams 1997 (erf); Rahimi and Recht 2007 (random
Fourier). The general form of GELU agrees with the one in neural-tangents.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from relearn.methods.last_layer_probe.dual_form import DualForm

if TYPE_CHECKING:
    from torch import Tensor


def _powers_over_root_factorial(scale: float, count: int) -> Tensor:
    """Return exp(-scale^2/2) scale^i / sqrt(i!), i < count: coefficients of exponentials."""
    i = torch.arange(count, dtype=torch.float64)
    return (i * math.log(scale) - torch.lgamma(i + 1) / 2 - scale**2 / 2).exp()


def exponential(scale: float) -> DualForm:
    """Return the form of exp(scale t); normalised it is exp(scale t - scale^2).

    Args:
        scale: Above 0.
    """
    square = scale**2

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        return (square * ((a + d) / 2 + b)).exp()

    return DualForm(
        second_moment=math.exp(2 * square),
        mean=math.exp(square / 2),
        slope=square,
        dual=lambda rho: (square * (rho - 1)).exp(),
        derivative=lambda rho: square * (square * (rho - 1)).exp(),
        general=general,
        coefficients=lambda count: _powers_over_root_factorial(scale, count),
    )


def wave(scale: float, *, odd: bool) -> DualForm:
    """Return the form of sin(scale t) or cos(scale t).

    Args:
        scale: Above 0.
        odd: Sine if true, cosine if false.
    """
    square, sign = scale**2, -1.0 if odd else 1.0
    rest = 1 + sign * math.exp(-2 * square)

    def halves(rho: Tensor) -> tuple[Tensor, Tensor]:
        return (square * (rho - 1)).exp() / rest, (-square * (rho + 1)).exp() / rest

    def dual(rho: Tensor) -> Tensor:
        rising, falling = halves(rho)
        return rising + sign * falling

    def derivative(rho: Tensor) -> Tensor:
        rising, falling = halves(rho)
        return square * (rising - sign * falling)

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        middle = (a + d) / 2
        return ((square * (b - middle)).exp() + sign * (-square * (b + middle)).exp()) / 2

    def coefficients(count: int) -> Tensor:
        i = torch.arange(count)
        signs = torch.where((i // 2) % 2 == 0, 1.0, -1.0) * (i % 2 == int(odd))
        return signs * _powers_over_root_factorial(scale, count) * math.sqrt(2 / rest)

    return DualForm(
        second_moment=rest / 2,
        mean=0.0 if odd else math.exp(-square / 2),
        slope=square * (1 - sign * math.exp(-2 * square)) / rest,
        dual=dual,
        derivative=derivative,
        general=general,
        coefficients=coefficients,
    )


def fourier(scale: float) -> DualForm:
    """Return the form of cos(scale t + phase), phase uniform or -pi/4: the Gaussian kernel.

    E[cos(x + p) cos(y + p)] = (E cos(x - y) + E cos(x + y + 2p)) / 2; the second term is 0 for a
    uniform phase, and, x + y being symmetric, for p = -pi/4 too.

    Args:
        scale: Above 0.
    """
    square = scale**2

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        return (square * (b - (a + d) / 2)).exp() / 2

    def coefficients(count: int) -> Tensor:
        i = torch.arange(count)
        return torch.where((i // 2) % 2 == 0, 1, -1) * _powers_over_root_factorial(scale, count)

    return DualForm(
        second_moment=0.5,
        mean=math.exp(-square / 2) / math.sqrt(2),
        slope=square,
        dual=lambda rho: (square * (rho - 1)).exp(),
        derivative=lambda rho: square * (square * (rho - 1)).exp(),
        general=general,
        coefficients=coefficients,
    )


def bell_coefficients(decay: float, count: int) -> Tensor:
    """Return E[exp(-decay g^2) h_i(g)] for i < count, not normalised, float64.

    E[exp(-c g^2) He_2k(g)] = (2k)!/k! (-c/(1+2c))^k / sqrt(1+2c), from the generating function.

    Args:
        decay: c above 0.
        count: How many, at least 0.
    """
    i = torch.arange(count, dtype=torch.float64)
    half = (i / 2).floor()
    size = (
        torch.lgamma(i + 1) / 2 - torch.lgamma(half + 1) + half * math.log(decay / (1 + 2 * decay))
    )
    signs = torch.where(half % 2 == 0, 1.0, -1.0) * (i % 2 == 0)
    return signs * size.exp() / math.sqrt(1 + 2 * decay)


def bell(decay: float) -> DualForm:
    """Return the form of exp(-decay t^2).

    Args:
        decay: Above 0.
    """
    outer, inner = (1 + 2 * decay) ** 2, 4 * decay**2
    root = math.sqrt(1 + 4 * decay)  # sqrt(outer - inner)

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        return ((1 + 2 * decay * a) * (1 + 2 * decay * d) - inner * b * b).rsqrt()

    return DualForm(
        second_moment=1 / root,
        mean=1 / math.sqrt(1 + 2 * decay),
        slope=inner / root**2,
        dual=lambda rho: root * (outer - inner * rho * rho).rsqrt(),
        derivative=lambda rho: root * inner * rho * (outer - inner * rho * rho).pow(-1.5),
        general=general,
        coefficients=lambda count: bell_coefficients(decay, count) * math.sqrt(root),
    )


def error_function(scale: float) -> DualForm:
    """Return the form of erf(scale t).

    Args:
        scale: Above 0.
    """
    share = 2 * scale**2 / (1 + 2 * scale**2)
    moment = 2 / math.pi * math.asin(share)
    front = 2 / (math.pi * moment)

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        double = 2 * scale**2
        return 2 / math.pi * (double * b * ((1 + double * a) * (1 + double * d)).rsqrt()).asin()

    def coefficients(count: int) -> Tensor:
        i = torch.arange(1, max(count, 1), dtype=torch.float64)
        slopes = 2 * scale / math.sqrt(math.pi) * bell_coefficients(scale**2, len(i))
        return torch.cat([torch.zeros(1), slopes / i.sqrt()])[:count] / math.sqrt(moment)

    return DualForm(
        second_moment=moment,
        mean=0.0,
        slope=front * share / math.sqrt(1 - share**2),
        dual=lambda rho: front * (share * rho).asin(),
        derivative=lambda rho: front * share * (1 - (share * rho) ** 2).rsqrt(),
        general=general,
        coefficients=coefficients,
    )


def _gelu_coefficients(count: int) -> Tensor:
    """Return E[g Phi(g) h_i(g)]; from i = 2 on by parts twice: s'' = (2 - t^2) phi(t)."""
    length = max(count, 2)
    density = bell_coefficients(0.5, length + 2) / math.sqrt(2 * math.pi)
    result = torch.empty(length, dtype=torch.float64)
    result[0], result[1] = 0.5 / math.sqrt(math.pi), 0.5
    n = torch.arange(length - 2, dtype=torch.float64)
    lower = torch.cat([torch.zeros(2), density])[: len(n)]
    # t^2 h_n = sqrt((n+1)(n+2)) h_{n+2} + (2n+1) h_n + sqrt(n(n-1)) h_{n-2}
    square = ((n + 1) * (n + 2)).sqrt() * density[2 : len(n) + 2]
    square += (2 * n + 1) * density[: len(n)] + (n * (n - 1)).clamp_min(0).sqrt() * lower
    result[2:] = (2 * density[: len(n)] - square) / ((n + 1) * (n + 2)).sqrt()
    return result[:count]


def gelu() -> DualForm:
    """Return the form of the exact GELU, t Phi(t)."""
    third = math.sqrt(3)
    moment = 0.25 + (math.pi / 6 + 1 / third) / (2 * math.pi)

    def dual(rho: Tensor) -> Tensor:
        root = (4 - rho * rho).rsqrt()
        return (rho / 4 + (rho * (rho / 2).asin() + root) / (2 * math.pi)) / moment

    def derivative(rho: Tensor) -> Tensor:
        root = (4 - rho * rho).rsqrt()
        bent = (rho / 2).asin() + rho * root + rho * root**3
        return (0.25 + bent / (2 * math.pi)) / moment

    def general(a: Tensor, b: Tensor, d: Tensor) -> Tensor:
        product, outer = a * d, (1 + a) * (1 + d)
        root = (outer - b * b).sqrt()
        bent = b * torch.atan2(b, root) + (b * b + product * root * root) / (outer * root)
        return b / 4 + bent / (2 * math.pi)

    return DualForm(
        second_moment=moment,
        mean=0.5 / math.sqrt(math.pi),
        slope=(0.25 + (math.pi / 6 + 4 / (3 * third)) / (2 * math.pi)) / moment,
        dual=dual,
        derivative=derivative,
        general=general,
        coefficients=lambda count: _gelu_coefficients(count) / math.sqrt(moment),
    )
