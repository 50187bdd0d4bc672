"""Expectations under the normal law by Gauss-Legendre on panels that no kink crosses.

Gauss-Hermite nodes know nothing of kinks: for the ReLU two hundred of them still miss the dual by
6e-4. Panels that end at each kink see an analytic function and are exact to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from relearn.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

ORDER = 16  # nodes of a panel
REACHES = (13.0, 26.0, 37.0)  # beyond 37 the normal density is below the smallest float64


@cache
def legendre(order: int = ORDER) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of Gauss-Legendre on [0, 1], float64, shape (order,).

    Args:
        order: Number of nodes.
    """
    nodes, weights = np.polynomial.legendre.leggauss(order)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def density(t: Tensor) -> Tensor:
    """Return exp(-t^2/2) / sqrt(2 pi).

    Args:
        t: Float.
    """
    return (-t * t / 2).exp() / math.sqrt(2 * math.pi)


def panels(edges: Tensor, order: int = ORDER) -> tuple[Tensor, Tensor]:
    """Return nodes and weights of the integral over the given neighbouring panels.

    Args:
        edges: Increasing along the last axis, float64, shape (..., panels + 1).
        order: Nodes of a panel.

    Returns:
        Two tensors of shape (..., panels * order).
    """
    nodes, weights = legendre(order)
    width = edges.diff(dim=-1).unsqueeze(-1)
    points = edges[..., :-1].unsqueeze(-1) + width * nodes
    return points.flatten(-2), (width * weights).flatten(-2)


def split_line(cuts: Sequence[float], reach: float, pieces: int) -> Tensor:
    """Return edges of panels from -reach to reach that contain every cut, float64, increasing.

    Args:
        cuts: Where the integrand is not smooth.
        reach: Half the length of the line.
        pieces: Number of equal panels before the cuts are added.
    """
    even = torch.linspace(-reach, reach, pieces + 1, dtype=torch.float64)
    inside = [cut for cut in cuts if -reach < cut < reach]
    edges: Tensor = torch.unique(torch.cat([even, torch.tensor(inside, dtype=torch.float64)]))
    return edges


def evaluate(apply: Callable[[Tensor], Tensor], t: Tensor, name: str) -> Tensor:
    """Return s(t) in float64, checked to be elementwise.

    Args:
        apply: s.
        t: Float64.
        name: For the message.

    Raises:
        ParameterError: The result is no floating tensor of the shape of t.
    """
    with torch.no_grad():
        value = apply(t)
    if not isinstance(value, torch.Tensor) or value.shape != t.shape:
        got = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ParameterError(
            f"activation.{name}: got {got} for a tensor of shape {tuple(t.shape)}, expected an "
            "elementwise function of tensors"
        )
    result: Tensor = value.double()
    return result


def settled_reach(apply: Callable[[Tensor], Tensor], kinks: Sequence[float], name: str) -> float:
    """Return how far the line must go for E s(g) and E s(g)^2 to be right to ten digits.

    Args:
        apply: s.
        kinks: Where s or its derivative jumps.
        name: For the message.

    Raises:
        ParameterError: They do not settle: infinite variance, or a kink that was not declared.
    """
    for near, far in pairwise(REACHES):
        # an odd number of panels, so that an undeclared kink falls inside one of another length
        first = _moments(apply, split_line(kinks, near, int(4 * near)), name)
        second = _moments(apply, split_line(kinks, far, int(6 * far) | 1), name)
        if bool(((first - second).abs() <= 1e-9 * second.abs() + 1e-13).all()):
            return near
    raise ParameterError(
        f"activation.{name}: E s(g)^2 does not settle (got {float(first[1]):.6g}, then "
        f"{float(second[1]):.6g} on a finer, longer line), expected finite variance under the "
        "normal law, every kink or jump named in `kinks` and no turn sharper than about 0.1"
    )


def _moments(apply: Callable[[Tensor], Tensor], edges: Tensor, name: str) -> Tensor:
    nodes, weights = panels(edges)
    value, mass = evaluate(apply, nodes, name), weights * density(nodes)
    return torch.stack([(value * mass).sum(), (value * value * mass).sum()])
