"""Any net of timm, imported only when one is named."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from relearn.errors import CheckpointError, ParameterError, near_miss
from relearn.models.config import TIMM

if TYPE_CHECKING:
    from torch import nn

    from relearn.models.architectures import Architecture


def build_timm(architecture: Architecture, *, pretrained: bool) -> nn.Module:
    """Return the net of timm that ``architecture.name`` (``timm:<name>``) means.

    Args:
        architecture: The net; images of another size or number of channels are adapted to by timm.
        pretrained: Whether timm's weights are fetched; the last layer is fresh unless it has as
            many classes.

    Raises:
        ParameterError: timm has no net of this name, or it cannot be made for these images.
        CheckpointError: The weights cannot be fetched.
    """
    import timm

    name = architecture.name.removeprefix(TIMM)
    if not timm.is_model(name):
        raise ParameterError(
            f"pretrain.model.name: timm has no net {name!r},{near_miss(name, timm.list_models())} "
            "see timm.list_models()"
        )
    settings: dict[str, Any] = {
        "in_chans": architecture.in_channels,
        "num_classes": architecture.classes,
        **architecture.options,
    }
    default = timm.get_pretrained_cfg(name)
    if default is not None and default.fixed_input_size:
        settings["img_size"] = architecture.image_size
    try:
        with _asking_only_if_reachable(pretrained):
            net: nn.Module = timm.create_model(name, pretrained=pretrained, **settings)
    except Exception as error:
        raise _fault(name, architecture.image_size, error, pretrained=pretrained) from error
    return net


@contextmanager
def _asking_only_if_reachable(asking: bool) -> Iterator[None]:
    """Let the hub look into its cache alone where its address is unknown: asking takes a minute."""
    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = was or (asking and not _is_known(constants.ENDPOINT))
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was


def _is_known(address: str) -> bool:
    """Return whether the name of a host can be looked up; behind a proxy that is not ours to do."""
    if getproxies():
        return True
    try:
        socket.getaddrinfo(urlsplit(address).hostname, None)
    except OSError:
        return False
    return True


def timm_normalisation(name: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Return the mean and deviation that timm's weights expect, for each channel.

    Args:
        name: ``timm:<name>``.
    """
    import timm

    told = timm.get_pretrained_cfg(name.removeprefix(TIMM))
    return (tuple(told.mean), tuple(told.std)) if told is not None else None


def _fault(name: str, image_size: int, error: Exception, *, pretrained: bool) -> Exception:
    """Return the one-line fault for what timm raised; offline shows as many kinds of error."""
    line = shorten(str(error).strip() or type(error).__name__, 100, placeholder=" ...")
    offline = isinstance(error, (OSError, RuntimeError)) and not isinstance(error, AssertionError)
    if pretrained and offline:
        return CheckpointError(
            f"pretrain.model.weights: the weights of timm:{name} could not be fetched ({line}); "
            "go online once, or use weights: file with weights_path, or weights: none"
        )
    return ParameterError(
        f"pretrain.model.name: timm:{name} cannot be made for images of {image_size} pixels "
        f"({line}); change data.image.size or the net"
    )
