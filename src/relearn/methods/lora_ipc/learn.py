"""Learning one task: optimizer, loss, orthogonality, and the watch over what became important."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.methods.lora_ipc.arms import FULL, PAPER_RULE, TASKWISE
from relearn.methods.lora_ipc.bodies import TaskwiseBody
from relearn.methods.lora_ipc.importance import ImportanceWatch, is_watched
from relearn.methods.lora_ipc.losses import Consolidation, PastLoss, TaskLoss, WithPast
from relearn.methods.lora_ipc.orthogonality import HardOrthogonality, SoftOrthogonality
from relearn.methods.lora_ipc.samples import batches_of
from relearn.training.loop import LoopState, Windows, fit
from relearn.training.optimizers import make_optimizer, make_schedule

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from relearn.data.images import Split

    Kept = list[tuple[nn.Parameter, Tensor, Tensor]]
    Loss = Callable[[Any, Tensor], Tensor]

    from relearn.evaluation.records import Log
    from relearn.methods.lora_ipc.arms import Training
    from relearn.methods.lora_ipc.bodies import Body
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.models.checkpoint import Architecture
    from relearn.training.device import Device


@dataclass(frozen=True)
class Lesson:
    """One task as it is learnt.

    Attributes:
        number: From 0.
        classes: Its labels.
        earlier: Labels of earlier tasks.
        train: Its images, with those of rehearsal where there are some.
        replays: Whether images of earlier classes are among them.
    """

    number: int
    classes: tuple[int, ...]
    earlier: tuple[int, ...]
    train: Split
    replays: bool = False


@dataclass(frozen=True)
class Learnt:
    """What learning a task has told.

    Attributes:
        scores: Importance of each matrix that learns; empty where none was watched.
        steps: Optimizer steps.
        seconds: Of training alone.
        order_digest: Of the sample order.
        loss: Of the last step.
        trained_parameters: Numbers in the optimizer.
    """

    scores: dict[str, float]
    steps: int
    seconds: float
    order_digest: str
    loss: float
    trained_parameters: int


@dataclass(frozen=True)
class Teacher:
    """How tasks are taught; the same for all tasks of a training.

    Attributes:
        training: What is trained, and how.
        config: Knobs.
        architecture: Of the net.
        seed: Seed of the pair.
        device: Where to train.
        log: Live curves.
        holder: Of elastic weight consolidation, where it is asked for.
    """

    training: Training
    config: LoraIpcConfig
    architecture: Architecture
    seed: int
    device: Device
    log: Log
    holder: Consolidation | None = None

    def learn(self, body: Body, lesson: Lesson, *, before: int) -> Learnt:
        """Train the body on one task that it has begun.

        Args:
            body: Changed in place.
            lesson: The task.
            before: Optimizer steps of earlier tasks, for the curves.

        Raises:
            TrainingError: The loss is not finite, or a factor has lost its rank.
        """
        train = self.config.train
        batches = batches_of(
            lesson.train,
            self.architecture,
            train,
            seed=self.seed,
            name=f"lora_ipc.task.{lesson.number}",
            device=self.device.name,
        )
        optimizer = self._optimizer(body)
        steps = train.epochs * batches.steps_per_epoch
        windows, watch = self._windows(body, steps)
        kept = self._rows_to_keep(body, lesson)
        model, loss = self._loss(body, lesson)
        begun = time.perf_counter()
        state = fit(
            model,
            batches,
            loss,
            optimizer,
            epochs=train.epochs,
            windows=windows,
            log=lambda step, values: self.log(before + step, values),
            schedule=make_schedule(
                optimizer,
                name=train.schedule,
                epochs=train.epochs,
                steps_per_epoch=batches.steps_per_epoch,
                warmup_epochs=train.warmup_epochs,
            ),
            device=self.device,
            max_gradient_norm=train.max_gradient_norm,
            where=f"lora_ipc: {self.training.name}, task {lesson.number + 1}, seed {self.seed}",
        )
        seconds = time.perf_counter() - begun
        _put_back(kept)
        return Learnt(
            scores=_scores(watch),
            steps=state.step,
            seconds=seconds,
            order_digest=batches.order_digest,
            loss=state.loss,
            trained_parameters=sum(p.numel() for p in [*body.trained(), *body.omegas()]),
        )

    def task_loss(self, lesson: Lesson) -> TaskLoss:
        """Return the cross-entropy of a task, without what is added to it.

        Args:
            lesson: The task.
        """
        rivals = self.config.rivals
        told = rivals.held_loss if self.training.held_by else rivals.full_loss
        local = self.training.body != FULL or told == "local"
        chosen = lesson.classes if local and not lesson.replays else _both(lesson)
        smoothing = self.config.train.label_smoothing
        outputs = self.architecture.classes
        return TaskLoss(chosen, outputs=outputs, label_smoothing=smoothing)

    @property
    def rate(self) -> float:
        """Learning rate of this training."""
        found = self.config.train.learning_rate
        found *= float(getattr(self.config.rates, self.training.family))
        return found * (self.config.rivals.full_rate if self.training.body == FULL else 1.0)

    @property
    def orthogonality(self) -> str:
        """How modules of different tasks are kept apart; ``off`` where there are none."""
        if self.training.body != TASKWISE:
            return "off"
        return self.training.orthogonality or self.config.orthogonality.mode

    def _optimizer(self, body: Body) -> Optimizer:
        train = self.config.train
        optimizer = make_optimizer(
            body.trained(),
            name=train.optimizer,
            learning_rate=self.rate,
            weight_decay=train.weight_decay,
            momentum=train.momentum,
        )
        omegas = body.omegas()
        if omegas:
            scaled = self.rate * self.config.omega.rate_scale
            optimizer.add_param_group({"params": omegas, "lr": scaled})
        return optimizer

    def _loss(
        self, body: Body, lesson: Lesson
    ) -> tuple[nn.Module, Callable[[Any, Tensor], Tensor]]:
        loss = self.task_loss(lesson)
        weight = self.config.orthogonality.weight
        if self.orthogonality == "soft" and weight and isinstance(body, TaskwiseBody):
            soft = SoftOrthogonality(body.adapters.matrices.values())
            loss.penalties.append(lambda: weight * soft.penalty())
        if self.holder is not None:
            loss.penalties.append(self.holder.penalty)
        if self.training.held_by != "lwf" or not lesson.earlier:
            return body.net, loss
        rivals = self.config.rivals
        held = PastLoss(
            loss, lesson.earlier, weight=rivals.lwf_weight, temperature=rivals.lwf_temperature
        )
        return WithPast(body.net, copy.deepcopy(body.net)), held

    def _windows(self, body: Body, steps: int) -> tuple[Windows, ImportanceWatch | None]:
        """Return what happens after each step, and the watch over the last ones."""
        if not isinstance(body, TaskwiseBody):
            return Windows(), None
        matrices, knobs = body.adapters.matrices.values(), self.config.importance
        hard = HardOrthogonality(matrices) if self.orthogonality == "hard" else None
        watch = None
        if self.training.rule == PAPER_RULE:
            watch = ImportanceWatch(matrices, knobs.rule, (knobs.beta1, knobs.beta2))
        watched = _Watched(watch, steps=steps, window=knobs.window_steps)

        def after_step(state: LoopState) -> None:
            if hard is not None:
                hard.retract()
            watched.before_step(state.step)

        if hard is not None:  # the A that was drawn is not orthonormal yet
            hard.retract()
        watched.before_step(0)
        return Windows(after_step=after_step), watch

    def _rows_to_keep(
        self, body: Body, lesson: Lesson
    ) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
        """Return the rows of the last layer that the local loss must leave alone.

        They have no gradient, but weight decay would shrink them.
        """
        local = set(self.task_loss(lesson).classes.tolist()) == set(lesson.classes)
        if self.holder is not None or self.training.held_by or not local:
            return []
        outputs = self.architecture.classes
        rows = torch.tensor([n for n in range(outputs) if n not in set(lesson.classes)])
        head = body.net.get_submodule(body.head_name)
        return [(p, rows, p.detach()[rows].clone()) for p in head.parameters()] if len(rows) else []


class _Watched:
    """Turns the watch on once the last steps begin."""

    def __init__(self, watch: ImportanceWatch | None, *, steps: int, window: int) -> None:
        self.watch, self.steps, self.window, self.on = watch, steps, window, False

    def before_step(self, step: int) -> None:
        """Turn it on if the step with this number is the first of them."""
        if self.watch is None or self.on:
            return
        if is_watched(step, steps=self.steps, window=self.window):
            self.watch.turn_on()
            self.on = True


def _scores(watch: ImportanceWatch | None) -> dict[str, float]:
    if watch is None:
        return {}
    watch.turn_off()
    return watch.scores()


@torch.no_grad()
def _put_back(kept: Kept) -> None:
    for parameter, rows, values in kept:
        parameter[rows.to(parameter.device)] = values


def _both(lesson: Lesson) -> tuple[int, ...]:
    return (*lesson.earlier, *lesson.classes)


__all__ = ["Learnt", "Lesson", "Teacher"]
