"""Batch norm of an averaged model: statistics measured anew with the weights as they are."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from relearn.data.randomness import generator_of
from relearn.methods.forget_relearn.roll_back import weights_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from relearn.methods.forget_relearn.session import Session

_BATCH = 128


@torch.no_grad()
def recalibrate(session: Session, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with running statistics from one pass over training images.

    Half of the pass sees the images as they are, half sees them at random points of the ball, since
    a robust model meets both. A net without batch norm comes back as it was.

    Args:
        session: Images, ball and architecture.
        weights: Of a stable model; they are not changed.
    """
    model = copy.deepcopy(session.model).eval()
    model.load_state_dict(dict(weights))
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over the pass
        norm.train()
    if norms:
        net = session.as_pixels(model)
        noise = generator_of(session.seed, "forget_relearn.recalibrate")
        every = session.samples.train.images
        for images in every.tensor_split(math.ceil(len(every) / _BATCH)):  # of almost one size
            pixels = (images.float() / 255).to(session.device.name)
            net(pixels)
            net(session.ball.random_start(pixels, noise))
    return weights_of(model)
