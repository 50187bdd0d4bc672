"""A body is a net whose last layer is looked past; frozen, no number of it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.batches import to_float
from relearn.errors import TrainingError
from relearn.models.heads import find_head
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.models.checkpoint import Architecture


@dataclass(frozen=True)
class Body:
    """A net, and how it is fed.

    Attributes:
        net: Any torch model of images.
        mean: For each channel, what is taken off an image in the unit range; not read for images
            that are float already.
        std: For each channel, what it is then divided by.
        head: Name of the last layer; empty finds it; None says that the net has none, so that its
            output is what a last layer would read.
    """

    net: nn.Module
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    head: str | None = ""

    @property
    def head_name(self) -> str | None:
        """Name of the last layer, None for a body without.

        Raises:
            HeadNotFoundError: As ``relearn.models.heads.find_head``.
        """
        return None if self.head is None else find_head(self.net, self.head).name

    @property
    def device(self) -> torch.device:
        """Where the net lies; the CPU for one without numbers."""
        first = next(self.net.parameters(), next(self.net.buffers(), torch.empty(0)))
        return first.device

    def feed(self, images: Tensor) -> Tensor:
        """Return images as the net takes them, on its device.

        Args:
            images: Shape (batch, channels, height, width); uint8 ones are normalised by ``mean``
                and ``std``, float ones are taken as they are.
        """
        placed = images.to(self.device)
        return placed if images.is_floating_point() else to_float(placed, self.mean, self.std)


def body_of(net: nn.Module, architecture: Architecture, head: str = "") -> Body:
    """Return a net of ours as a body.

    Args:
        net: The net.
        architecture: Its mean and std normalise the images.
        head: Name of the last layer; empty finds it.
    """
    return Body(net, architecture.mean, architecture.std, head)


def body_digest(body: Body) -> str:
    """Return the digest of every parameter and buffer but those of the last layer.

    Buffers that a state dict leaves out are taken in too.

    Args:
        body: The net in any mode.

    Raises:
        HeadNotFoundError: As ``relearn.models.heads.find_head``.
    """
    head = body.head_name
    below = () if head is None else (f"{head}." if head else "",)
    return digest_tensors({k: v for k, v in _numbers(body.net) if not k.startswith(below)})


@contextmanager
def frozen(body: Body) -> Iterator[None]:
    """Hold a body in evaluation mode without gradients, and see that it keeps every bit.

    Each module's own mode is given back afterwards, whatever happens inside.

    Args:
        body: The net.

    Raises:
        TrainingError: A parameter or buffer was changed inside the block.
    """
    net = body.net
    modes = {module: module.training for module in net.modules()}
    before = digest_tensors(dict(_numbers(net)))
    kept = {name: tensor._version for name, tensor in _numbers(net)}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
    if digest_tensors(dict(_numbers(net))) != before:
        raise TrainingError(
            f"last_layer_probe.features: the frozen body {type(net).__name__} was changed while it "
            f"was read ({_changed(net, kept)}); its forward pass must not write to its parameters "
            "or buffers in evaluation mode"
        )


def _numbers(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from net.named_parameters()
    yield from net.named_buffers()


def _changed(net: nn.Module, kept: dict[str, int]) -> str:
    names = [name for name, tensor in _numbers(net) if kept.get(name) != tensor._version]
    return ", ".join(names[:3]) or "a tensor was put in another's place"
