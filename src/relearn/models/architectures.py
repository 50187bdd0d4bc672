"""From the plain description of a net to the net itself, with weights freshly drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from relearn.errors import ParameterError, near_miss
from relearn.models.config import NAMES, TIMM
from relearn.models.convnet import ConvNet5, convnet3, convnet4
from relearn.models.grown import grow_net
from relearn.models.mlp import Mlp
from relearn.models.preact_resnet import PreactResNet
from relearn.models.vision_transformer import VisionTransformer

if TYPE_CHECKING:
    from torch import nn


_WITH_BATCH_NORM = ("convnet5", "preact_resnet")


@dataclass(frozen=True)
class Architecture:
    """All that is needed to make a net, but for its weights, and to feed it.

    Attributes:
        name: One of ``relearn.models.config.NAMES`` or ``timm:<name>``.
        in_channels: Colour channels of the images.
        image_size: Height = width of the images in pixels.
        classes: Number of logits.
        options: JSON options of the net, such as ``{"width": 32}``.
        mean: For each channel, what is taken off an image in the unit range 0 to 1.
        std: For each channel, what it is then divided by.
        growth: What a grown net has otherwise than its class makes it, growth after growth
            (``relearn.models.grown``); empty for all others.
    """

    name: str
    in_channels: int
    image_size: int
    classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    growth: tuple[Mapping[str, Any], ...] = ()

    def with_classes(self, classes: int) -> Architecture:
        """Return the same net with another number of logits.

        Args:
            classes: Number of logits, 1 or more.
        """
        return replace(self, classes=classes)

    @property
    def width(self) -> int:
        """Channels of a convnet, for the choice of precision; 0 for other nets."""
        return int(self.options.get("width", 0)) if self.name.startswith("convnet") else 0

    @property
    def batch_norm_width(self) -> int:
        """First channels of our nets with batch norm, for precision and layout; 0 for others."""
        return int(self.options.get("width", 0)) if self.name in _WITH_BATCH_NORM else 0


def build_fresh(architecture: Architecture, *, seed: int) -> nn.Module:
    """Return a net with freshly drawn weights, a function of (architecture, seed).

    The global state of the random numbers is as before.

    Args:
        architecture: The net.
        seed: Seed of the run; the draw has a door of its own.

    Raises:
        ParameterError: The net is not known, or the images do not fit it.
    """
    # as data.randomness.seed_of, which lies on a neighbouring floor
    door = hashlib.sha256(f"{seed}:initialisation".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(door[:8], "big") >> 1)
        return build_net(architecture)


def build_net(architecture: Architecture) -> nn.Module:
    """Return a net whose weights come from torch's global random numbers.

    Args:
        architecture: The net.

    Raises:
        ParameterError: The net is not known, an option is wrong, or the images do not fit it.
        CheckpointError: A growth does not belong to the net.
    """
    net = _as_made(architecture)
    grow_net(net, architecture.growth)
    return net


def _as_made(architecture: Architecture) -> nn.Module:
    """Return the net as its class makes it."""
    if architecture.name.startswith(TIMM):
        from relearn.models.timm_nets import build_timm

        return build_timm(architecture, pretrained=False)
    shape = {"in_channels": architecture.in_channels, "classes": architecture.classes}
    square = {**shape, "image_size": architecture.image_size}
    makers: dict[str, tuple[Any, dict[str, int]]] = {
        "convnet3": (convnet3, square),
        "convnet4": (convnet4, square),
        "convnet5": (ConvNet5, shape),
        "mlp": (Mlp, square),
        "preact_resnet": (PreactResNet, shape),
        "vision_transformer": (VisionTransformer, square),
    }
    if architecture.name not in makers:
        raise unknown_net(architecture.name)
    maker, given = makers[architecture.name]
    try:
        net: nn.Module = maker(**given, **architecture.options)
    except TypeError as error:
        raise ParameterError(
            f"pretrain.model.{architecture.name}: options {sorted(architecture.options)} do not "
            f"fit the net ({error})"
        ) from error
    return net


def unknown_net(name: str) -> ParameterError:
    """Return the error for a name that no net bears.

    Args:
        name: What was asked for.
    """
    return ParameterError(
        f"pretrain.model.name: {name!r} is not known,{near_miss(name, NAMES)} "
        f"expected one of {', '.join(NAMES)} or {TIMM}<name>"
    )
