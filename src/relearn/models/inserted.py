"""Modules that may be put into a net: each as its class and arguments in JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from relearn.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor


class GatedBlock(nn.Module):
    """x + f(x), with the last layer of f zero: the identity, in training mode too.

    Args:
        body: f.
        activation: After the sum, where the block follows an idempotent activation.
    """

    def __init__(self, body: nn.Sequential, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.activation = nn.Identity() if activation is None else activation

    def forward(self, x: Tensor) -> Tensor:
        """Return x + f(x), activated; the shape is kept."""
        result: Tensor = self.activation(x + self.body(x))
        return result


_CONVOLUTION = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
_NORM = ("num_features", "eps", "momentum", "affine", "track_running_stats")

_KINDS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "Hardtanh": (nn.Hardtanh, ("min_val", "max_val")),
    "GatedBlock": (GatedBlock, ()),
    **{kind.__name__: (kind, (*_CONVOLUTION, "groups")) for kind in (nn.Conv1d, nn.Conv2d)},
    "Conv3d": (nn.Conv3d, (*_CONVOLUTION, "groups")),
    "Linear": (nn.Linear, ("in_features", "out_features")),
    **{kind.__name__: (kind, _NORM) for kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)},
    "LayerNorm": (nn.LayerNorm, ("normalized_shape", "eps", "elementwise_affine")),
    "GroupNorm": (nn.GroupNorm, ("num_groups", "num_channels", "eps", "affine")),
    **{kind.__name__: (kind, ()) for kind in (nn.ReLU, nn.ReLU6, nn.Identity, nn.GELU, nn.SiLU)},
    "Sequential": (nn.Sequential, ()),
}
"""Name to class and the attributes that are its arguments."""

_WITH_BIAS = ("Conv1d", "Conv2d", "Conv3d", "Linear")


def described(module: nn.Module, path: str) -> dict[str, Any]:
    """Return class and arguments of a module, without its children.

    Args:
        module: A layer of torch, or a container.
        path: Its name in the net, for the message.

    Raises:
        CheckpointError: It is of another class.
    """
    name = type(module).__name__
    if name not in _KINDS or type(module) is not _KINDS[name][0]:
        raise CheckpointError(
            f"growth: {path} is a {name}, which cannot be described; expected one of "
            f"{', '.join(_KINDS)}"
        )
    arguments = {given: getattr(module, given) for given in _KINDS[name][1]}
    if name in _WITH_BIAS:
        arguments["bias"] = module.bias is not None
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in arguments.items()}
    return {"kind": name, "arguments": plain}


def made(told: Mapping[str, Any], path: str) -> nn.Module:
    """Return the module that ``described`` was given, with weights drawn by its class.

    Args:
        told: Class and arguments.
        path: Its name in the net, for the message.

    Raises:
        CheckpointError: The class is not known, or the arguments do not fit it.
    """
    try:
        kind, given = _KINDS[told["kind"]][0], told["arguments"]
        if kind is GatedBlock:  # its body and activation come as modules of their own
            return GatedBlock(nn.Sequential())
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"architecture.growth: {path} cannot be made ({error}); the file was written by "
            "another version"
        ) from error
