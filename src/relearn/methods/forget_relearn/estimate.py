"""What one training with one seed will cost: a few steps measured, the rest counted.

Steps of training cost the same whatever the net has learnt, so that they are counted exactly. An
evaluating attack lets go of images that are fooled: ``ALIVE`` is the share that it is taken to work
on, which is the largest uncertainty of the forecast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relearn.methods.forget_relearn.arms import Training, trainings_of
from relearn.methods.forget_relearn.epoch_kinds import Course, course_of
from relearn.methods.forget_relearn.timed_steps import (
    NOTHING,
    Clock,
    Seconds,
    Timed,
    real_clock,
    time_training,
)

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.judging_config import JudgingConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device

ALIVE = 0.6
"""Share of images that an evaluating attack has still to work on, averaged over its steps."""

LOOK = 2.0
"""Clean pass, last pass and reading of the attacked images, in gradients."""

_FAB = 2.0  # gradients of a step of FAB: two logits
_SEVERITIES = 5


@dataclass(frozen=True)
class Estimate:
    """What one training with one seed will cost.

    Attributes:
        train: Optimizer steps with all that belongs to them.
        monitor: Evaluations and pictures while training.
        judge: Judging one delivered model.
        arms: Models that are judged.
        course: What was counted.
        timed: What was measured.
    """

    train: Seconds
    monitor: Seconds
    judge: Seconds
    arms: int
    course: Course
    timed: Timed

    @property
    def training(self) -> Seconds:
        """The training unit: steps and evaluations."""
        return self.train + self.monitor


def estimate(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    device: Device | None = None,
    steps: int = 3,
    clock: Clock = real_clock,
) -> dict[str, Estimate]:
    """Return what each training will cost with one seed, by its name.

    Args:
        base: Architecture and first weights; it keeps every bit.
        stream: Data of all arms.
        config: Knobs of the method.
        device: Where to train; None is the plain CPU.
        steps: Steps timed of each kind.
        clock: Tells the time.

    Raises:
        ParameterError: The run would be refused with these settings.
    """
    found = {}
    for name, training in trainings_of(config).items():
        course = course_of(training, config)
        timed = time_training(
            base,
            stream,
            config,
            training=training,
            kinds=course.epochs,
            steps=steps,
            device=device,
            clock=clock,
        )
        found[name] = _estimate(training, course, timed, config)
    return found


def judging_work(
    judging: JudgingConfig, images: Mapping[str, int], classes: int
) -> dict[str, float]:
    """Return gradients, black-box queries and corrupted images of judging one model.

    Args:
        judging: What is measured.
        images: Split to its number of images.
        classes: Number of classes.
    """
    test = images["test"]
    headline = ALIVE * judging.steps * judging.restarts + LOOK
    measured = test * (1 + judging.transfer) + 2 * min(test, judging.bf16_images)
    gradients = headline * (measured + images["train"] + images["validation"])
    queries = ALIVE * judging.square_queries * min(test, judging.square_images)
    wanted = judging.auto_attack
    if wanted.version != "none":
        standard = wanted.version == "standard"
        few = min(test, wanted.images or test)
        targets = min(9 if standard else 3, classes - 1)
        gradients += ALIVE * few * 100 * (1 + targets * (1 + _FAB * standard))
        queries += ALIVE * few * 5000 * standard
    masking, few = judging.masking, min(test, judging.masking.images)
    if masking.enabled:
        gradients += ALIVE * few * (10 * (1 + masking.restarts) + 2 * masking.steps)
        queries += ALIVE * few * masking.queries
    corrupted = _SEVERITIES * min(test, judging.corruption_images)
    return {"gradients": gradients, "queries": queries, "corrupted": float(corrupted)}


def _estimate(
    training: Training, course: Course, timed: Timed, config: ForgetRelearnConfig
) -> Estimate:
    train = NOTHING
    for kind, epochs in course.epochs.items():
        train += timed.steps[kind] * (epochs * timed.steps_per_epoch)
    monitor = timed.gradient * (
        _watched(course, timed, config) * (ALIVE * config.monitor.steps + LOOK)
    )
    work = judging_work(config.judging, timed.images, timed.classes)
    judge = (
        timed.gradient * work["gradients"]
        + timed.query * work["queries"]
        + (timed.corruption + timed.gradient) * work["corrupted"]
    )
    arms = len(training.deliveries)
    return Estimate(train, monitor, judge, arms=arms, course=course, timed=timed)


def _watched(course: Course, timed: Timed, config: ForgetRelearnConfig) -> int:
    """Return the images that are attacked while training, for curves, recoveries and pictures."""
    monitor, validation = config.monitor, timed.images["validation"]
    few = {name: min(monitor.images or n, n) for name, n in timed.images.items()}
    pictures = course.pictures if monitor.pictures else 0
    return (
        course.evaluations * few["train"]
        + course.validated * validation
        + course.glances * few["validation"]
        + pictures * min(monitor.picture_images, validation)
    )
