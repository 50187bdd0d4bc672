"""What the epochs of a training consist of, known before it is run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from relearn.methods.forget_relearn.triggers import RELEARNING, Trigger

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.arms import Training
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.cycle_config import CycleConfig


@dataclass(frozen=True, order=True)
class StepKind:
    """What a step does beside the adversarial step itself.

    Attributes:
        averaged: The moving average takes the net up.
        perturbed: The weights are perturbed adversarially.
        held: The stable model answers for the batch, and the student is held to it.
        consolidating: The stable model takes the net up.
    """

    averaged: bool = False
    perturbed: bool = False
    held: bool = False
    consolidating: bool = False

    @property
    def name(self) -> str:
        """The parts joined by ``+``; ``plain`` where there is none."""
        return "+".join(name for name, on in vars(self).items() if on) or "plain"


@dataclass
class Course:
    """How a training will run.

    Attributes:
        epochs: Kind of step to the number of epochs that consist of it.
        forgettings: How often it forgets.
        evaluations: How often all models are evaluated.
        validated: Models that are evaluated on validation images, summed over the evaluations.
        glances: Evaluations of the student alone, around forgettings.
        pictures: Before and after pictures, where they are wanted.
    """

    epochs: Counter[StepKind] = field(default_factory=Counter)
    forgettings: int = 0
    evaluations: int = 0
    validated: int = 0
    glances: int = 0
    pictures: int = 0


def course_of(training: Training, config: ForgetRelearnConfig) -> Course:
    """Return how a training will run, epoch by epoch as the cycle goes.

    Args:
        training: What is done. A trigger that looks at the training counts as forgetting as often
            as it may, and a recovery as taking the whole of relearning: the course is the longest.
        config: Knobs of the method.
    """
    course, epochs = Course(), config.train.epochs
    trigger = Trigger(_earliest(training, config), epochs=epochs)
    for epoch in range(epochs):
        if training.treated and trigger.due(epoch) is not None:
            known = int(trigger.relearnt(epoch))  # what the last relearning ended with
            trigger.forgot(epoch)
            course.forgettings += 1
            course.glances += 2 - known + trigger.config.relearn_epochs
            course.pictures += 3 - known
        course.epochs[_kind(training, config, trigger, epoch)] += 1
        done = epoch + 1
        relearnt = training.treated and trigger.relearnt(done)
        if done % config.monitor.every_epochs == 0 or done == epochs or relearnt:
            course.evaluations += 1
            course.validated += 1 + _others(training, config, trigger, epoch)
    return course


def _kind(
    training: Training, config: ForgetRelearnConfig, trigger: Trigger, epoch: int
) -> StepKind:
    relearn = training.relearn
    holds = training.stable and relearn.consistency != "none" and relearn.weight > 0
    return StepKind(
        averaged=training.average and epoch >= config.average.from_epoch,
        perturbed=training.perturbed and epoch >= config.awp.warmup_epochs,
        held=holds and training.treated and trigger.phase(epoch) == RELEARNING,
        consolidating=training.stable and trigger.consolidates(epoch),
    )


def _others(training: Training, config: ForgetRelearnConfig, trigger: Trigger, epoch: int) -> int:
    """Return how many models there are beside the student."""
    average = training.average and epoch >= config.average.from_epoch
    stable = training.stable and epoch >= trigger.config.warmup_epochs
    return int(average) + int(stable)


def _earliest(training: Training, config: ForgetRelearnConfig) -> CycleConfig:
    """Return the cycle with its epochs known beforehand: forgetting as often as it may."""
    cycle = training.cycle or config.cycle
    if cycle.trigger in ("interval", "list"):
        return cycle
    return cycle.model_copy(update={"trigger": "interval", "every_epochs": cycle.relearn_epochs})
