"""Whether copies of one unit have parted: the cosine between the weights that come into them."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.grow.document import GroupPlan
    from relearn.methods.grow.record import GroupMap, GrowthRecord

_WRITERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@torch.no_grad()
def sibling_cosine(student: nn.Module, record: GrowthRecord) -> dict[str, float]:
    """Return mean and largest cosine between the incoming weights of copies of one unit.

    1 right after growth, where copies have equal incoming weights; lower once they have parted.

    Args:
        student: The grown net, at any time.
        record: How it was grown.

    Returns:
        sibling_cosine and largest_sibling_cosine; empty where nothing was copied or no copied unit
        is written by a convolution or a linear layer.
    """
    groups = {group.name: group for group in record.plan.groups}
    found = [
        cosine
        for entry in record.maps
        for weights in _incoming(student, record, groups[entry.name], entry=entry)
        for cosine in _cosines(weights, entry)
    ]
    if not found:
        return {}
    return {"sibling_cosine": sum(found) / len(found), "largest_sibling_cosine": max(found)}


def _incoming(
    student: nn.Module, record: GrowthRecord, group: GroupPlan, *, entry: GroupMap
) -> list[Tensor]:
    """Return for each layer that writes the group its weights, shape (units, all inputs)."""
    modules = dict(student.named_modules())
    found = []
    for name in group.writers:
        writer = modules.get(record.new_name(name))
        units = len(entry.mapping)
        if isinstance(writer, _WRITERS) and writer.weight.shape[0] >= units:
            each = (writer.weight.shape[0] - entry.padding) // units
            found.append(writer.weight[: each * units].reshape(units, -1))
    return found


def _cosines(weights: Tensor, entry: GroupMap) -> list[float]:
    units = functional.normalize(weights.double().cpu(), dim=1)
    siblings: dict[int, list[int]] = {}
    for place, source in enumerate(entry.mapping):
        siblings.setdefault(source, []).append(place)
    pairs = [pair for places in siblings.values() for pair in combinations(places, 2)]
    return [float(units[one] @ units[two]) for one, two in pairs]
