"""Layers that can be put in without changing a function: identities and zero-gated blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from relearn.models.inserted import GatedBlock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IDEMPOTENT = ("relu", "relu6", "hardtanh")
"""Activations f with f(f(x)) = f(x)."""

_BITS = 12


def activation_of(made_by: Sequence[Any] | None) -> nn.Module | None:
    """Return the idempotent activation that made an output; None if it was something else.

    Args:
        made_by: Name of the operation and its bounds.
    """
    if made_by is None or made_by[0] not in IDEMPOTENT:
        return None
    name, low, high = made_by
    if name == "relu":
        return nn.ReLU()
    return nn.ReLU6() if name == "relu6" else nn.Hardtanh(low, high)


def residual_block(entry: Mapping[str, Any], kind: torch.dtype) -> GatedBlock:
    """Return a block of convolutions or linear layers for an activation's width.

    Args:
        entry: ``channels``, ``ndim`` and ``axis`` of the activation, ``kernel``, ``norm``, and
            ``made_by``: what the block follows.
        kind: Precision of its parameters.

    References:
        He et al. 2016 for the block; zero last layers as in Goyal et al. 2017, section 5.1.
    """
    channels = entry["channels"]
    layers: list[nn.Module]
    if entry["axis"] == 1 and entry["ndim"] > 2:
        convolution, norm = _LAYERS[entry["ndim"] - 2]
        size, pad = entry["kernel"], entry["kernel"] // 2
        bias = not entry["norm"]
        layers = [convolution(channels, channels, size, padding=pad, bias=bias)]
        layers += [norm(channels)] if entry["norm"] else []
        layers += [nn.ReLU(), convolution(channels, channels, size, padding=pad, bias=bias)]
        layers += [norm(channels)] if entry["norm"] else []
    else:
        layers = [nn.LayerNorm(channels)] if entry["norm"] else []
        layers += [nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels)]
    for parameter in layers[-1].parameters():
        nn.init.zeros_(parameter)
    return GatedBlock(nn.Sequential(*layers), activation_of(entry["made_by"])).to(kind)


_LAYERS: dict[int, tuple[Any, Any]] = {
    1: (nn.Conv1d, nn.BatchNorm1d),
    2: (nn.Conv2d, nn.BatchNorm2d),
    3: (nn.Conv3d, nn.BatchNorm3d),
}


def identity_layer(entry: Mapping[str, Any], kind: torch.dtype) -> nn.Sequential:
    """Return a layer that hands its input on, followed by the activation it stands behind.

    Batch norm, if asked for, is (mean 0, variance 1, eps 2^-17) until it is calibrated.

    Args:
        entry: As for ``residual_block``.
        kind: Precision of its parameters.

    References:
        Net2Net, section 3.2.
    """
    channels = entry["channels"]
    layers: list[nn.Module]
    if entry["axis"] == 1 and entry["ndim"] > 2:
        convolution, norm = _LAYERS[entry["ndim"] - 2]
        pad = entry["kernel"] // 2
        layer = convolution(
            channels, channels, entry["kernel"], padding=pad, bias=not entry["norm"]
        )
        nn.init.dirac_(layer.weight)
        layers = [layer, norm(channels)] if entry["norm"] else [layer]
    else:
        layer = nn.Linear(channels, channels, bias=not entry["norm"])
        nn.init.eye_(layer.weight)
        layers = [layer, nn.BatchNorm1d(channels)] if entry["norm"] else [layer]
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    activation = activation_of(entry["made_by"])
    return nn.Sequential(*layers, *([] if activation is None else [activation])).to(kind)


def norm_of(layer: nn.Module) -> Any:
    """Return the batch norm of a layer that has one."""
    return next(m for m in layer.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))


def calibrate(norm: Any, seen: Tensor) -> dict[str, Any]:
    """Set a batch norm to the identity, with statistics near those of a batch, in place.

    gamma = sqrt(variance + eps) and beta = mean undo the normalisation. A gamma of few binary
    digits, whose square less eps is the variance, makes that exact and not rounded.

    Args:
        norm: Batch norm.
        seen: What comes in, shape (batch, channels, ...).

    Returns:
        ``eps``, ``mean`` and ``gain`` of each channel: what ``settle`` needs to do the same again.
    """
    values = seen.detach().double().movedim(1, 0).flatten(1)
    gain = _short(values.var(1, unbiased=False).sqrt().clamp(min=2**-8))
    largest = math.frexp(float(gain.max()))[1] - 1
    eps = 2.0 ** max(-17, 2 * largest - 22)
    gain = _short(gain.clamp(min=2 * math.sqrt(eps)))
    told = {"eps": eps, "mean": values.mean(1).float().tolist(), "gain": gain.tolist()}
    settle(norm, told)
    return told


def settle(norm: Any, told: Mapping[str, Any]) -> None:
    """Set a batch norm to the identity with the numbers of an earlier calibration, in place.

    Args:
        norm: Batch norm.
        told: From ``calibrate``.
    """
    gain, mean = (torch.tensor(told[name], dtype=torch.float64) for name in ("gain", "mean"))
    norm.eps = told["eps"]
    with torch.no_grad():
        norm.weight.copy_(gain)
        norm.bias.copy_(mean)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(gain.square() - norm.eps)


def _short(values: Tensor) -> Tensor:
    """Return values rounded to few binary digits, so that squares are exact in float32."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 2**_BITS).round() / 2**_BITS, exponent)
