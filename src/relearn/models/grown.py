"""A net that was made wider or deeper than its class makes it: the difference as JSON, and back.

A grown net is its architecture and what differs from it: attributes of modules (such as
``out_channels``), shapes of tensors, and modules put in. With that, any floor makes the net again
from a checkpoint, and no module is ever pickled. Who grew it, how and why stands in the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from relearn.errors import CheckpointError
from relearn.models.inserted import described, made

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.models.architectures import Architecture

_PLAIN = (bool, int, float, str)


def with_growth(architecture: Architecture, before: nn.Module, after: nn.Module) -> Architecture:
    """Return the architecture from which a net like ``after`` is made.

    Args:
        architecture: From which ``before`` is made, grown itself or not.
        before: The net as its architecture makes it.
        after: The same net, grown; tensors and modules keep their names, new ones come on top.

    Raises:
        CheckpointError: A module was put in that cannot be described.
    """
    old, new = dict(before.named_modules()), dict(after.named_modules())
    added = {path: described(module, path) for path, module in new.items() if path not in old}
    attributes = {
        path: changed
        for path, module in new.items()
        if path in old and (changed := _changed(old[path], module))
    }
    was, now = _shapes(before), _shapes(after)
    # a size that did not change is left open, so that the net can be made with more classes
    shapes = {
        name: [None if a == b else b for a, b in zip(was[name], shape, strict=True)]
        for name, shape in now.items()
        if name in was and was[name] != shape
    }
    growth = {"added": added, "attributes": attributes, "shapes": shapes}
    earlier = architecture.growth or {"added": {}, "attributes": {}, "shapes": {}}
    return replace(architecture, growth=_one_after_the_other(earlier, growth))


def grow_net(net: nn.Module, growth: Mapping[str, Any]) -> None:
    """Give the net, in place, the shape of a grown one; tensors of other shape are drawn anew.

    Drawn as torch draws them, then scaled: the deviation times the root of the inputs of a unit is
    as the net's own class made it.

    Args:
        net: As its class makes it.
        growth: As in ``Architecture.growth``; empty changes nothing.

    Raises:
        CheckpointError: The growth does not belong to this net.
    """
    for path, told in sorted(growth.get("added", {}).items(), key=lambda item: item[0].count(".")):
        parent, _, name = path.rpartition(".")
        _module(net, parent).add_module(name, made(told, path))
    for path, changed in growth.get("attributes", {}).items():
        module = _module(net, path)
        for name, value in changed.items():
            setattr(module, name, tuple(value) if isinstance(value, list) else value)
    for name, shape in growth.get("shapes", {}).items():
        path, _, tensor = name.rpartition(".")
        _redraw(_module(net, path), tensor, shape)


def _one_after_the_other(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return two growths as one: what was said last holds."""
    attributes = {path: dict(told) for path, told in first["attributes"].items()}
    for path, told in second["attributes"].items():
        attributes[path] = {**attributes.get(path, {}), **told}
    shapes = dict(first["shapes"])
    for name, shape in second["shapes"].items():
        kept = shapes.get(name, shape)
        shapes[name] = [b if b is not None else a for a, b in zip(kept, shape, strict=True)]
    return {
        "added": {**first["added"], **second["added"]},
        "attributes": attributes,
        "shapes": shapes,
    }


def _changed(old: nn.Module, new: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of a module that are others than before."""
    if type(old) is not type(new):
        raise CheckpointError(
            f"growth: a {type(old).__name__} became a {type(new).__name__}, which cannot be "
            "described; put new modules beside old ones"
        )
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in vars(new).items()
        if not name.startswith("_") and name != "training" and _is_plain(value)
        if vars(old).get(name) != value
    }


def _is_plain(value: Any) -> bool:
    inside = value if isinstance(value, tuple) else (value,)
    return all(isinstance(part, _PLAIN) for part in inside)


def _shapes(net: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in net.state_dict().items()}


def _module(net: nn.Module, path: str) -> nn.Module:
    try:
        return net.get_submodule(path)
    except AttributeError as error:
        raise CheckpointError(
            f"architecture.growth: the net has no module {path!r}; the growth belongs to another "
            "architecture"
        ) from error


@torch.no_grad()
def _redraw(module: nn.Module, name: str, sizes: Sequence[int | None]) -> None:
    """Put a tensor of another shape in the place of the one there is."""
    old = getattr(module, name, None)
    if not isinstance(old, torch.Tensor):
        raise CheckpointError(
            f"architecture.growth: {type(module).__name__} has no tensor {name!r}; the growth "
            "belongs to another architecture"
        )
    shape = tuple(a if b is None else b for a, b in zip(old.shape, sizes, strict=True))
    fresh = _drawn(old, shape)
    if isinstance(old, nn.Parameter):
        setattr(module, name, nn.Parameter(fresh, requires_grad=old.requires_grad))
    else:
        setattr(module, name, fresh)


def _drawn(old: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor drawn like ``old``: constant as it was, else normal of matching deviation."""
    if not old.is_floating_point() or old.numel() == 0 or bool((old == old.flatten()[0]).all()):
        first = old.flatten()[0] if old.numel() else torch.zeros(())
        return torch.full(shape, first.item(), dtype=old.dtype)
    inputs, now = max(1, old[0].numel()), max(1, math.prod(shape[1:]))
    scale = math.sqrt(inputs / now) if old.ndim > 1 else 1.0
    drawn = torch.randn(shape, dtype=torch.float32)
    return (float(old.mean()) + float(old.std()) * scale * drawn).to(old.dtype)
