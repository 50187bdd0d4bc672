"""How long a forward pass takes before and after a growth, measured before anything is kept."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from relearn.data.randomness import generator_of
from relearn.methods.grow.execution import tensors
from relearn.methods.grow.faults import SpecError
from relearn.methods.grow.resting import resting_copy
from relearn.methods.grow.running import stand_in
from relearn.methods.grow.widen import apply

if TYPE_CHECKING:
    from relearn.methods.grow.document import GrowthPlan


def forecast_latency(model: nn.Module, plan: GrowthPlan, *, repeats: int = 5) -> GrowthPlan:
    """Return the plan with the seconds of a forward pass before and after; the net is only read.

    Teacher and student run in turns on the CPU, on noise in the shape of the plan's example, two
    images of it at most. The student is thrown away; another seed gives one of the same shape.

    Args:
        model: The teacher, as it was planned.
        plan: From ``plan``; its digest does not change.
        repeats: Timed passes of each, at least 1, after one that is not; the median counts.

    Raises:
        SpecError: There is nothing to be timed.
        ReplayError: The plan belongs to a network of another architecture.
    """
    if repeats < 1:
        raise SpecError(f"repeats: got {repeats}, expected at least 1")
    args, kwargs = stand_in(plan.inputs)
    noise = generator_of(0, "grow.latency")
    for tensor in tensors(args, kwargs):
        if tensor.is_floating_point():
            tensor.normal_(generator=noise)
    first = next(tensors(args, kwargs), None)
    student, _ = apply(model, plan, seed=0, calibration=first)
    kind = next((p.dtype for p in model.parameters()), torch.float32)
    nets = [resting_copy(net, kind) for net in (model, student)]
    found: list[list[float]] = [[], []]
    for _ in range(repeats + 1):
        for net, seconds in zip(nets, found, strict=True):
            seconds.append(_seconds(net, (args, kwargs)))
    before, after = (statistics.median(seconds[1:]) for seconds in found)
    return dataclasses.replace(
        plan,
        before=dataclasses.replace(plan.before, latency_seconds=before),
        after=dataclasses.replace(plan.after, latency_seconds=after),
    )


def _seconds(net: nn.Module, call: tuple[Any, Any]) -> float:
    begin = time.perf_counter()
    with torch.no_grad():
        net(*call[0], **call[1])
    return time.perf_counter() - begin
