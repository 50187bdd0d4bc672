"""What depth does to correlations, before anything is trained.

A fully connected layer with bias share beta maps the correlation rho of two inputs to
f(rho) = dual(beta + (1 - beta) rho). On [0, 1] f is increasing and convex with f(1) = 1, so that
the slope at 1, chi = (1 - beta) dual'(1), decides: chi <= 1 drives every pair to 1, chi > 1 drives
every pair to the fixed point alpha below 1. Either way a deep kernel has forgotten its inputs.

Daniely, Frostig, Singer 2016, arXiv 1602.05897 (Hermite series of duals, normalised networks);
Poole et al. 2016 and Schoenholz et al. 2017 for chi.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.optimize import brentq

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.scores import effective_rank

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.activations import Activation

SAME = 1e-5  # a slope this near 1 is critical: numeric duals with kinks know it to about 1e-6


@dataclass(frozen=True)
class FixedPoint:
    """Where correlations go with depth.

    Attributes:
        correlation: alpha, the smallest fixed point in [0, 1].
        slope_at_one: chi, the slope of the layer's map at 1, may be infinite.
        rate: The map's slope at alpha: each layer multiplies the distance to alpha by it.
        regime: ``collapses to 1``, ``collapses to identity`` (alpha off the diagonal, 1 on it),
            ``critical`` (to 1, but like 1 / depth^2) or ``keeps``.
    """

    correlation: float
    slope_at_one: float
    rate: float
    regime: str


def correlation_curve(
    activation: Activation | Sequence[Activation],
    *,
    beta: float,
    depth: int,
    rho0: float | Sequence[float],
) -> Tensor:
    """Return the correlations after 0 .. depth layers, float64, shape (depth + 1, pairs).

    Args:
        activation: The same for all layers, or one per layer from the input up.
        beta: Bias share, from 0 to 1.
        depth: Number of layers, at least 1; the length of the list if one is given.
        rho0: Correlations of the input pairs, in [-1, 1].

    Raises:
        ParameterError: A value is out of range.
    """
    layers = layers_of(activation, depth)
    check_share(beta)
    start = [rho0] if isinstance(rho0, (int, float)) else list(rho0)
    if not start or not all(-1 <= rho <= 1 for rho in start):
        raise ParameterError(f"rho0: got {start}, expected correlations from -1 to 1")
    rows = [torch.tensor(start, dtype=torch.float64)]
    for layer in layers:
        rows.append(layer.dual(beta + (1 - beta) * rows[-1]))
    return torch.stack(rows)


def fixed_point(activation: Activation | Sequence[Activation], *, beta: float = 0.0) -> FixedPoint:
    """Return where correlations go when the layer, or the whole list, is repeated for ever.

    Args:
        activation: One layer, or a list that is taken as one block.
        beta: Bias share, from 0 to 1.

    Raises:
        ParameterError: ``beta`` is out of range or the list is empty.
    """
    layers = [activation] if not isinstance(activation, Sequence) else list(activation)
    layers = layers_of(layers, len(layers))
    check_share(beta)
    chi = math.prod((1 - beta) * layer.slope for layer in layers) if beta < 1 else 0.0
    if _is_linear(layers) and beta == 0:
        return FixedPoint(1.0, chi, 1.0, "keeps")
    if abs(chi - 1) <= SAME:
        return FixedPoint(1.0, chi, 1.0, "critical")
    if chi < 1:
        return FixedPoint(1.0, chi, chi, "collapses to 1")
    alpha = _root_below_one(layers, beta)
    return FixedPoint(alpha, chi, _slope_at(layers, beta, alpha), "collapses to identity")


def rank_curve(
    activation: Activation | Sequence[Activation],
    correlations: Tensor,
    *,
    beta: float = 0.0,
    depth: int,
) -> list[float]:
    """Return the effective rank of the centred dual kernel after 0 .. depth layers.

    It falls towards 1 where inputs grow alike along few directions, and rises towards n - 1 where
    the kernel turns into the identity.

    Args:
        activation: The same for all layers, or one per layer from the input up.
        correlations: Of the inputs, shape (n, n), diagonal 1.
        beta: Bias share, from 0 to 1.
        depth: Number of layers, at least 1; the length of the list if one is given.

    Raises:
        ParameterError: ``beta`` or ``depth`` is out of range.
        DataError: The matrix is not square or holds NaN.
    """
    check_share(beta)
    kernel = correlations.detach().double()
    ranks = [effective_rank(kernel)]
    for layer in layers_of(activation, depth):
        kernel = layer.dual(beta + (1 - beta) * kernel)
        kernel.fill_diagonal_(1.0)
        ranks.append(effective_rank(kernel))
    return ranks


def layers_of(activation: Activation | Sequence[Activation], depth: int) -> list[Activation]:
    """Return one activation per layer.

    Args:
        activation: The same for all layers, or one per layer from the input up.
        depth: Number of layers.

    Raises:
        ParameterError: ``depth`` is below 1 or not the length of the list.
    """
    if depth < 1:
        raise ParameterError(f"depth: got {depth}, expected at least 1")
    if not isinstance(activation, Sequence):
        return [activation] * depth
    if len(activation) != depth:
        raise ParameterError(f"depth: got {depth} for a list of {len(activation)} activations")
    return list(activation)


def check_share(beta: float) -> None:
    """Refuse a bias share outside [0, 1].

    Raises:
        ParameterError: It is outside, or not a number.
    """
    if not 0 <= beta <= 1:
        raise ParameterError(f"beta: got {beta}, expected a bias share from 0 to 1")


def _is_linear(layers: Sequence[Activation]) -> bool:
    return all(float(layer.coefficients(2)[1]) ** 2 > 1 - SAME for layer in layers)


def _through(layers: Sequence[Activation], beta: float, rho: float) -> float:
    value = torch.tensor(rho, dtype=torch.float64)
    for layer in layers:
        value = layer.dual(beta + (1 - beta) * value)
    return float(value)


def _slope_at(layers: Sequence[Activation], beta: float, rho: float) -> float:
    value, slope = torch.tensor(rho, dtype=torch.float64), 1.0
    for layer in layers:
        inner = beta + (1 - beta) * value
        slope *= (1 - beta) * float(layer.derivative_dual(inner))
        value = layer.dual(inner)
    return slope


def _root_below_one(layers: Sequence[Activation], beta: float) -> float:
    """Return the fixed point below 1 of a convex map whose slope at 1 is above 1."""

    def excess(rho: float) -> float:
        return _through(layers, beta, rho) - rho

    if excess(0.0) <= 1e-12:
        return 0.0
    gap = 0.5
    while excess(1 - gap) >= 0 and gap > 1e-9:
        gap /= 2
    return float(brentq(excess, 0.0, 1 - gap, xtol=1e-12)) if gap > 1e-9 else 1.0
