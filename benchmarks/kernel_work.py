"""Our dual kernels at work, on the same inputs as ``kernel_official``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.skeleton import ConvLayer, Skeleton

if TYPE_CHECKING:
    from side_by_side import Repetition

    from relearn.methods.last_layer_probe.input_norm import InputNorm


def dense(*, inputs: int, dimension: int, depth: int, own: bool, check: bool) -> Repetition:
    """Prepare fully connected ReLU kernels of random inputs, which are normalised each time.

    Args:
        inputs: On each side.
        dimension: Of each.
        depth: Layers.
        own: The kernel of the inputs with themselves.
        check: Return a value of the kernel in place of the number of its entries.
    """
    x, y = _draw((2, inputs, dimension))
    skeleton = Skeleton.fully_connected(depth, activation_of("relu"))
    return _repetition(skeleton, x, None if own else y, norm="global", check=check)


def grid(*, inputs: int, side: int, depth: int, own: bool, check: bool) -> Repetition:
    """Prepare convolutional ReLU kernels of random images, 3x3, read flat.

    Args:
        inputs: On each side.
        side: Pixels along each side, one channel.
        depth: Layers.
        own: As in ``dense``.
        check: Likewise.
    """
    x, y = _draw((2, inputs, 1, side, side))
    layer = ConvLayer(window=3, activation=activation_of("relu"), padding="zeros")
    skeleton = Skeleton.convolutional([layer] * depth, (side, side))
    return _repetition(skeleton, x, None if own else y, norm="none", check=check)


def _draw(shape: tuple[int, ...]) -> torch.Tensor:
    drawn = np.random.default_rng(0).standard_normal(shape)
    return torch.from_numpy(drawn.astype(np.float32))


def _repetition(
    skeleton: Skeleton,
    x: torch.Tensor,
    y: torch.Tensor | None,
    *,
    norm: InputNorm,
    check: bool,
) -> Repetition:
    def repetition() -> float:
        found = dual_kernel(skeleton, x, y, input_norm=norm)
        return float(found[0, 1]) if check else float(found.numel())

    return repetition
