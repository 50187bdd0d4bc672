"""A few steps of each kind, timed: what a training costs before it is run.

Nets of its own take a few steps of size zero and are thrown away; no weight that is handed in and
no global random number changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import torch

from relearn.data.ball import Ball
from relearn.data.corruptions import corrupt, names_for
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import BATCH, robust_mask, to_pixels
from relearn.evaluation.attacks.square import Square
from relearn.evaluation.attacks.white_box import logits_at, measuring
from relearn.evaluation.efficiency import peak_memory_bytes
from relearn.methods.forget_relearn.cycle import Cycle
from relearn.methods.forget_relearn.run import attack_of, open_session
from relearn.methods.forget_relearn.triggers import RELEARNING
from relearn.training.adversarial import AdversarialBatches, AdversarialLoss
from relearn.training.device import PLAIN_CPU, Device
from relearn.training.loop import LoopState, Windows, fit
from relearn.training.optimizers import make_optimizer
from relearn.training.randomness import isolated
from relearn.training.weight_perturbation import WeightPerturbation

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.batches import Batches
    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.arms import Training
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.epoch_kinds import StepKind
    from relearn.methods.forget_relearn.session import Session
    from relearn.models.checkpoint import Checkpoint

_UNMOVED = 1e-9  # radius in which no image is fooled, so that an attack is timed to its end
_QUERIES, _CORRUPTED, _SEVERITY = 8, 16, 3


@dataclass(frozen=True)
class Seconds:
    """Time on the wall and of the processor.

    Attributes:
        wall: Seconds that pass.
        cpu: Seconds of all threads of this process.
    """

    wall: float
    cpu: float

    def __add__(self, other: Seconds) -> Seconds:
        """Return both together."""
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)

    def __mul__(self, times: float) -> Seconds:
        """Return so many times as much."""
        return Seconds(self.wall * times, self.cpu * times)


NOTHING = Seconds(0.0, 0.0)
Clock = Callable[[], Seconds]


def real_clock() -> Seconds:
    """Return what the clocks of wall and processor show now."""
    return Seconds(time.perf_counter(), time.process_time())


@dataclass(frozen=True)
class Timed:
    """What was measured for one training.

    Attributes:
        steps: Seconds of one step of each kind.
        gradient: Seconds of one gradient of an evaluating attack for one image, in fp32.
        query: Seconds of one query of the black-box attack for one image.
        corruption: Seconds of corrupting one image in every way, once.
        steps_per_epoch: Optimizer steps of an epoch.
        images: Split to its number of images.
        classes: Number of classes.
        peak_memory_bytes: Of the device, or of this process on a CPU.
    """

    steps: dict[StepKind, Seconds]
    gradient: Seconds
    query: Seconds
    corruption: Seconds
    steps_per_epoch: int
    images: dict[str, int]
    classes: int
    peak_memory_bytes: int


def time_training(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    training: Training,
    kinds: Iterable[StepKind],
    steps: int = 3,
    device: Device | None = None,
    clock: Clock = real_clock,
) -> Timed:
    """Return the seconds of a few steps of every kind that the training has, and of the attacks.

    Args:
        base: Architecture and first weights; it keeps every bit.
        stream: Data of all arms.
        config: Knobs of the method.
        training: What is done.
        kinds: Of step.
        steps: Steps timed of each kind, after one that is not timed.
        device: Where to train; None is the plain CPU.
        clock: Tells the time; another one makes tests exact.

    Raises:
        ParameterError: The training could not be run with these settings.
    """
    place = device or PLAIN_CPU
    with isolated(0, "forget_relearn.forecast", place.name):
        session = open_session(base, stream, config, training=training, seed=0, device=place)
        stand = _Stand(session, clock)
        splits = {name: getattr(session.samples, name) for name in ("train", "validation", "test")}
        few = splits["validation"].images[:BATCH]
        attack = Pgd(step_size=_UNMOVED, steps=steps)
        return Timed(
            steps={kind: stand.step(kind, steps) for kind in sorted(kinds)},
            gradient=stand.attack(few, attack) * (1 / (steps * len(few))),
            query=stand.attack(few, Square(_QUERIES)) * (1 / (_QUERIES * len(few))),
            corruption=stand.corruption(few[:_CORRUPTED]),
            steps_per_epoch=session.batches.steps_per_epoch,
            images={name: len(split) for name, split in splits.items()},
            classes=session.samples.classes,
            peak_memory_bytes=peak_memory_bytes(place.name),
        )


class _Few:
    """So many first batches, going on into the next epochs where one is too short, as one epoch."""

    def __init__(self, inner: Batches, steps: int) -> None:
        self.inner, self.steps_per_epoch = inner, steps
        self.seed, self.name, self.order_digest = inner.seed, inner.name, ""

    def replay(self, epoch: int) -> None:
        self.inner.replay(epoch)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        numbers = range(epoch, epoch + self.steps_per_epoch)  # an epoch has one batch at least
        batches = (batch for number in numbers for batch in self.inner.epoch(number))
        return islice(batches, self.steps_per_epoch)


class _Stand:
    """Where steps and attacks are timed.

    Args:
        session: A training of its own.
        clock: Tells the time.
    """

    def __init__(self, session: Session, clock: Clock) -> None:
        self.session, self.clock = session, clock

    def step(self, kind: StepKind, steps: int) -> Seconds:
        """Return the mean time of a step of this kind, with all parts of the real training."""
        session, knobs = self.session, self.session.config.train
        cycle = self._cycle(kind)
        batches = AdversarialBatches(
            _Few(session.batches, steps + 1),
            session.net,
            attack=attack_of(session),
            loss=cycle.adversarial,
            device=session.device,
            after_attack=cycle.after_attack,
            weights=WeightPerturbation(session.config.awp.gamma) if kind.perturbed else None,
        )
        optimizer = make_optimizer(
            session.net.parameters(),
            name=knobs.optimizer,
            learning_rate=0.0,  # a step that moves nothing cannot diverge
            weight_decay=knobs.weight_decay,
            momentum=knobs.momentum,
        )
        seen: list[Seconds] = []

        def after_step(state: LoopState) -> None:
            cycle.after_step(state)
            seen.append(self._now())

        fit(
            session.net,
            batches,
            cycle.loss,
            optimizer,
            epochs=1,
            windows=Windows(after_backward=batches.after_backward, after_step=after_step),
            device=session.device,
            max_gradient_norm=knobs.max_gradient_norm,
            where=session.where,
        )
        return (seen[-1] + seen[0] * -1) * (1 / steps)

    def attack(self, images: Tensor, attack: Pgd | Square) -> Seconds:
        """Return the time of an attack on all images that fools none and so goes to its end."""
        net, ball = self.session.net, Ball(self.session.config.attack.norm, _UNMOVED)
        with measuring(net):
            labels = logits_at(net, to_pixels(images, net)).argmax(1).cpu()
        begin = self._now()
        robust_mask(net, images, labels, attack=attack, ball=ball, seed=0)
        return self._now() + begin * -1

    def corruption(self, images: Tensor) -> Seconds:
        """Return the time of corrupting one image in every way, once."""
        if not self.session.config.judging.corruption_images:
            return NOTHING
        begin = self._now()
        for name in names_for(int(images.shape[1])):
            corrupt(images, name, _SEVERITY, seed=0)
        return (self._now() + begin * -1) * (1 / len(images))

    def _cycle(self, kind: StepKind) -> Cycle:
        """Return a cycle in the middle of the wanted phase."""
        session, told = self.session, self.session.config.loss
        session.begin_average()
        session.begin_stable()
        session.average = session.average if kind.averaged else None
        loss = AdversarialLoss(told.name, told.trades_beta, told.fgsm_step_factor)
        cycle = Cycle(session, loss, pictures=None)
        cycle.phase = RELEARNING if kind.held else "warmup"
        cycle.consolidating = kind.consolidating
        return cycle

    def _now(self) -> Seconds:
        if self.session.device.name.startswith("cuda"):
            torch.cuda.synchronize(self.session.device.name)
        return self.clock()
