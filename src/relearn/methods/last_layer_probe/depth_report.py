"""What a stack of layers does to inputs, told before anything is trained: curve, ranks, warnings.

The map of a layer and its fixed point stand in ``depth``. That a deep kernel degenerates follows
from Daniely, Frostig, Singer 2016, arXiv 1602.05897; the thresholds of the warnings are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.depth import (
    FixedPoint,
    correlation_curve,
    fixed_point,
    layers_of,
    rank_curve,
)

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.activations import Activation

SMALLEST_SPREAD = 0.1
SMALLEST_RANK = 0.01
SINGLE = 1e-5  # differences of correlations that float32 sums over a few hundred terms lose


@dataclass(frozen=True)
class DepthReport:
    """What a fully connected stack does to pairs of inputs.

    Attributes:
        activations: Names from the input up.
        beta: Bias share.
        rho0: Correlations of the pairs that are followed, increasing.
        curve: Their correlation after 0, 1, .. layers, ``curve[layer][pair]``.
        fixed: Where the stack, repeated for ever, takes them.
        spread: Difference between the first and last pair after the last layer.
        ranks: Effective rank of the inputs' centred kernel after 0, 1, .. layers, divided by their
            number; empty if no inputs were given.
        useful_depth: Layers after which the spread is still at least ``smallest_spread``.
        warnings: One sentence each; empty if nothing degenerates.
    """

    activations: tuple[str, ...]
    beta: float
    rho0: tuple[float, ...]
    curve: tuple[tuple[float, ...], ...]
    fixed: FixedPoint
    spread: float
    ranks: tuple[float, ...]
    useful_depth: int
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for a JSON file; an infinite slope becomes None."""
        told = asdict(self)
        if math.isinf(self.fixed.slope_at_one):
            told["fixed"]["slope_at_one"] = None
        return told


def depth_report(
    activation: Activation | Sequence[Activation],
    *,
    depth: int,
    beta: float = 0.0,
    rho0: Sequence[float] = (0.0, 0.5, 0.9),
    replicas: int | None = None,
    correlations: Tensor | None = None,
    smallest_spread: float = SMALLEST_SPREAD,
    smallest_rank: float = SMALLEST_RANK,
) -> DepthReport:
    """Return the correlation curve, the fixed point and the warnings of a fully connected stack.

    Args:
        activation: The same for all layers, or one per layer from the input up.
        depth: Number of layers; the length of the list if one is given.
        beta: Bias share, from 0 to 1.
        rho0: At least two correlations to follow, such as the 5 % and 95 % quantiles of the data.
        replicas: Width of a random network of this shape, or None for the kernel alone.
        correlations: Of the inputs themselves, shape (n, n), diagonal 1; None leaves out the ranks.
        smallest_spread: Warn where pairs differ by less than this after the last layer; ours.
        smallest_rank: Warn where the effective rank divided by n ends below this; ours.

    Raises:
        ParameterError: A value is out of range.
    """
    pairs = sorted(rho0)
    if len(pairs) < 2:
        raise ParameterError(f"rho0: got {list(rho0)}, expected at least two correlations")
    if replicas is not None and replicas < 1:
        raise ParameterError(f"replicas: got {replicas}, expected at least 1")
    layers = layers_of(activation, depth)
    curve = correlation_curve(layers, beta=beta, depth=depth, rho0=pairs)
    spreads = curve[:, -1] - curve[:, 0]
    useful = max(0, int((spreads >= smallest_spread).long().cumprod(0).sum()) - 1)
    fixed = fixed_point(layers if len(set(layers)) > 1 else layers[0], beta=beta)
    ranks = _relative_ranks(layers, correlations, beta)
    return DepthReport(
        activations=tuple(layer.name for layer in layers),
        beta=beta,
        rho0=tuple(pairs),
        curve=tuple(tuple(row) for row in curve.tolist()),
        fixed=fixed,
        spread=float(spreads[-1]),
        ranks=ranks,
        useful_depth=useful,
        warnings=(
            *_degenerates(fixed, curve[-1], useful, smallest_spread),
            *_drowns(float(spreads[-1]), replicas),
            *_narrows(ranks, smallest_rank),
        ),
    )


def _relative_ranks(
    layers: Sequence[Activation], correlations: Tensor | None, beta: float
) -> tuple[float, ...]:
    if correlations is None:
        return ()
    ranks = rank_curve(layers, correlations, beta=beta, depth=len(layers))
    return tuple(rank / len(correlations) for rank in ranks)


def _narrows(ranks: Sequence[float], smallest: float) -> list[str]:
    if not ranks or ranks[-1] >= smallest:
        return []
    return [
        f"the kernel's effective rank ends at {ranks[-1]:.3g} of the number of inputs (from "
        f"{ranks[0]:.3g}, expected at least {smallest:g}): few directions are left to a head"
    ]


def _degenerates(fixed: FixedPoint, last: Tensor, useful: int, smallest_spread: float) -> list[str]:
    spread, told = float(last[-1] - last[0]), []
    if spread < smallest_spread:
        whither = {
            "collapses to identity": f"all pairs go to {fixed.correlation:.3g} while the diagonal "
            "stays 1: the kernel turns into the identity and nothing generalises",
            "collapses to 1": "all pairs go to 1: all inputs look alike",
            "critical": "all pairs go to 1, slowly (like 1 / depth^2): all inputs look alike",
            "keeps": "the pairs were that close from the beginning",
        }[fixed.regime]
        told.append(
            f"after the last layer the pairs differ by {spread:.2g} only "
            f"(at least {smallest_spread:g} up to layer {useful}); {whither}"
        )
    if float(1 - last[-1]) < SINGLE:
        told.append("correlations are within 1e-5 of 1: use float64 and expect a singular kernel")
    return told


def _drowns(spread: float, replicas: int | None) -> list[str]:
    """Return the warning that the noise of a finite width is larger than what is left to see."""
    noise = 0.0 if replicas is None else 1 / math.sqrt(replicas)
    if spread >= noise:
        return []
    return [
        f"a random network of {replicas} replicas has noise of about {noise:.2g} in its "
        f"kernel (1 / sqrt(r), ours), more than the {spread:.2g} by which the pairs differ"
    ]
