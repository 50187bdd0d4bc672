"""Exchanging the linear layers of a net for layers with modules, and back again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from relearn.errors import ParameterError
from relearn.methods.lora_ipc.lora import AdaptedLinear
from relearn.methods.lora_ipc.modules import AdaptedMatrix
from relearn.methods.lora_ipc.orthogonality import INITIALISATIONS

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.matrices import Place

ROOM_FOR_WEIGHTS = 2**27
"""Bytes that the composed weights of finished tasks may take, so that mixed batches do not compose
them anew: 12 tasks of a ViT of width 192 and 6 blocks; of a ViT-B, which is larger, one."""


@dataclass(frozen=True)
class Settings:
    """What holds for all tasks.

    Attributes:
        kinds: Kinds of matrices that get modules.
        rank: Columns of A in each module.
        alpha: s = alpha / rank.
        planned_tasks: Modules that a matrix may come to have; planned_tasks * rank <= d_in.
        omega: Whether the weights of earlier modules are trained; else they stay 1.
        initialisation: Of A: one of ``orthogonality.INITIALISATIONS``.
        k_uses_q_mask: Repeats an error of the official code: whether k gets a module is asked of
            the mask of q.
    """

    kinds: tuple[str, ...]
    rank: int
    alpha: float = 1.0
    planned_tasks: int = 10
    omega: bool = True
    initialisation: str = "official"
    k_uses_q_mask: bool = False

    @property
    def scale(self) -> float:
        """The factor s before every product A B."""
        return self.alpha / self.rank


def check_room(places: Sequence[Place], settings: Settings) -> None:
    """Check that the modules of all planned tasks can be orthogonal to each other.

    Args:
        places: The matrices.
        settings: With rank and planned tasks.

    Raises:
        ParameterError: The rank or the number of tasks is below 1, or planned_tasks * rank is
            above the d_in of a matrix; or the initialisation is not known.
    """
    rank, planned = settings.rank, settings.planned_tasks
    for name, value in (("lora.rank", rank), ("tasks.planned", planned)):
        if value < 1:
            raise ParameterError(f"lora_ipc.{name}: got {value}, expected 1 or more")
    if settings.initialisation not in INITIALISATIONS:
        raise ParameterError(
            f"lora_ipc.lora.initialisation: got {settings.initialisation!r}, expected one of "
            f"{', '.join(INITIALISATIONS)}"
        )
    narrowest = min(places, key=lambda place: place.in_features)
    if planned * rank > narrowest.in_features:
        raise ParameterError(
            f"lora_ipc.lora.rank: {planned} planned tasks of rank {rank} need {planned * rank} "
            f"orthogonal columns, but matrix {narrowest.name} has d_in = {narrowest.in_features}; "
            f"use a rank of at most {narrowest.in_features // planned}, or fewer tasks"
        )


def exchange(
    model: nn.Module, places: Sequence[Place], settings: Settings
) -> tuple[AdaptedLinear, ...]:
    """Put adapted layers in the place of the linear ones that hold the matrices.

    Args:
        model: The net, changed in place; weights are shared with the layers it had.
        places: The matrices.
        settings: What holds for all tasks.

    Returns:
        The new layers.
    """
    by_layer: dict[str, list[Place]] = {}
    for place in places:
        by_layer.setdefault(place.layer, []).append(place)
    made = []
    for name, chosen in by_layer.items():
        linear = linear_at(model, name)
        like = linear.weight.detach()
        matrices = [AdaptedMatrix(place, settings.scale, like) for place in chosen]
        adapted = AdaptedLinear(linear, matrices)
        adapted.train(model.training)
        model.set_submodule(name, adapted)
        made.append(adapted)
    size = sum(layer.base_weight.nbytes for layer in made)
    for layer in made:
        layer.keeps = max(1, ROOM_FOR_WEIGHTS // size)
    return tuple(made)


def linear_at(model: nn.Module, name: str) -> nn.Linear:
    """Return the linear layer of a name.

    Args:
        model: The net.
        name: As in ``named_modules``.

    Raises:
        ParameterError: The layer is of another class, as where a net has modules already.
    """
    found = model.get_submodule(name)
    if not isinstance(found, nn.Linear):
        raise ParameterError(
            f"lora_ipc: {name} is a {type(found).__name__}, expected a Linear; use a plain net"
        )
    return found


def plain_linear(layer: AdaptedLinear, weight: Tensor, *, share: bool) -> nn.Linear:
    """Return a plain linear layer with a weight and the bias of an adapted one.

    Args:
        layer: The adapted layer.
        weight: Shape (out_features, in_features).
        share: Whether the tensors are the very ones given, or copies.
    """
    with torch.device("meta"):
        linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    linear.weight = _parameter(weight, share=share)
    if layer.bias is not None:
        linear.bias = _parameter(layer.bias, share=share)
    return linear.train(layer.training)


def _parameter(tensor: Tensor, *, share: bool) -> nn.Parameter:
    if share and isinstance(tensor, nn.Parameter):
        return tensor
    return nn.Parameter(tensor.detach().clone())
