"""How much a unit matters: what it takes in times what others take from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.grow.groups import Analysis, Group


def importance_of(model: nn.Module, analysis: Analysis, group: Group) -> Tensor:
    """Return for each unit the norm of its incoming times that of its outgoing weights.

    Args:
        model: The teacher.
        analysis: Of the teacher.
        group: One of its groups.

    Returns:
        Float64, shape (units,).
    """
    known = dict(model.named_parameters())
    unit = analysis.roots["unit"]
    incoming = torch.zeros(len(group.units), dtype=torch.float64)
    outgoing = torch.zeros(len(group.units), dtype=torch.float64)
    for (name, axis), ids in analysis.tape.written.items():
        if name in known and known[name].ndim > 1:
            _gather(incoming, group.units, unit[ids], _squares(known[name], axis))
    for (name, axis), readings in analysis.tape.readings.items():
        if name in known:
            squares = _squares(known[name], axis)
            _gather(outgoing, group.units, unit[readings[0].ids[0]], squares)
    return (incoming * outgoing).sqrt()


def _squares(weight: Tensor, axis: int) -> Tensor:
    dims = [d for d in range(weight.ndim) if d != axis]
    return weight.detach().double().square().sum(dims)


def _gather(total: Tensor, units: Tensor, roots: Tensor, values: Tensor) -> None:
    mine = torch.isin(roots, units)
    total.index_add_(0, torch.searchsorted(units, roots[mine]), values[mine].cpu())
