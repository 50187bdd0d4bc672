"""Where a body can be read: after each of its layers or blocks, and where its last layer reads.

A tap point that bears the name of a unit (``relearn.models.layer_groups``) is what the next unit
reads, so that norm, activation and pool between the two are part of it wherever they are written,
as modules or as plain functions. Where the two units lie side by side, or nothing follows but the
last layer, it is the unit's own output. ``features`` is what the last layer reads. Any other
module can be named too: its tap point is its output.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isqrt, prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.errors import ParameterError, near_miss
from relearn.methods.last_layer_probe.bodies import frozen
from relearn.models.layer_groups import units_of

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.last_layer_probe.bodies import Body

FEATURES = "features"
"""The tap point at the last layer."""

WIDEST = 4096
"""Widest features unless more are asked for: a Gram matrix of 134 MB in float64 (our default)."""

_PARAMETER = "last_layer_probe.features.taps"


@dataclass(frozen=True)
class TapPoint:
    """One place where a body is read.

    Attributes:
        name: As it is asked for.
        module: Name of the module at which it is caught; empty is the net itself.
        side: ``input`` or ``output`` of that module.
        shape: Of one sample there, without the batch.
        pooling: What is done to it: ``none``, ``grid <g>`` (means of the map on g x g cells) or
            ``mean`` (over tokens or positions).
        width: Numbers a sample after pooling.
    """

    name: str
    module: str
    side: str
    shape: tuple[int, ...]
    pooling: str
    width: int

    def pooled(self, caught: Tensor) -> Tensor:
        """Return features of shape (batch, width).

        Args:
            caught: Shape (batch, ...), as ``shape`` says.
        """
        if self.pooling == "mean":
            # a map has its channels first, tokens have theirs last
            dims = 1 if caught.ndim == 3 else tuple(range(2, caught.ndim))
            return caught.mean(dims)
        if self.pooling != "none":
            side = int(self.pooling.removeprefix("grid "))
            caught = torch.nn.functional.adaptive_avg_pool2d(caught, side)
        return caught.flatten(1)


@dataclass(frozen=True)
class _Seen:
    """What one module took and gave when it was first called."""

    taken: Any
    given: Any


def tap_points(body: Body, example: Tensor, *, widest: int = WIDEST) -> tuple[TapPoint, ...]:
    """Return the tap points of a body, from the image to its last layer.

    Args:
        body: The net; it is run once and keeps every bit.
        example: Two or more images, as for ``Body.feed``.
        widest: Features that are wider are pooled, as far as one number a channel.

    Raises:
        HeadNotFoundError: The last layer is not found.
        ParameterError: The last layer is not reached, or ``widest`` is below 1.
    """
    head = body.head_name
    if head is None:
        return choose_taps(body, example, [FEATURES], widest=widest)
    order, seen = _watched(body, example)
    units = {unit.name for unit in units_of(body.net, head)} - {head}
    called = [name for name in order if name in units]
    last = _made(FEATURES, (head, "input"), seen, (len(example), widest))
    found = []
    for number, unit in enumerate(called):
        following = called[number + 1] if number + 1 < len(called) else None
        place = _place(unit, following, seen)
        if _caught(place, seen) is None:
            continue  # several tensors go out: no tap point by itself, and refused by name
        tap = _made(unit, place, seen, (len(example), widest))
        if following is not None or tap.shape != last.shape:
            found.append(tap)
    return (*found, last)


def choose_taps(
    body: Body, example: Tensor, names: Sequence[str], *, widest: int = WIDEST
) -> tuple[TapPoint, ...]:
    """Return the tap points of the given names, in the given order.

    Args:
        body: The net; it is run once and keeps every bit.
        example: As for ``tap_points``.
        names: Of units, ``features``, or of any other module that gives one tensor.
        widest: As for ``tap_points``.

    Raises:
        HeadNotFoundError: The last layer is not found.
        ParameterError: A tap point is not known, not reached, or gives no tensor of one row a
            sample.
    """
    head = body.head_name
    standing = {} if head is None else _by_name(tap_points(body, example, widest=widest))
    _, seen = _watched(body, example)
    modules = dict(body.net.named_modules())
    found = []
    for name in names:
        if name in standing:
            found.append(standing[name])
            continue
        if name != FEATURES and (not name or name not in modules):
            raise _unknown(name, standing, modules)
        place = ("", "output") if name == FEATURES else (name, "output")
        found.append(_made(name, place, seen, (len(example), widest)))
    return tuple(found)


def _by_name(taps: Sequence[TapPoint]) -> dict[str, TapPoint]:
    return {tap.name: tap for tap in taps}


def _watched(body: Body, example: Tensor) -> tuple[list[str], dict[str, _Seen]]:
    """Return the names of the modules in the order of their calls, and what they saw."""
    order: list[str] = []
    seen: dict[str, _Seen] = {}
    taken: dict[str, Any] = {}

    def before(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if name not in taken:
                order.append(name)
                taken[name] = inputs[0] if inputs else None

        return hook

    def after(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            seen.setdefault(name, _Seen(taken[name], output))

        return hook

    handles = []
    for name, module in body.net.named_modules():
        handles.append(module.register_forward_pre_hook(before(name)))
        handles.append(module.register_forward_hook(after(name)))
    try:
        with frozen(body):
            body.net(body.feed(example))
    finally:
        for handle in handles:
            handle.remove()
    return order, seen


def _place(unit: str, following: str | None, seen: Mapping[str, _Seen]) -> tuple[str, str]:
    """Return the module and side at which the tap point of a unit is caught."""
    if following is not None:
        read, own = seen[following].taken, seen[unit].taken
        if isinstance(read, Tensor) and read is not own:
            return following, "input"
    return unit, "output"


def _caught(place: tuple[str, str], seen: Mapping[str, _Seen]) -> Tensor | None:
    module, side = place
    value = getattr(seen[module], "taken" if side == "input" else "given")
    return value if isinstance(value, Tensor) else None


def _made(
    name: str, place: tuple[str, str], seen: Mapping[str, _Seen], sizes: tuple[int, int]
) -> TapPoint:
    """Return the tap point of a name, once it is known what is caught there."""
    batch, widest = sizes
    if widest < 1:
        raise ParameterError(f"last_layer_probe.features.widest: got {widest}, expected 1 or more")
    if place[0] not in seen:
        raise ParameterError(
            f"{_PARAMETER}: {name!r} is not reached in the forward pass; name another tap point"
        )
    caught = _caught(place, seen)
    rows = None if caught is None else tuple(caught.shape)
    if caught is None or caught.ndim < 2 or len(caught) != batch or not caught.is_floating_point():
        got = "no single tensor" if rows is None else f"shape {rows}"
        raise ParameterError(
            f"{_PARAMETER}: {name!r} gives {got} for {batch} images, expected one float row a "
            "sample; name another tap point"
        )
    shape = tuple(caught.shape[1:])
    pooling, width = _pooling(shape, widest)
    return TapPoint(name, *place, shape, pooling, width)


def _pooling(shape: tuple[int, ...], widest: int) -> tuple[str, int]:
    """Return the mildest pooling that keeps within ``widest``, and the width that it gives."""
    if len(shape) == 1 or prod(shape) <= widest:
        return "none", prod(shape)
    if len(shape) == 2:
        return "mean", shape[1]
    side = min(isqrt(widest // shape[0]), *shape[1:])
    if len(shape) != 3 or side < 2:
        return "mean", shape[0]
    return f"grid {side}", shape[0] * side * side


def _unknown(
    name: str, standing: Mapping[str, TapPoint], modules: Mapping[str, nn.Module]
) -> ParameterError:
    known = list(standing) or [FEATURES]
    every = dict.fromkeys([*known, *(module for module in modules if module)])
    shown = ", ".join(known if len(known) <= 9 else [*known[:4], "...", *known[-4:]])
    return ParameterError(
        f"{_PARAMETER}: {name!r} is no tap point,{near_miss(name, every)} expected one of {shown}, "
        "or a module of the net"
    )
