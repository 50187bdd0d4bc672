"""How far a random body's empirical kernel is from its limit, and what the theorem asks for.

Daniely, Frostig, Singer, arXiv 1602.05897, theorems on replication, as remembered (their wording
and constants could not be checked, so that they are ours here): |k_w - kappa| <= eps for a pair of
inputs with probability 1 - delta if r >= c d^2 log(8 |S| / delta) / eps^2 for ReLU, c = 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from relearn.methods.last_layer_probe.described import skeleton_of
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.representation import Features

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.representation import Representation
    from relearn.methods.last_layer_probe.session import Session

TASK = "width_law"


def measure_error(session: Session, representation: Representation) -> None:
    """Write RMS and largest error of the empirical kernel, and the theorem's width beside it.

    Args:
        session: Of a random body.
        representation: Its features; kernels have no error of this kind.
    """
    if not isinstance(representation, Features):
        return
    told = session.config.width_law
    skeleton, norm = skeleton_of(session)
    rows = representation.parts["train"][: told.images].double()
    images = session.samples.train.images[: told.images].float() / 255
    limit = dual_kernel(skeleton, images, input_norm=norm, dtype=torch.float64)
    # a convolutional body has several features a replica, over which its kernel is a mean
    error = rows @ rows.T / session.arm.replicas - limit
    pairs = len(rows) * (len(rows) - 1) / 2
    error = error[torch.triu(torch.ones_like(error), 1) == 1]
    scale = float(limit.diagonal().mean())
    rms = float(error.square().mean().sqrt()) / scale
    wanted = _width_of_theorem(
        rms, depth=skeleton.depth, size=skeleton.size, delta=told.delta / max(1.0, pairs)
    )
    session.recorder.add(
        TASK,
        session.arm.replicas,
        {
            "rms": rms,
            "largest": float(error.abs().max()) / scale,
            "theorem_over_used": wanted / session.arm.replicas,
        },
    )


def _width_of_theorem(error: float, *, depth: int, size: int, delta: float) -> float:
    """Return depth^2 log(8 |S| / delta) / eps^2, as remembered, with constant 1.

    Args:
        error: eps that was measured.
        depth: Of the skeleton.
        size: |S|.
        delta: Probability of failure for one pair.
    """
    return depth**2 * math.log(8 * size / delta) / max(error, 1e-12) ** 2


def slope_of(widths: list[float], errors: list[float]) -> float:
    """Return the slope of log error against log width by least squares; -1/2 is predicted.

    Args:
        widths: Replicas r, two different ones at least.
        errors: RMS errors, above 0.
    """
    x = [math.log(width) for width in widths]
    y = [math.log(error) for error in errors]
    middle, level = sum(x) / len(x), sum(y) / len(y)
    above = sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True))
    return above / sum((a - middle) ** 2 for a in x)
