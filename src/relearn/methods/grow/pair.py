"""What all arms of one seed share: images, teacher, and what the teacher grows to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relearn.evaluation.records import Log, no_log
from relearn.methods.grow.growing import Grown, grow_teacher
from relearn.methods.grow.samples import Samples, draw_samples
from relearn.methods.grow.teacher import Teacher, train_teacher

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.grow.config import GrowConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device
    from relearn.training.resume import ResumePoint


@dataclass(frozen=True)
class Pair:
    """The common ground of one seed.

    Attributes:
        samples: Its images.
        teacher: At rest.
        grown: The nets of teacher and student, for one arm to train.
        seed: The seed.
    """

    samples: Samples
    teacher: Teacher
    grown: Grown
    seed: int


def samples_of(stream: Stream, config: GrowConfig, *, seed: int) -> Samples:
    """Return the images of one seed, with the teacher's share of them.

    Args:
        stream: Frozen data of all arms.
        config: Knobs of the method.
        seed: The seed.
    """
    trigger = config.growth.trigger
    share = trigger.first_share if trigger.when == "more_data" else 1.0
    return draw_samples(stream, config.samples, seed=seed, first_share=share)


def teach(
    base: Checkpoint,
    stream: Stream,
    config: GrowConfig,
    *,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> Teacher:
    """Return the teacher of one seed.

    Args:
        base: Architecture, and the teacher itself with ``start_from: base``; it keeps every bit.
        stream: Frozen data of all arms.
        config: Knobs of the method.
        seed: The seed.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Raises:
        ParameterError: The net has no width to be set, or the base has other classes.
        TrainingError: The loss is not finite.
    """
    samples = samples_of(stream, config, seed=seed)
    return train_teacher(
        base, samples, stream, config, seed=seed, log=log, resume=resume, device=device
    )


def open_pair(teacher: Teacher, stream: Stream, config: GrowConfig, *, seed: int) -> Pair:
    """Return images, teacher and grown net of one seed, once the gate has opened.

    Args:
        teacher: Of this seed.
        stream: Frozen data of all arms.
        config: Knobs of the method.
        seed: The seed.

    Raises:
        GrowthError: The teacher cannot grow as asked.
        FunctionChangedError: The grown net computes another function.
    """
    samples = samples_of(stream, config, seed=seed)
    return Pair(
        samples, teacher, grow_teacher(teacher.checkpoint, samples, config, seed=seed), seed
    )
