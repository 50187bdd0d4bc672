"""What an arm begins with: net, optimizer, and the ledger's row where weights were changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from relearn.data.randomness import seed_of
from relearn.methods.grow.arms import GROWN, LAYERS, PADDED, TEACHER, rate_factor
from relearn.methods.grow.controls import random_layers, random_pad
from relearn.methods.grow.fresh import fresh_student
from relearn.methods.grow.growing import grown_architecture
from relearn.methods.grow.ledger import entry_of
from relearn.methods.grow.optimizer_state import transfer_optimizer
from relearn.methods.grow.teacher import optimizer_of

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from relearn.evaluation.records import Intervention
    from relearn.methods.grow.arms import Arm
    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.growing import Grown
    from relearn.methods.grow.teacher import Teacher
    from relearn.models.checkpoint import Architecture
    from relearn.training.device import Device


@dataclass
class Start:
    """An arm before its first step.

    Attributes:
        net: On its device, in training mode.
        optimizer: Trains all its weights, with the teacher's moments where they are kept.
        architecture: From which the net is made again.
        interventions: One row where weights were changed outside the optimizer.
        facts: JSON for the checkpoint's provenance.
    """

    net: nn.Module
    optimizer: Optimizer
    architecture: Architecture
    interventions: list[Intervention] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def start_of(
    arm: Arm, teacher: Teacher, grown: Grown, config: GrowConfig, *, seed: int, device: Device
) -> Start:
    """Return what the arm begins with.

    Args:
        arm: Says where its net comes from.
        teacher: Its optimizer's state is carried over or kept.
        grown: The grown net, whose shape all arms but the teacher have.
        config: Knobs of the method.
        seed: Seed of the pair.
        device: Where it is trained.
    """
    before = teacher.checkpoint.architecture
    rate = config.train.learning_rate * rate_factor(config, arm.name)
    if arm.start == TEACHER:
        net = device.place(grown.teacher.train())
        optimizer = optimizer_of(net, config.train, rate)
        if config.growth.keep_moments and teacher.optimizer:
            take_moments(optimizer, teacher.optimizer)
        return Start(net, optimizer, before)
    drawn = grown.record.seed if arm.start == GROWN else seed_of(seed, f"grow.{arm.start}")
    net, architecture = _net_of(arm, grown, before, seed=drawn)
    device.place(net.train())
    start = Start(net, optimizer_of(net, config.train, rate), architecture)
    if arm.start == GROWN and config.growth.keep_moments and teacher.optimizer:
        start.optimizer = _transferred(teacher, grown, start, device)
    if arm.treated:
        row = {"arm": arm.name, "seed": seed, "step": 0, "epoch": 0}
        start.interventions = [entry_of(arm, teacher, grown, net, row=row, seed=drawn)]
        start.facts = {"growth_record": grown.record.to_plain(), "teacher": asdict(before)}
    return start


def take_moments(optimizer: Optimizer, state: Any) -> None:
    """Load moments by number of the parameter, and keep the optimizer's own rates.

    Args:
        optimizer: For a net of the same parameters in the same order.
        state: The ``state`` of another optimizer's state dict.
    """
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": dict(state), "param_groups": groups})


def _net_of(
    arm: Arm, grown: Grown, before: Architecture, *, seed: int
) -> tuple[nn.Module, Architecture]:
    """Return the net of an arm that has the student's shape, and its architecture."""
    after = grown_architecture(before, grown.teacher, grown.student, grown.record)
    if arm.start == GROWN:
        return grown.student, after
    if arm.start == PADDED:
        return random_pad(grown.teacher, grown.record, seed=seed), after
    if arm.start == LAYERS:
        return random_layers(grown.teacher, grown.record, seed=seed), after
    return fresh_student(before, after, grown.student, seed=seed)


def _transferred(teacher: Teacher, grown: Grown, start: Start, device: Device) -> Optimizer:
    """Return an optimizer of the start's kind and rate with the teacher's moments, widened."""
    wise = device.place(grown.teacher)
    fresh = start.optimizer.state_dict()["param_groups"][0]
    settings = {name: value for name, value in fresh.items() if name != "params"}
    old = type(start.optimizer)(wise.parameters(), **settings)
    take_moments(old, teacher.optimizer)
    return transfer_optimizer(old, start.net, grown.record, teacher=wise)


__all__ = ["Start", "start_of", "take_moments"]
