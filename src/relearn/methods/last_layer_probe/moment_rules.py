"""What each torch function does to the second moment of the numbers that flow through a net.

A layer with centred Gaussian weights of variance 1 / (fan_in m), fed numbers of mean square m,
gives Gaussian numbers of mean square 1. From there the rules below follow the mean square through
activations (in closed form or by quadrature), norms, sums and reshapes. What no rule covers, such
as a max-pool or attention, is measured on the samples, and named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from relearn.methods.last_layer_probe.activations import Activation, activation_from, activation_of


@dataclass(frozen=True)
class Flow:
    """What is known of a tensor's numbers under a random draw of the weights.

    Attributes:
        moment: Mean square; None where only a measurement can tell.
        said: What gave it: ``input``, ``layer``, ``norm``, an activation, or a function of torch.
        source: ``theory``, ``closed form``, ``quadrature`` or ``measured``.
        gaussian: Whether its law is normal, so that an activation's moment is known.
        origin: Draws that it is linear in: it changes its sign with the weights of each of them.
        drift: Variance of the mean square over draws, at most: 9 / width for each layer since a
            norm or a measurement, which begin anew.
    """

    moment: float | None
    said: str
    source: str = "theory"
    gaussian: bool = False
    origin: frozenset[int] = frozenset()
    drift: float = 0.0


def unknown(said: str) -> Flow:
    """Return the flow of which only a measurement can tell the moment.

    Args:
        said: What gave it.
    """
    return Flow(None, said, "measured")


TRANSPARENT = {
    *("flatten", "view", "reshape", "permute", "transpose", "swapaxes", "movedim", "unsqueeze"),
    *("squeeze", "contiguous", "clone", "to", "expand", "getitem", "chunk", "split", "unbind"),
    *("unflatten", "channel_shuffle", "pixel_shuffle", "pixel_unshuffle", "roll", "flip", "float"),
    *("view_as", "reshape_as", "select", "narrow", "detach", "neg", "ravel", "swapdims", "mT"),
}
"""Functions that only put numbers elsewhere, or choose among equals."""

_NORMS = {"layer_norm": (2, 3), "group_norm": (2, 3), "instance_norm": (3, 4), "rms_norm": (2, 9)}
"""Functions that give mean square 1, to the places of their weight and bias."""

_NAMED = {
    **{"relu": "relu", "gelu": "gelu", "tanh": "tanh", "sigmoid": "sigmoid", "silu": "silu"},
    **{"abs": "abs", "absolute": "abs", "sin": "sin", "cos": "cos", "exp": "exp", "erf": "erf"},
    **{"square": "square", "sign": "sign", "softplus": "softplus", "elu": "elu"},
}
"""Functions that are activations of ours, as long as their settings are torch's own."""

_SETTINGS: dict[str, dict[str, Any]] = {
    "gelu": {"approximate": "none"},
    "elu": {"alpha": 1.0},
    "softplus": {"beta": 1.0, "threshold": 20.0},
    "leaky_relu": {"negative_slope": 0.01},
    "hardtanh": {"min_val": -1.0, "max_val": 1.0},
    "celu": {"alpha": 1.0},
}
"""What activations can be set to, in the order of their arguments, with torch's own values."""

_KINKS: dict[str, tuple[float, ...]] = {
    **{"relu6": (0.0, 6.0), "hardtanh": (), "hardswish": (-3.0, 3.0), "celu": (0.0,)},
    **{"hardsigmoid": (-3.0, 3.0), "selu": (0.0,), "elu": (0.0,), "leaky_relu": (0.0,)},
    **{"softsign": (0.0,), "mish": (), "logsigmoid": (), "softplus": (), "gelu": ()},
    **{"tanhshrink": (), "arctan": (), "atan": ()},
}
"""Activations taken by quadrature, to where they bend."""


def plain_name(function: Callable[..., Any]) -> str:
    """Return the name of a torch function without the underscores of its in-place or dunder form.

    Args:
        function: As a torch function mode is given it.
    """
    return str(getattr(function, "__name__", type(function).__name__)).strip("_")


def is_activation(name: str) -> bool:
    """Return whether a function is an elementwise nonlinearity whose moment is known.

    Args:
        name: As ``plain_name`` gives it.
    """
    return name in _NAMED or name in _KINKS


