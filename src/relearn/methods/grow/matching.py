"""Where labels of the widened run stood in the recorded one."""

from __future__ import annotations

import torch
from torch import Tensor

from relearn.methods.grow.tape import Misfit, Site


def find(site: Site, known: Tensor, keys: Tensor, ids: list[Tensor]) -> Tensor:
    """Return where keys stand in sorted known ones, shape as ``keys``.

    Args:
        site: The operation.
        known: Ascending, shape (m,).
        keys: Any shape.
        ids: Identities that meet here, for the message.

    Raises:
        Misfit: One is not there.
    """
    place = torch.searchsorted(known, keys).clamp(max=max(len(known) - 1, 0))
    if len(known) == 0 or (known[place] != keys).any():
        raise Misfit(site, torch.cat([i.flatten() for i in ids]), "channels meet that never met")
    return place


def occurrence(keys: Tensor, *, small: bool = False) -> Tensor:
    """Return for each entry how many equal entries stand before it, shape (n,).

    Args:
        keys: Shape (n,).
        small: Whether to number them first, so that large numbers sort faster.
    """
    dense = torch.unique(keys, return_inverse=True)[1] if small else keys
    order = dense.argsort(stable=True)
    sorted_keys = dense[order]
    starts = torch.ones_like(sorted_keys, dtype=torch.bool)
    starts[1:] = sorted_keys[1:] != sorted_keys[:-1]
    index = torch.arange(len(keys))
    first = torch.where(starts, index, 0).cummax(0).values
    counted = torch.empty_like(index)
    counted[order] = index - first
    return counted
