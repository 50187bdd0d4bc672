"""A net as blocks, from the image to the last layer: what is thawed, and at what rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from relearn.errors import CheckpointError, ParameterError
from relearn.models.heads import Head, find_head, replace_head
from relearn.models.layer_groups import units_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Block:
    """One layer or block with all that belongs to it.

    Attributes:
        name: Of its module, as in ``named_modules``.
        parameters: Names of its parameters: its own, and those of norms that follow it.
    """

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Thawed:
    """The part of a net that is trained.

    Attributes:
        blocks: Those that are trained besides the last layer, from the image to the last layer.
        head: The last layer, which always is.
        rates: Factor on the learning rate, by name of a parameter.
        whole: Whether nothing is left frozen.
    """

    blocks: tuple[Block, ...]
    head: Block
    rates: dict[str, float]
    whole: bool


def blocks_of(net: nn.Module, head: str = "") -> tuple[Block, ...]:
    """Return the blocks of a net, from the image to the last layer, which is the last of them.

    A parameter outside all units, such as that of a norm between two, belongs to the unit before it
    in the order of registration; one before all units to the first.

    Args:
        net: Any net that ends in one linear layer or 1x1 convolution.
        head: Name of the last layer; empty finds it.

    Raises:
        HeadNotFoundError: As ``relearn.models.heads.find_head``.
    """
    names = [unit.name for unit in units_of(net, head)]
    owned: dict[str, list[str]] = {name: [] for name in names}
    body, present = names[:-1], names[0]
    for parameter, _ in net.named_parameters():
        inside = [name for name in names if parameter.startswith(f"{name}." if name else "")]
        if inside:
            owned[inside[0]].append(parameter)
            present = inside[0] if inside[0] in body else present
        else:
            owned[present].append(parameter)
    return tuple(Block(name, tuple(owned[name])) for name in names)


def thaw_last(net: nn.Module, count: int, *, layer_factor: float, head: str = "") -> Thawed:
    """Let the last blocks and the last layer be trained, freeze all others, and return the plan.

    The rate of the last layer and of the last block is the full one; each block below has
    ``layer_factor`` times that of the block above.

    Args:
        net: The net; only which parameters ask for gradients is changed.
        count: Blocks besides the last layer; as many as there are thaw the whole net.
        layer_factor: Factor on the rate from a block to the one below, above 0 to 1.
        head: Name of the last layer; empty finds it.

    Raises:
        ParameterError: There are not so many blocks, or the factor is out of range.
        HeadNotFoundError: As ``relearn.models.heads.find_head``.
    """
    *body, last = blocks_of(net, head)
    if not 0 <= count <= len(body):
        raise ParameterError(
            f"last_layer_probe.trained.unfreeze.most_steps: got {count} blocks, expected 0 to "
            f"{len(body)}, which is all that the net has"
        )
    if not 0 < layer_factor <= 1:
        raise ParameterError(
            f"last_layer_probe.trained.unfreeze.layer_factor: got {layer_factor}, expected above 0 "
            "to 1"
        )
    chosen = body[len(body) - count :]
    rates = dict.fromkeys(last.parameters, 1.0)
    for above, block in enumerate(reversed(chosen)):
        rates |= dict.fromkeys(block.parameters, layer_factor**above)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name in rates)
    return Thawed(tuple(chosen), last, rates, whole=count == len(body))


def thaw_all(net: nn.Module, head: str = "") -> Thawed:
    """Let the whole net be trained at one rate, and return the plan.

    Args:
        net: The net; only which parameters ask for gradients is changed.
        head: Name of the last layer; empty finds it.

    Raises:
        HeadNotFoundError: As ``relearn.models.heads.find_head``.
    """
    return thaw_last(net, len(blocks_of(net, head)) - 1, layer_factor=1.0, head=head)


def set_modes(net: nn.Module, thawed: Thawed, *, batch_norm: str) -> None:
    """Put what is trained into training mode and all else into evaluation mode.

    Args:
        net: The net.
        thawed: What is trained.
        batch_norm: ``frozen`` keeps batch norm at its running statistics wherever it stands;
            ``learn`` lets that of trained blocks follow the batches.

    Raises:
        ParameterError: ``batch_norm`` is neither.
    """
    if batch_norm not in ("frozen", "learn"):
        raise ParameterError(
            f"last_layer_probe.trained.unfreeze.batch_norm: {batch_norm!r} is not known, expected "
            "frozen or learn"
        )
    net.train(thawed.whole)
    modules = dict(net.named_modules())
    for block in (*thawed.blocks, thawed.head):
        modules[block.name].train()
        for name in block.parameters:  # norms that follow the block stand outside it
            modules[name.rpartition(".")[0]].training = True
    if batch_norm == "frozen":
        for module in net.modules():
            if isinstance(module, _BATCH_NORMS):
                module.eval()


@torch.no_grad()
def put_head(net: nn.Module, weight: Tensor, bias: Tensor, head: str = "") -> Head:
    """Write a fitted head into the last layer, so that the net gives its logits, and return it.

    A last layer with another number of classes is replaced; the body keeps every bit.

    Args:
        net: The net; its last layer has a bias.
        weight: Shape (classes, features).
        bias: Shape (classes,).
        head: Name of the last layer; empty finds it.

    Raises:
        CheckpointError: The features are not as many, or there is no bias to write.
        HeadNotFoundError: As ``relearn.models.heads.find_head``.
    """
    found = find_head(net, head)
    classes = len(weight)
    wanted = (classes, found.features), (classes,)
    if found.module.bias is None or (tuple(weight.shape), tuple(bias.shape)) != wanted:
        raise CheckpointError(
            f"head: {found.name!r} reads {found.features} features and has "
            f"{'no bias' if found.module.bias is None else 'a bias'}, got a weight of shape "
            f"{tuple(weight.shape)} and a bias of shape {tuple(bias.shape)}; fit the head on what "
            "the last layer of this net reads"
        )
    if classes != found.classes:
        unread = torch.Generator()  # a head of zeros draws nothing
        found = replace_head(net, classes, initialisation="zero", generator=unread, name=found.name)
    found.module.weight.copy_(weight.reshape(found.module.weight.shape))
    found.module.bias.copy_(bias)
    return found


def rate_groups(
    net: nn.Module, thawed: Thawed, learning_rate: float
) -> Sequence[tuple[float, list[nn.Parameter]]]:
    """Return the learning rates with the parameters that they are for, highest first.

    Args:
        net: The net.
        thawed: What is trained.
        learning_rate: Of the last layer.
    """
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if name in thawed.rates:
            groups.setdefault(thawed.rates[name], []).append(parameter)
    return [(learning_rate * factor, groups[factor]) for factor in sorted(groups, reverse=True)]