def after_activation(
    flow: Flow, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Flow:
    """Return the flow behind an activation: E s(sqrt(q) g)^2 for a normal input of moment q.

    Args:
        flow: Before it.
        function: The activation.
        args: Its positional arguments, the tensor first.
        kwargs: Its other arguments.
    """
    name = plain_name(function)
    if not flow.gaussian or flow.moment is None:
        return unknown(f"{name} of {flow.said}")
    activation = _activation(name, function, args[1:], kwargs)
    q = torch.tensor(flow.moment, dtype=torch.float64)
    moment = activation.second_moment
    if flow.moment != 1:
        moment = float(activation.general(q, q, q))
    source = "closed form" if activation.closed else "quadrature"
    return Flow(moment, name, source, drift=flow.drift)


def _activation(
    name: str, function: Callable[..., Any], rest: tuple[Any, ...], kwargs: dict[str, Any]
) -> Activation:
    usual = _SETTINGS.get(name, {})
    given = {**usual, **dict(zip(usual, rest, strict=False))}
    given |= {key: value for key, value in kwargs.items() if key in usual}
    if name == "leaky_relu":
        return activation_of(name, negative_slope=float(given["negative_slope"]))
    if name in _NAMED and given == usual:
        return activation_of(_NAMED[name])
    kinks = _KINKS.get(name, ())
    if name == "hardtanh":
        kinks = (float(given["min_val"]), float(given["max_val"]))
    return _by_quadrature(function, name, tuple(given.items()), kinks)


@lru_cache
def _by_quadrature(
    function: Callable[..., Any], name: str, given: tuple[tuple[str, Any], ...], kinks: Any
) -> Activation:
    """Return the activation of a torch function; it takes a second, and a net has many alike."""
    told = ", ".join(f"{key}={value}" for key, value in given)
    return activation_from(
        lambda t: function(t.clone(), **dict(given)), name=f"{name}({told})", kinks=kinks
    )


def after_sum(name: str, flows: tuple[Flow | None, Flow | None], same: bool) -> Flow:
    """Return the flow of a sum or difference of two tensors.

    The mean squares add up where one of them changes its sign with weights that the other knows
    nothing of, as the branch of a residual block does.

    Args:
        name: Of the function.
        flows: Of both; None for a number or a parameter.
        same: Whether both are one tensor.
    """
    first, second = flows
    if first is None or second is None or same:
        return unknown(name)
    apart = first.origin != second.origin and not first.origin & second.origin
    if first.moment is None or second.moment is None or not apart:
        return unknown(name)
    return Flow(
        first.moment + second.moment,
        "sum",
        gaussian=first.gaussian and second.gaussian,
        origin=first.origin | second.origin,
        drift=max(first.drift, second.drift),
    )


def after_scaling(flow: Flow, factor: float) -> Flow:
    """Return the flow of a tensor times a number.

    Args:
        flow: Before.
        factor: The number.
    """
    scaled = None if flow.moment is None else flow.moment * factor**2
    return replace(flow, moment=scaled)


def after_norm(name: str, flow: Flow, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Flow:
    """Return the flow behind a norm: 1, as long as its weights and biases are as torch makes them.

    Batch norm in evaluation mode with fresh statistics lets everything pass.

    Args:
        name: ``batch_norm``, ``layer_norm``, ``group_norm``, ``instance_norm`` or ``rms_norm``.
        flow: Before it.
        args: Its positional arguments, the tensor first.
        kwargs: Its other arguments.
    """
    if name == "batch_norm":
        names = ("running_mean", "running_var", "weight", "bias", "training")
        mean, var, weight, bias, training = (
            args[place + 1] if len(args) > place + 1 else kwargs.get(key)
            for place, key in enumerate(names)
        )
        if not _is(weight, 1) or not _is(bias, 0):
            return unknown("batch_norm with its own scale")
        if not training:
            fresh = _is(mean, 0) and _is(var, 1)
            return flow if fresh else unknown("batch_norm with running statistics")
        return replace(flow, moment=1.0, said="norm", source="theory", drift=0.0)
    places = dict(zip(("weight", "bias"), _NORMS[name], strict=True))
    weight, bias = (
        args[place] if len(args) > place else kwargs.get(key) for key, place in places.items()
    )
    if not _is(weight, 1) or not _is(bias, 0):
        return unknown(f"{name} with its own scale")
    return replace(flow, moment=1.0, said="norm", source="theory", drift=0.0)


def is_norm(name: str) -> bool:
    """Return whether a function is a norm that ``after_norm`` knows.

    Args:
        name: As ``plain_name`` gives it.
    """
    return name == "batch_norm" or name in _NORMS


def after_join(flows: Iterable[Flow | None], sizes: Iterable[int]) -> Flow:
    """Return the flow of tensors put side by side.

    Args:
        flows: Of each; None for a parameter.
        sizes: Numbers in each.
    """
    known, weights = list(flows), list(sizes)
    moments = [flow.moment for flow in known if flow is not None and flow.moment is not None]
    if len(moments) < len(known) or not moments:
        return unknown("cat")
    total = math.fsum(m * n for m, n in zip(moments, weights, strict=True)) / sum(weights)
    alike = len(set(moments)) == 1
    there = [flow for flow in known if flow is not None]
    drift = max(flow.drift for flow in there)
    return Flow(total, "cat", gaussian=alike and all(f.gaussian for f in there), drift=drift)


def _is(value: Any, number: float) -> bool:
    return value is None or (isinstance(value, Tensor) and bool((value == number).all()))


def mean_square(values: Tensor) -> float:
    """Return the mean square of all numbers, summed in float64.

    Args:
        values: Any shape.
    """
    norm = torch.linalg.vector_norm(values.detach(), dtype=torch.float64)
    return float(norm) ** 2 / max(1, values.numel())
