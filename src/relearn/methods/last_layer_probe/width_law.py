"""How far a random body's empirical kernel is from its limit, and what the theorem asks for.

Daniely, Frostig, Singer, arXiv 1602.05897, theorems on replication, as remembered (their wording
and constants could not be checked, so that they are ours here): |k_w - kappa| <= eps for a pair of
inputs with probability 1 - delta if r >= c d^2 log(8 |S| / delta) / eps^2 for ReLU, c = 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from relearn.methods.last_layer_probe.described import (
    BodyDescription,
    described_random,
    drawn_body,
    skeleton_of,
)
from relearn.methods.last_layer_probe.image_parts import float_images
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.random_features import empirical_kernel
from relearn.methods.last_layer_probe.representation import Features

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.representation import Representation
    from relearn.methods.last_layer_probe.session import Session

TASK = "width_law"
_APART = 1_000_000


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
    images = float_images(session.samples.train.images[: told.images])
    limit = dual_kernel(skeleton, images, input_norm=norm, dtype=torch.float64)
    scale = float(limit.diagonal().mean())
    drawn = [representation.parts["train"][: told.images], *_further(session, images, told.draws)]
    # a convolutional body has several features a replica, over which its kernel is a mean
    replicas = int(described_random(session).options["replicas"])
    errors = torch.stack([_errors(rows, limit, replicas) for rows in drawn]) / scale
    rms = float(errors.square().mean().sqrt())
    wanted = _width_of_theorem(
        rms, depth=skeleton.depth, size=skeleton.size, delta=told.delta / errors.shape[1]
    )
    session.recorder.add(
        TASK,
        replicas,
        {
            "rms": rms,
            "largest": float(errors.abs().max()),
            "theorem_over_used": wanted / replicas,
        },
    )


def _further(session: Session, images: Tensor, draws: int) -> list[Tensor]:
    """Return the features of further bodies, drawn from seeds far from those of other pairs."""
    body = described_random(session)
    found = []
    for number in range(1, draws):
        options = {**body.options, "seed": session.seed + number * _APART}
        with torch.no_grad():
            net = drawn_body(BodyDescription(body.kind, options, body.shape))
            found.append(net.body(images))
    return found


def _errors(rows: Tensor, limit: Tensor, replicas: int) -> Tensor:
    """Return k_w - kappa for all pairs of different inputs, float64."""
    wide = rows.double()
    error = empirical_kernel(wide, wide, replicas=replicas) - limit
    above = torch.triu_indices(len(error), len(error), 1)
    return error[above[0], above[1]]


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
