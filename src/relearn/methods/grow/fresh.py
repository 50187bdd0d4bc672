"""A fresh net of the student's shape: what scratch arms begin with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from relearn.errors import RelearnError
from relearn.models.checkpoint import Architecture, build_fresh

if TYPE_CHECKING:
    from torch import nn


def fresh_student(
    before: Architecture, after: Architecture, student: nn.Module, *, seed: int
) -> tuple[nn.Module, Architecture]:
    """Return a net of the student's shape with weights drawn as its own class draws them.

    Where the class has a width with which it makes this very shape, that is the net; else it is
    the grown shape with weights drawn to match (``relearn.models.grown``).

    Args:
        before: Architecture of the teacher.
        after: Architecture of the student.
        student: The grown net, whose shape counts.
        seed: Seed of the draw.
    """
    plain = _without_growth(before, student)
    chosen = plain or after
    return build_fresh(chosen, seed=seed), chosen


def _without_growth(before: Architecture, student: nn.Module) -> Architecture | None:
    """Return the same class with another width, where it makes the student's shape."""
    width = before.options.get("width")
    if not width or before.growth:
        return None
    wanted, was = _shapes(student), _shapes(build_fresh(before, seed=0))
    if set(wanted) != set(was):
        return None
    factors = {
        new / old
        for name, shape in wanted.items()
        for old, new in zip(was[name], shape, strict=True)
    }
    for factor in sorted(factors - {1.0}):
        candidate = replace(before, options={**before.options, "width": round(width * factor)})
        try:
            found = build_fresh(candidate, seed=0)
        except RelearnError:
            continue
        if _shapes(found) == wanted:
            return candidate
    return None


def _shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
