"""How much memory reading a body takes, said before it is read."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.methods.last_layer_probe.bodies import frozen

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.last_layer_probe.bodies import Body
    from relearn.methods.last_layer_probe.tap_points import TapPoint

_COPIES = 2
"""A chunk that is handed out and the next one may be there at once, and a function's own copy."""


def feature_bytes(taps: Sequence[TapPoint], count: int, dtype: torch.dtype = torch.float32) -> int:
    """Return the bytes that the features of ``count`` images take when all are kept.

    Args:
        taps: Where the body is read.
        count: Number of images.
        dtype: Of the features.
    """
    return count * sum(tap.width for tap in taps) * dtype.itemsize


def stream_bytes(body: Body, example: Tensor, taps: Sequence[TapPoint], *, batch: int) -> int:
    """Return the bytes that ``stream_features`` takes at most, whatever the number of images.

    Twice the images of one batch, what every module gives for them as if all of it were there at
    once, and their features: all float32. The stored images and what consumes the features are not
    in it.

    Args:
        body: The net; it is run once and keeps every bit.
        example: Two or more images, as for ``Body.feed``.
        taps: Where the body is read.
        batch: Images a pass.
    """
    given = 0

    def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal given
        if isinstance(output, Tensor):
            given += output.numel()

    handles = [module.register_forward_hook(count) for module in body.net.modules()]
    try:
        with frozen(body):
            body.net(body.feed(example))
    finally:
        for handle in handles:
            handle.remove()
    one = given // len(example) + prod(example.shape[1:])
    return _COPIES * (4 * batch * one + feature_bytes(taps, batch))
