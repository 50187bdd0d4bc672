"""Which units are copied how often, and how the copies share what goes out."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def draw_copies(
    units: int,
    new_units: int,
    *,
    mapping: str,
    generator: Generator | None,
    importance: Tensor | None = None,
) -> Tensor:
    """Return how often each unit stands in the student, int64, shape (units,), at least 1 each.

    Args:
        units: Units before.
        new_units: Units afterwards.
        mapping: ``random``: each further unit copies one drawn at random (Net2Net, section 3.1);
            ``balanced``: no unit is copied more than once oftener than another; ``importance``: the
            most important units first, again and again.
        generator: Seeded, on the CPU; None for the most lopsided draw there is.
        importance: For ``importance``, shape (units,).
    """
    counts = torch.ones(units, dtype=torch.long)
    further = new_units - units
    if generator is None and mapping != "balanced":
        counts[0] += further
        return counts
    if mapping == "random":
        drawn = torch.randint(units, (further,), generator=generator)
        return counts + torch.bincount(drawn, minlength=units)
    lopsided = torch.arange(units)
    order = lopsided if generator is None else torch.randperm(units, generator=generator)
    if mapping == "importance" and importance is not None:
        order = importance.argsort(descending=True, stable=True)
    counts += further // units
    counts[order[: further % units]] += 1
    return counts


def draw_by_kind(
    kinds: Tensor,
    new_units: int,
    *,
    mapping: str,
    generator: Generator | None,
    importance: Tensor | None = None,
) -> Tensor:
    """Return how often each unit stands in the student, each kind growing by the same factor.

    Args:
        kinds: For each unit the number of its kind, shape (units,).
        new_units: Units afterwards; what does not divide goes to the kinds with the largest rest.
        mapping: As for ``draw_copies``, within each kind.
        generator: Seeded, on the CPU; None for the most lopsided draw there is.
        importance: For ``importance``, shape (units,).

    Returns:
        Int64, shape (units,), at least 1 each.
    """
    names, place, sizes = torch.unique(kinds, return_inverse=True, return_counts=True)
    wanted = sizes.double() * (new_units / len(kinds))
    news = wanted.floor().long()
    rest = (wanted - news).argsort(descending=True, stable=True)
    news[rest[: new_units - int(news.sum())]] += 1
    counts = torch.ones(len(kinds), dtype=torch.long)
    for kind in range(len(names)):
        mine = torch.nonzero(place == kind).flatten()
        counts[mine] = draw_copies(
            len(mine),
            int(news[kind]),
            mapping=mapping,
            generator=generator,
            importance=None if importance is None else importance[mine],
        )
    return counts


def draw_shares(counts: Tensor, *, symmetry: str, generator: Generator) -> list[list[float]]:
    """Return the share of each copy of each unit; each unit's shares sum to 1 in float64.

    Args:
        counts: How often each unit stands in the student, shape (units,).
        symmetry: ``uneven`` draws r from U(0.5, 1.5) and shares r / sum(r); ``fresh`` gives all to
            the original; the others share evenly.
        generator: Seeded, on the CPU.
    """
    shares = []
    for count in counts.tolist():
        if symmetry == "fresh":
            shares.append([1.0] + [0.0] * (count - 1))
        elif symmetry == "uneven" and count > 1:
            raw = torch.rand(count, generator=generator, dtype=torch.float64) + 0.5
            part = (raw / raw.sum()).tolist()
            shares.append([*part[:-1], 1.0 - sum(part[:-1])])
        else:
            shares.append([1.0 / count] * count)
    return shares
