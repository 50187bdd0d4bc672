"""What every adversarial training step must do, whoever wrote it: the convolutions of the net.

A code that took no time for all else would be as fast as this, so that the ratio of the official
step to it bounds what can be reached on a processor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from adversarial_work import MEAN, STD, architecture, pictures
from torch import Tensor, nn

from relearn.data.batches import to_float
from relearn.models.checkpoint import build_fresh
from relearn.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from side_by_side import Repetition

PIXELS_ALONE, ALL = (True, False, False), (True, True, False)


class Product(NamedTuple):
    """One convolution with everything it reads, forwards and backwards.

    Attributes:
        layer: Its stride and padding.
        images: What goes in.
        weight: Its weight.
        gradient: Of what comes out.
    """

    layer: nn.Conv2d
    images: Tensor
    weight: Tensor
    gradient: Tensor

    def pass_through(self, wanted: tuple[bool, bool, bool]) -> None:
        """Make the products of one pass forwards and back.

        Args:
            wanted: Gradients of images, weight and bias.
        """
        stride, padding = list(self.layer.stride), list(self.layer.padding)
        torch.conv2d(self.images, self.weight, None, stride, padding)
        torch.ops.aten.convolution_backward(
            self.gradient, self.images, self.weight, None,
            stride, padding, [1, 1], False, [0, 0], 1, wanted,
        )  # fmt: skip


def step(*, batch_size: int, steps: int, precision: str) -> Repetition:
    """Prepare the products of one training step on a batch attacked with PGD.

    Args:
        batch_size: Images.
        steps: Gradients of the attack.
        precision: ``bf16`` or ``fp32``.
    """
    keep_freed_memory()
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    products = list(_products(batch_size, kind))

    @torch.no_grad()
    def repetition() -> float:
        for product in products:
            for _ in range(steps):
                product.pass_through(PIXELS_ALONE)
            product.pass_through(ALL)
        return 1.0

    return repetition


@torch.no_grad()
def _products(batch_size: int, kind: torch.dtype) -> Iterator[Product]:
    net = build_fresh(architecture(), seed=0)
    found: list[tuple[nn.Conv2d, Tensor, Tensor]] = []
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda own, x, y: found.append((own, x[0], y)))
    net(to_float(pictures(batch_size)[0], MEAN, STD))
    for layer, images, answer in found:
        placed = (
            each.detach().to(kind, memory_format=torch.channels_last)
            for each in (images, layer.weight, answer)
        )
        yield Product(layer, *placed)
