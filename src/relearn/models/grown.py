"""A net that was made wider or deeper than its class makes it: the difference as JSON, and back.

A grown net is its architecture and what differs from it: attributes of modules (such as
``out_channels``), shapes of tensors, and modules put in. With that, any floor makes the net again
from a checkpoint, and no module is ever pickled. Who grew it, how and why stands in the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from relearn.errors import CheckpointError
from relearn.models.inserted import described, made

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.models.architectures import Architecture

_PLAIN = (bool, int, float, str)


def with_growth(
    architecture: Architecture,
    before: nn.Module,
    after: nn.Module,
    *,
    wrapped: Mapping[str, str] = MappingProxyType({}),
) -> Architecture:
    """Return the architecture from which a net like ``after`` is made.

    Args:
        architecture: From which ``before`` is made, grown itself or not.
        before: The net as its architecture makes it.
        after: The same net, grown.
        wrapped: Module's name before to its name now, for each that became the first of a
            ``Sequential``, in the order in which that was done.

    Raises:
        CheckpointError: A module was put in that cannot be described.
    """
    old = {_renamed(path, wrapped): module for path, module in before.named_modules()}
    new = dict(after.named_modules())
    containers = {path.rpartition(".")[0] for path in wrapped.values()}
    added = [
        [path, described(module, path)]
        for path, module in new.items()
        if path not in old and path not in containers
    ]
    attributes = {
        path: changed
        for path, module in new.items()
        if path in old and (changed := _changed(old[path], module))
    }
    was = {_renamed(name, wrapped): shape for name, shape in _shapes(before).items()}
    # a size that did not change is left open, so that the net can be made with more classes
    shapes = {
        name: [None if a == b else b for a, b in zip(was[name], shape, strict=True)]
        for name, shape in _shapes(after).items()
        if name in was and was[name] != shape
    }
    growth = {
        "wrapped": list(wrapped),
        "added": added,
        "attributes": attributes,
        "shapes": shapes,
    }
    return replace(architecture, growth=(*architecture.growth, growth))


def grow_net(net: nn.Module, growths: Iterable[Mapping[str, Any]]) -> None:
    """Give the net, in place, the shape of a grown one; tensors of other shape are drawn anew.

    Drawn as torch draws them, then scaled: the deviation times the root of the inputs of a unit is
    as the net's own class made it.

    Args:
        net: As its class makes it.
        growths: As in ``Architecture.growth``, one after the other; none changes nothing.

    Raises:
        CheckpointError: A growth does not belong to this net.
    """
    for growth in growths:
        for path in growth["wrapped"]:
            parent, _, name = path.rpartition(".")
            inner = _module(net, path)
            _module(net, parent).register_module(name, nn.Sequential(inner))
        for path, told in growth["added"]:
            parent, _, name = path.rpartition(".")
            _module(net, parent).register_module(name, made(told, path))
        for path, changed in growth["attributes"].items():
            module = _module(net, path)
            for name, value in changed.items():
                setattr(module, name, tuple(value) if isinstance(value, list) else value)
        for name, shape in growth["shapes"].items():
            path, _, tensor = name.rpartition(".")
            _redraw(_module(net, path), tensor, shape)


def _renamed(path: str, wrapped: Mapping[str, str]) -> str:
    for before, now in wrapped.items():
        if path == before or path.startswith(f"{before}."):
            path = now + path[len(before) :]
    return path


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
