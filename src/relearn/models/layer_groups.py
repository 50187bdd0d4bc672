"""The weight-bearing units of any net in the order of its layers, and the groups they form.

A unit is what a person would call one layer or block: the walk goes down through plain containers
(``Sequential``, ``ModuleList``, ``ModuleDict``) and stops at the first module of another kind that
holds weights. With m units besides the last layer and k = 0.4 m, rounded and at least one, the
first k are ``early``, the last k ``late``, what lies between ``middle``, and the last layer is
``head``. Of a pre-activation ResNet-18, ``late`` is its last four blocks, the third and fourth
stage.

The order is that in which the modules were registered, which is that of the forward pass in our
nets and in timm's. A weight is a tensor of two or more dimensions: norms and biases are none, nor
is a tensor that belongs to no unit, such as the positions of a transformer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from relearn.errors import ParameterError, near_miss
from relearn.models.heads import find_head

GROUPS = ("early", "middle", "late", "head")
"""The groups, from the image to the logits."""

EVERYTHING = "all"
"""Stands for all groups together."""

_SHARE = 0.4
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
_PARAMETER = "forget_relearn.forget.layers"


@dataclass(frozen=True)
class LayerUnit:
    """One layer or block of a net.

    Attributes:
        name: Of the module, as in ``named_modules``.
        group: One of ``GROUPS``.
        weights: Names of its weight tensors, as in ``named_parameters``.
    """

    name: str
    group: str
    weights: tuple[str, ...]


def units_of(model: nn.Module, head: str = "") -> tuple[LayerUnit, ...]:
    """Return the units of a net, from the image to the logits; the last one is the last layer.

    Args:
        model: Any net that ends in one linear layer or 1x1 convolution.
        head: Name of the last layer; empty finds it.

    Raises:
        HeadNotFoundError: As ``relearn.models.heads.find_head``.
    """
    last = find_head(model, head).name
    weights = _weights(model)
    names = _unit_names(model, weights, last)
    return (
        *(
            LayerUnit(name, group, _below(name, weights))
            for name, group in zip(names, _groups(len(names)), strict=True)
        ),
        LayerUnit(last, "head", _below(last, weights)),
    )


def stem_of(model: nn.Module, head: str = "") -> LayerUnit:
    """Return the unit that reads the image; for a linear classifier this is its last layer.

    Args:
        model: As for ``units_of``.
        head: Name of the last layer; empty finds it.
    """
    return units_of(model, head)[0]


def group_of_tensor(model: nn.Module, tensor: str, *, head: str = "") -> str:
    """Return the group of the unit that a weight tensor belongs to.

    Args:
        model: As for ``units_of``.
        tensor: Name of the weight, as in ``named_parameters``.
        head: Name of the last layer; empty finds it.

    Raises:
        ParameterError: No unit has a weight of this name.
    """
    groups = {weight: unit.group for unit in units_of(model, head) for weight in unit.weights}
    if tensor not in groups:
        raise ParameterError(
            f"{_PARAMETER}: {tensor!r} is no weight of a layer,{near_miss(tensor, groups)} "
            f"expected one such as {next(iter(groups))}"
        )
    return groups[tensor]


def choose_layers(model: nn.Module, text: str, *, head: str = "") -> dict[str, list[str]]:
    """Return the weight tensors that a text names, by the words of the text.

    Args:
        model: As for ``units_of``.
        text: Groups (``early``, ``middle``, ``late``, ``head``, or ``all`` for everything) and
            names of modules, joined by ``+``, such as ``late+head`` or ``stages.2+head``. A module
            stands for all weights inside it. ``all`` is given as the groups that it consists of.
        head: Name of the last layer; empty finds it.

    Returns:
        Word to names of weight tensors in the order of the layers; no tensor stands under two.

    Raises:
        ParameterError: A word is not known, has no weights in this net, or names again what
            another names.
    """
    units = units_of(model, head)
    chosen: dict[str, list[str]] = {}
    owner: dict[str, str] = {}
    for word in _words(text, units):
        chosen[word] = _weights_of_word(model, word, units)
        for weight in chosen[word]:
            if owner.setdefault(weight, word) != word:
                raise ParameterError(
                    f"{_PARAMETER}: {text!r} names {weight} twice, by {owner[weight]!r} and "
                    f"{word!r}; keep one of them"
                )
    return chosen


def _weights(model: nn.Module) -> list[str]:
    """Return the names of all weight tensors; one that two modules share has its first name."""
    modules = dict(model.named_modules())
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1
        and not isinstance(modules[name.rpartition(".")[0]], _NORMS)
        and "bias" not in name.rpartition(".")[2]
    ]


def _below(name: str, weights: list[str]) -> tuple[str, ...]:
    return tuple(weight for weight in weights if weight.startswith(f"{name}."))


def _unit_names(model: nn.Module, weights: list[str], last: str) -> list[str]:
    """Return the names of all units but the last layer."""
    modules = dict(model.named_modules())
    opened = {
        name
        for name, module in modules.items()
        if not name or isinstance(module, _CONTAINERS) or last.startswith(f"{name}.")
    }
    names = _closed(modules, opened, weights, last)
    while len(names) == 1:  # a backbone that is one module of its own: look inside, if there is one
        inner = _closed(modules, opened | set(names), weights, last)
        if not inner:
            break
        opened, names = opened | set(names), inner
    return names


def _closed(modules: Iterable[str], opened: set[str], weights: list[str], last: str) -> list[str]:
    """Return the modules with weights that are not opened while all above them are."""
    return [
        name
        for name in modules
        if name not in opened | {last} and _below(name, weights) and _above(name) <= opened
    ]


def _above(name: str) -> set[str]:
    parts = name.split(".")
    return {".".join(parts[:depth]) for depth in range(len(parts))}


def _groups(count: int) -> list[str]:
    """Return the group of each of ``count`` units before the last layer."""
    share = max(1, round(_SHARE * count))
    late_from = max(share, count - share)
    return [
        "early" if place < share else "middle" if place < late_from else "late"
        for place in range(count)
    ]


def _words(text: str, units: tuple[LayerUnit, ...]) -> list[str]:
    words = [word.strip() for word in text.split("+")]
    if words == [EVERYTHING]:
        there = {unit.group for unit in units}
        return [group for group in GROUPS if group in there]
    repeated = sorted({word for word in words if words.count(word) > 1})
    if repeated:
        raise ParameterError(f"{_PARAMETER}: {text!r} names {repeated[0]!r} twice; keep one")
    return words


def _weights_of_word(model: nn.Module, word: str, units: tuple[LayerUnit, ...]) -> list[str]:
    all_weights = [weight for unit in units for weight in unit.weights]
    if word == EVERYTHING:
        return all_weights
    if word in GROUPS:
        found = [weight for unit in units if unit.group == word for weight in unit.weights]
    else:
        found = list(_below(word, all_weights)) if word else []
    if not found:
        raise _nothing(model, word, units, all_weights)
    return found


def _nothing(
    model: nn.Module, word: str, units: tuple[LayerUnit, ...], weights: list[str]
) -> ParameterError:
    if word in GROUPS:
        return ParameterError(
            f"{_PARAMETER}: this net has no layer in group {word!r} (its layers: {_listed(units)});"
            " name another group or a layer"
        )
    modules = [name for name, _ in model.named_modules() if name and _below(name, weights)]
    known = [EVERYTHING, *GROUPS, *modules]
    why = "has no weights" if word and word in dict(model.named_modules()) else "is not known"
    return ParameterError(
        f"{_PARAMETER}: {word!r} {why},{near_miss(word, known)} expected "
        f"{', '.join(known[: len(GROUPS) + 1])}, or a layer ({_listed(units)}), joined by +"
    )


def _listed(units: tuple[LayerUnit, ...]) -> str:
    names = [unit.name for unit in units]
    return ", ".join(names if len(names) <= 7 else [*names[:3], "...", *names[-3:]])
