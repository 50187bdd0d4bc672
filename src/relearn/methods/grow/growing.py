"""From a teacher at rest to its grown net: plan, apply, and the gate that must open first."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.batches import to_float
from relearn.data.randomness import seed_of
from relearn.methods.grow.faults import FunctionChangedError
from relearn.methods.grow.planning import plan
from relearn.methods.grow.spec import DepthSpec, GrowthSpec
from relearn.methods.grow.verification import verify
from relearn.methods.grow.widen import apply
from relearn.models.checkpoint import Checkpoint, build
from relearn.models.grown import with_growth

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Split
    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.document import GrowthPlan
    from relearn.methods.grow.growth_config import GateConfig
    from relearn.methods.grow.record import GrowthRecord
    from relearn.methods.grow.report import VerifyReport
    from relearn.methods.grow.samples import Samples
    from relearn.models.checkpoint import Architecture

_SHARES = 1e-12
"""Largest distance from 1 of a sum of shares: float64 rounding, and nothing else."""


@dataclass(frozen=True)
class Grown:
    """A teacher and what it was grown to, before any training.

    Attributes:
        teacher: The teacher's net, on the CPU, in evaluation mode.
        student: The grown net, likewise.
        record: What was done.
        report: What the gate found.
        seconds: Of ``growth`` (plan and apply) and ``verify``.
    """

    teacher: nn.Module
    student: nn.Module
    record: GrowthRecord
    report: VerifyReport
    seconds: dict[str, float]


def spec_of(config: GrowConfig) -> GrowthSpec:
    """Return what the parameters ask for, as the library takes it.

    Args:
        config: Knobs of the method.
    """
    width, depth, copies = config.growth.width, config.growth.depth, config.growth.copies
    layers = tuple(
        DepthSpec(
            place="auto" if path == "auto" else depth.place,
            path="" if path == "auto" else path,
            layers=count,
            kind=depth.kind,
            kernel=depth.kernel,
            norm=depth.norm,
        )
        for path, count in depth.layers.items()
        if count
    )
    return GrowthSpec(
        width=width.factor,
        groups=width.groups,
        multiple_of=width.multiple_of,
        depth=layers,
        mapping=copies.mapping,
        symmetry=copies.symmetry,
        noise=copies.noise,
    )


def plan_teacher(teacher: Checkpoint, samples: Samples, config: GrowConfig) -> GrowthPlan:
    """Return what would grow by how much, what would not and why.

    Args:
        teacher: The net.
        samples: Two of its images are the example that is followed through the net.
        config: Knobs of the method.

    Raises:
        GrowthError: The net cannot be followed, or cannot grow as asked.
    """
    example = inputs_of(samples.train, teacher.architecture, 2)
    return plan(build(teacher), example, spec_of(config))


def grow_teacher(teacher: Checkpoint, samples: Samples, config: GrowConfig, *, seed: int) -> Grown:
    """Return the grown net after the gate has found that it computes the teacher's function.

    Args:
        teacher: The net; it keeps every bit.
        samples: Validation images are compared, training images calibrate new batch norm.
        config: Knobs of the method.
        seed: Seed of the pair; maps and shares are drawn from a door of their own.

    Raises:
        GrowthError: The net cannot grow as asked.
        FunctionChangedError: The gate found another function; nothing is trained.
    """
    begin = time.perf_counter()
    planned = plan_teacher(teacher, samples, config)
    net = build(teacher)
    few = inputs_of(samples.train, teacher.architecture, config.growth.depth.calibration_images)
    student, record = apply(
        net,
        planned,
        seed=seed_of(seed, "grow.copies"),
        calibration=few if planned.depth else None,
    )
    grown_at = time.perf_counter()
    shown = inputs_of(samples.validation, teacher.architecture, config.growth.gate.images)
    report = verify(net, student, shown, record=record, strict=False)
    require_open(report, config.growth.gate, exact=record.exact, seed=seed)
    seconds = {"growth": grown_at - begin, "verify": time.perf_counter() - grown_at}
    return Grown(net, student.eval(), record, report, seconds)


def require_open(report: VerifyReport, gate: GateConfig, *, exact: bool, seed: int) -> None:
    """Check what the gate found against what was said before the run.

    Args:
        report: Differences of teacher and student.
        gate: What they may be.
        exact: Whether the function was to be kept exactly.
        seed: Seed of the pair, for the message.

    Raises:
        FunctionChangedError: One of them is larger; the message names the first bad layer.
    """
    faults = faults_of(report, gate, exact=exact)
    if faults:
        place = report.first_bad_layer
        raise FunctionChangedError(
            f"grow.growth.gate: seed {seed}: the grown net does not compute the teacher's "
            f"function: {'; '.join(faults)}{f'; first at {place}' if place else ''}; nothing was "
            "trained and the teacher is as it was",
            report=report,
            group=place,
        )


def faults_of(report: VerifyReport, gate: GateConfig, *, exact: bool) -> list[str]:
    """Return what is larger than it may be, in words; empty where the gate opens.

    Args:
        report: Differences of teacher and student.
        gate: What they may be.
        exact: Whether the function was to be kept exactly; else the budget of noise holds.
    """
    limit = gate.float64_relative if exact else gate.noise_budget
    found = []
    # negated, so that a NaN is a fault too
    if not report.relative_float64 <= limit:
        found.append(f"float64 difference {report.relative_float64:.1e} (at most {limit:.1e})")
    if exact and not report.rounding_ratio <= gate.float32_factor:
        found.append(
            f"float32 difference {report.rounding_ratio:.1f} times the teacher's rounding "
            f"(at most {gate.float32_factor:g})"
        )
    worst = report.worst_share_error
    if worst is not None and not worst <= _SHARES:
        found.append(f"shares that add up to 1 only within {worst:.1e}")
    return found


def inputs_of(split: Split, architecture: Architecture, count: int) -> Tensor:
    """Return images spread evenly over the split, normalised, float32.

    Args:
        split: Images and labels.
        architecture: Its mean and standard deviation normalise.
        count: Images, fewer where the split has not as many.
    """
    spread = torch.linspace(0, len(split) - 1, min(count, len(split))).long()
    return to_float(split.images[spread], architecture.mean, architecture.std)


def grown_architecture(
    architecture: Architecture, teacher: nn.Module, student: nn.Module, record: GrowthRecord
) -> Architecture:
    """Return the architecture from which the student is made again, by any floor.

    Args:
        architecture: Of the teacher.
        teacher: The net.
        student: What it was grown to.
        record: What was done: which modules were wrapped.
    """
    wrapped = {
        before: now for entry in record.depth for before, now in dict(entry["renamed"]).items()
    }
    return with_growth(architecture, teacher, student, wrapped=wrapped)


def told_of(report: VerifyReport) -> dict[str, Any]:
    """Return the numbers of a report that are the same whenever it is made.

    Args:
        report: What the gate found.
    """
    return {name: value for name, value in report.to_plain().items() if name != "seconds"}
