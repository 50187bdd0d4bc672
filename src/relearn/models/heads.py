"""Find, read, replace and extend the last layer of any torch model.

The last layer is what turns features into logits: a ``Linear``, or a 1x1 convolution. It is found
by itself where the net says which it is (timm) or where it is the last layer with weights; a net
whose last layers are not so plain is refused rather than guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from relearn.errors import HeadNotFoundError, near_miss, one_of

if TYPE_CHECKING:
    from collections.abc import Callable

HeadModule = nn.Linear | nn.Conv2d
"""What a last layer can be."""


@dataclass(frozen=True)
class Head:
    """The last layer of a net.

    Attributes:
        name: Its name inside the net, such as ``head`` or ``classifier.6``.
        module: A Linear, or a 1x1 convolution; weight of shape (classes, features[, 1, 1]).
    """

    name: str
    module: Any

    @property
    def classes(self) -> int:
        """Number of logits."""
        return int(self.module.weight.shape[0])

    @property
    def features(self) -> int:
        """Number of features that it reads."""
        return int(self.module.weight.shape[1])


def find_head(model: nn.Module, name: str = "") -> Head:
    """Return the last layer of a net.

    Args:
        model: Any torch model that ends in one linear layer or 1x1 convolution.
        name: Name of the layer, as in ``named_modules``; empty finds it.

    Raises:
        HeadNotFoundError: No layer has the name, it is no possible last layer, none or several
            were found, or its weights are shared with another layer.
    """
    head = _named(model, name) if name else _found(model)
    _refuse_tied(model, head)
    return head


def replace_head(
    model: nn.Module,
    classes: int,
    *,
    initialisation: str,
    generator: torch.Generator,
    name: str = "",
) -> Head:
    """Put a fresh last layer in the place of the present one and return it.

    Args:
        model: The net; only its last layer is exchanged.
        classes: Number of logits of the fresh layer.
        initialisation: ``zero``; ``kaiming`` N(0, 2 / features) with bias 0; ``torch_default``
            U(-1 / sqrt(features), 1 / sqrt(features)) for weights and bias.
        generator: CPU generator of the draw.
        name: Name of the last layer; empty finds it.

    Raises:
        HeadNotFoundError: As ``find_head``.
        ParameterError: The initialisation is not known.
    """
    old = find_head(model, name)
    fresh = _of_size(old.module, classes)
    draw_head(fresh, initialisation=initialisation, generator=generator)
    return _put(model, old.name, fresh)


def extend_head(
    model: nn.Module,
    extra_classes: int,
    *,
    generator: torch.Generator,
    name: str = "",
    initialisation: str = "torch_default",
) -> Head:
    """Give the last layer more rows; those it has keep every bit.

    Args:
        model: The net; only its last layer is exchanged.
        extra_classes: Rows to append, 0 or more.
        generator: CPU generator of the new rows.
        name: Name of the last layer; empty finds it.
        initialisation: Of the new rows; as for ``replace_head``.

    Raises:
        HeadNotFoundError: As ``find_head``.
        ParameterError: The initialisation is not known.
    """
    old = find_head(model, name)
    wider = _of_size(old.module, old.classes + extra_classes)
    draw_head(wider, initialisation=initialisation, generator=generator)
    with torch.no_grad():
        wider.weight[: old.classes] = old.module.weight
        if wider.bias is not None:
            wider.bias[: old.classes] = old.module.bias
    return _put(model, old.name, wider)


def features(model: nn.Module, x: Tensor, name: str = "") -> Tensor:
    """Return what the last layer reads, shape (batch, features).

    Args:
        model: The net, in the mode in which its features are wanted.
        x: Float images, shape (batch, channels, height, width).
        name: Name of the last layer; empty finds it.

    Raises:
        HeadNotFoundError: As ``find_head``, or the layer was not reached.
    """
    head = find_head(model, name)
    caught: list[Tensor] = []
    hook: Callable[..., None] = lambda module, inputs: caught.append(inputs[0])  # noqa: E731
    handle = head.module.register_forward_pre_hook(hook)
    try:
        model(x)
    finally:
        handle.remove()
    if not caught:
        raise HeadNotFoundError(f"head: {head.name!r} is not used by the net; give another name")
    # a 1x1 convolution may read a map: its mean, as the mean of the logits is what is used
    return caught[-1].mean((2, 3)) if caught[-1].ndim == 4 else caught[-1].flatten(1)


@torch.no_grad()
def draw_head(module: HeadModule, *, initialisation: str, generator: torch.Generator) -> None:
    """Draw weight and bias of a last layer anew, on the CPU whatever its device.

    Args:
        module: The layer.
        initialisation: As for ``replace_head``.
        generator: CPU generator of the draw.

    Raises:
        ParameterError: The initialisation is not known.
    """
    bound = float(module.weight.shape[1]) ** -0.5
    draws: dict[str, Callable[[Tensor], Tensor]] = {
        "zero": lambda fresh: fresh.zero_(),
        "kaiming": lambda fresh: fresh.normal_(std=2**0.5 * bound, generator=generator),
        "torch_default": lambda fresh: fresh.uniform_(-bound, bound, generator=generator),
    }
    if initialisation not in draws:
        raise one_of("head initialisation", initialisation, draws)
    draw = draws[initialisation]
    module.weight.copy_(draw(torch.empty(module.weight.shape)))
    if module.bias is not None:
        own = draw if initialisation == "torch_default" else draws["zero"]
        module.bias.copy_(own(torch.empty(module.bias.shape)))


def _is_head(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear):
        return True
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1


def _candidates(model: nn.Module) -> dict[str, nn.Module]:
    return {name: module for name, module in model.named_modules() if _is_head(module)}


def _named(model: nn.Module, name: str) -> Head:
    modules = dict(model.named_modules())
    candidates = _candidates(model)
    if name not in modules:
        raise HeadNotFoundError(
            f"head: no layer is called {name!r},{near_miss(name, candidates)} {_list(candidates)}"
        )
    if name not in candidates:
        kind = type(modules[name]).__name__
        raise HeadNotFoundError(
            f"head: {name!r} is a {kind}, expected a Linear or 1x1 Conv2d; {_list(candidates)}"
        )
    return Head(name, modules[name])


def _found(model: nn.Module) -> Head:
    """Return the layer that the net itself names, else the last layer with weights."""
    ask = getattr(model, "get_classifier", None)
    if callable(ask):
        told = ask()
        names = [n for n, m in model.named_modules() if m is told and _is_head(m)]
        if names:
            return Head(names[0], told)
        raise HeadNotFoundError(
            f"head: {type(model).__name__} has no single last layer (get_classifier gives "
            f"{type(told).__name__}); name it; {_list(_candidates(model))}"
        )
    weighted = list(_weighted(model))
    if not weighted or not _is_head(weighted[-1][1]):
        last = f"ends in {weighted[-1][0]!r}" if weighted else "has no weights"
        raise HeadNotFoundError(
            f"head: {type(model).__name__} {last}, not in a Linear or 1x1 Conv2d; name the last "
            f"layer; {_list(_candidates(model))}"
        )
    return Head(*weighted[-1])


def _weighted(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that hold weights of their own, but for the net itself."""
    for name, module in model.named_modules():
        if name and next(module.parameters(recurse=False), None) is not None:
            yield name, module


