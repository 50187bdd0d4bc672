"""What a curve tells: dip and recovery, steps to a target, the area beneath it. Plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relearn.errors import ParameterError


@dataclass(frozen=True)
class Reach:
    """Whether and when a curve reached a target.

    Attributes:
        reached: Whether it did; False is a run that was cut off, not one that never would.
        steps: Steps until the first evaluation of those that lay at or above it; where it was not
            reached, the steps that were made.
    """

    reached: bool
    steps: int


@dataclass(frozen=True)
class Dip:
    """What a change did to a curve that begins right after it.

    Attributes:
        depth: Level before the change less the lowest value after it; 0 or more.
        step: Step of that lowest value; 0 where there was no dip.
        recovered: Whether the curve came back to the level.
        steps: Steps until it was back for good; where it was not, the steps that were made.
    """

    depth: float
    step: int
    recovered: bool
    steps: int


def steps_to(
    steps: Sequence[int], values: Sequence[float], *, target: float, sustained: int
) -> Reach:
    """Return when the values lay at or above the target for several evaluations in a row.

    A single crossing is a trap: an exact student has the teacher's accuracy at step 0, and noise
    alone lifts it above.

    Args:
        steps: Step of each evaluation, rising.
        values: Value of each, higher is better.
        target: Value to be reached.
        sustained: Evaluations in a row that must lie at or above it.

    Raises:
        ParameterError: There are no evaluations.
    """
    _require_curve(steps, values)
    run = 0
    for number, value in enumerate(values):
        run = run + 1 if value >= target else 0
        if run == sustained:
            return Reach(True, steps[number - sustained + 1])
    return Reach(False, steps[-1])


def dip_of(
    steps: Sequence[int],
    values: Sequence[float],
    *,
    level: float,
    tolerance: float,
    sustained: int,
) -> Dip:
    """Return how far the curve fell below a level before it first rose above, and its recovery.

    Only what lies before the recovery is the dip: noise of a late plateau is none.

    Args:
        steps: Step of each evaluation, rising, from 0 right after the change.
        values: Value of each, higher is better.
        level: Value before the change.
        tolerance: Below the level and still recovered.
        sustained: Evaluations in a row that must lie there.

    Raises:
        ParameterError: There are no evaluations.
    """
    back = steps_to(steps, values, target=level - tolerance, sustained=sustained)
    before = [
        (level - value, step)
        for step, value in zip(steps, values, strict=True)
        if step <= back.steps or not back.reached
    ]
    depth, step = max(before, key=lambda pair: pair[0])
    if depth <= 0:
        return Dip(0.0, 0, back.reached, back.steps)
    return Dip(depth, step, back.reached, back.steps)


def area_under(steps: Sequence[float], values: Sequence[float], *, until: float) -> float:
    """Return the mean height of the curve from step 0 to ``until``, by trapezoids.

    Args:
        steps: Step of each evaluation, rising, from 0.
        values: Value of each.
        until: Last step counted, above 0; a curve that ends before it keeps its last value.

    Raises:
        ParameterError: There are no evaluations, or ``until`` is not above 0.
    """
    _require_curve(steps, values)
    if until <= 0:
        raise ParameterError(f"until: got {until}, expected more than 0 steps")
    area, last = 0.0, (steps[0], values[0])
    for step, value in zip(steps[1:], values[1:], strict=True):
        if step > until:
            share = (until - last[0]) / (step - last[0])
            value = last[1] + share * (value - last[1])  # noqa: PLW2901 - cut off at ``until``
            step = until  # noqa: PLW2901
        area += (step - last[0]) * (value + last[1]) / 2
        last = (step, value)
        if step == until:
            break
    area += (until - last[0]) * last[1]
    return area / (until - steps[0]) if until > steps[0] else values[0]


def _require_curve(steps: Sequence[float], values: Sequence[float]) -> None:
    if not steps or len(steps) != len(values):
        raise ParameterError(
            f"curve: got {len(steps)} steps and {len(values)} values, expected as many, and one "
            "or more"
        )
