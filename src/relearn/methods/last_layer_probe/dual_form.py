"""What is known of an activation s under the normal law: moments, dual, derivative dual, series.

With g, (X, Y), (U, V) centred normal, Var g = Var X = Var Y = 1, corr(X, Y) = rho:

    m = E s(g)^2,   a_i = E[s(g) h_i(g)] / sqrt(m),
    dual(rho) = E[s(X) s(Y)] / m = sum_i a_i^2 rho^i

with h_i the orthonormal Hermite polynomials, and general(A, B, D) = E[s(U) s(V)] for the covariance
[[A, B], [B, D]].

Daniely, Frostig, Singer, "Toward Deeper Understanding of Neural Networks: The Power of
Initialization and a Dual View on Expressivity", arXiv 1602.05897, section on dual activations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor


Entrywise = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class DualForm:
    """An activation's moments and duals, in closed form or by quadrature.

    Attributes:
        second_moment: m = E s(g)^2, above 0.
        mean: E s(g), not normalised.
        slope: The dual's derivative at 1, E s'(g)^2 / m; infinite where s jumps.
        dual: rho in [-1, 1] -> normalised dual, same shape.
        derivative: rho in [-1, 1] -> derivative of the normalised dual, same shape.
        general: (A, B, D), broadcastable -> E[s(U) s(V)], not normalised.
        coefficients: n -> a_0 .. a_{n-1}, float64 on the CPU, of the normalised activation.
        error: Largest absolute error of ``dual`` in float64, as far as known.
    """

    second_moment: float
    mean: float
    slope: float
    dual: Entrywise
    derivative: Entrywise
    general: Callable[[Tensor, Tensor, Tensor], Tensor]
    coefficients: Callable[[int], Tensor]
    error: float = 1e-12


class DualWithSlope(torch.autograd.Function):
    """The dual whose gradient is the derivative dual, so that rho = 1 and rho = -1 give no NaN.

    The formulas hold sqrt(1 - rho^2), whose own gradient is 0 * inf there. An entry whose incoming
    gradient is 0 gets 0, also where the derivative dual is infinite (step, sign).
    """

    @staticmethod
    def forward(ctx: Any, rho: Tensor, dual: Entrywise, derivative: Entrywise) -> Tensor:
        """Return the dual of ``rho``.

        Args:
            ctx: Autograd's memory.
            rho: In [-1, 1] but for rounding.
            dual: Its value.
            derivative: Its slope.
        """
        ctx.save_for_backward(rho)
        ctx.derivative = derivative
        return dual(rho.clamp(-1, 1))

    @staticmethod
    def backward(ctx: Any, *upstream: Any) -> Any:
        """Return upstream * derivative dual for ``rho`` and nothing for the two functions.

        Args:
            ctx: Autograd's memory.
            upstream: One gradient, shaped as rho.
        """
        (rho,) = ctx.saved_tensors
        gradient = upstream[0] * ctx.derivative(rho.clamp(-1, 1))
        return torch.where(upstream[0] == 0, torch.zeros_like(gradient), gradient), None, None


def correlation(a: Tensor, b: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Return rho = B / sqrt(A D), which rounding may push past 1, and sqrt(A D); 0 where A D = 0.

    Args:
        a: Variances A, at least 0.
        b: Covariances B.
        d: Variances D, at least 0.
    """
    empty = a * d == 0
    scale = torch.where(empty, 1.0, a * d).sqrt()  # no root of 0, whose gradient is infinite
    return torch.where(empty, 0.0, b / scale), torch.where(empty, 0.0, scale)