def _refuse_tied(model: nn.Module, head: Head) -> None:
    own = f"{head.name}.weight" if head.name else "weight"
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter is head.module.weight and name != own:
            raise HeadNotFoundError(
                f"head: the weights of {head.name!r} are shared with {name!r}, so that changing "
                "the last layer would change the rest of the net; untie them first"
            )


def _list(candidates: dict[str, nn.Module]) -> str:
    shown = ", ".join(list(candidates)[-6:]) or "none"
    return f"possible last layers: {shown}"


def _of_size(old: HeadModule, classes: int) -> HeadModule:
    """Return a layer like ``old`` with another number of logits, its weights yet to be written."""
    # made without storage first, because a plain constructor draws from the global random numbers
    kind: dict[str, Any] = {"device": "meta", "dtype": old.weight.dtype}
    kind["bias"] = old.bias is not None
    fresh: HeadModule
    if isinstance(old, nn.Conv2d):
        fresh = nn.Conv2d(old.in_channels, classes, 1, **kind)
    else:
        fresh = nn.Linear(old.in_features, classes, **kind)
    return fresh.to_empty(device=old.weight.device)


def _put(model: nn.Module, name: str, module: HeadModule) -> Head:
    module.train(model.training)
    model.set_submodule(name, module)
    if isinstance(getattr(model, "num_classes", None), int):  # timm keeps it beside the layer
        setattr(model, "num_classes", int(module.weight.shape[0]))  # noqa: B010 - for mypy
    return Head(name, module)
