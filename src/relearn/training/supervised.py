"""Plain supervised training of a classifier on images in memory: what pre-training consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.data.batches import Batches
from relearn.training.averaging import WeightAverage
from relearn.training.loop import EpochSource, LoopState, Windows, fit
from relearn.training.optimizers import make_optimizer, make_schedule

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from relearn.data.images import Split
    from relearn.models.checkpoint import Architecture
    from relearn.training.config import TrainConfig
    from relearn.training.device import Device
    from relearn.training.loop import Books
    from relearn.training.resume import NoResume, ResumePoint


@dataclass(frozen=True)
class Task:
    """What is learnt and how.

    Attributes:
        architecture: Of the net; its mean and std normalise the images.
        split: Images and labels 0 to classes - 1.
        train: Knobs of training.
        seed: Seed of order, augmentation and dropout.
        average_decay: Decay of a moving average of the weights; 0 = none.
        where: For error messages.
    """

    architecture: Architecture
    split: Split
    train: TrainConfig
    seed: int
    average_decay: float = 0.0
    where: str = "pretrain"

    def batches(self, device: Device) -> Batches:
        """Return the shuffled and augmented batches, which lie on the device.

        Args:
            device: Where to train.
        """
        return Batches(
            self.split.images,
            self.split.labels,
            batch_size=self.train.batch_size,
            seed=self.seed,
            mean=self.architecture.mean,
            std=self.architecture.std,
            shift=self.train.shift_pixels,
            flip=self.train.flip,
            device=device.name,
        )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy, in fp32 whatever the precision of the logits.

        Args:
            logits: Shape (batch, classes).
            labels: int64, shape (batch,).
        """
        return torch.nn.functional.cross_entropy(
            logits.float(), labels, label_smoothing=self.train.label_smoothing
        )


def train_classifier(  # noqa: PLR0913 - all but what is trained go by keyword
    net: nn.Module,
    task: Task,
    *,
    device: Device,
    batches: EpochSource | None = None,
    loss_fn: Callable[[Any, Tensor], Tensor] | None = None,
    after_epoch: Callable[[LoopState], None] | None = None,
    books: Books | None = None,
    log: Callable[[int, Mapping[str, float]], None] | None = None,
    resume: ResumePoint | NoResume | None = None,
    progress: str | None = None,
) -> LoopState:
    """Train the net in place; where an average is kept, the net ends with the averaged weights.

    ``after_epoch`` sees the averaged weights too, since they are those that are kept.

    Args:
        net: Gives a logit for each class.
        task: What is learnt and how.
        device: Where and in what precision.
        batches: In place of the task's own, such as the share of one of several devices.
        loss_fn: In place of the task's own.
        after_epoch: Called after each epoch, such as to validate.
        books: What the caller wants kept in the resume point.
        log: ``log(step, {metric: value})``.
        resume: Where training is kept after each epoch.
        progress: Text before the progress bar; None shows none.

    Raises:
        TrainingError: The loss is NaN or infinite.
    """
    device.place(net)
    source = batches or task.batches(device)
    train = task.train
    optimizer = _optimizer_of(net, train)
    schedule = make_schedule(
        optimizer,
        name=train.schedule,
        epochs=train.epochs,
        steps_per_epoch=source.steps_per_epoch,
        warmup_epochs=train.warmup_epochs,
    )
    kept = _Kept(WeightAverage(net, task.average_decay) if task.average_decay else None, books)
    state = fit(
        net,
        source,
        loss_fn or task.loss,
        optimizer,
        epochs=train.epochs,
        windows=Windows(
            after_step=kept.average.after_step if kept.average else None,
            after_epoch=kept.judged(after_epoch) if after_epoch else None,
        ),
        log=log,
        resume=resume,
        schedule=schedule,
        device=device,
        max_gradient_norm=train.max_gradient_norm,
        progress=progress,
        where=task.where,
        books=kept,
    )
    if kept.average is not None:
        net.load_state_dict(kept.average.average)
    return state


def _optimizer_of(net: nn.Module, train: TrainConfig) -> Optimizer:
    return make_optimizer(
        net.parameters(),
        name=train.optimizer,
        learning_rate=train.learning_rate,
        weight_decay=train.weight_decay,
        momentum=train.momentum,
    )


@dataclass(frozen=True)
class _Kept:
    """The average and the caller's books, as one entry of the resume point."""

    average: WeightAverage | None
    books: Books | None

    def judged(self, after_epoch: Callable[[LoopState], None]) -> Callable[[LoopState], None]:
        """Return ``after_epoch`` with the averaged weights held in the net meanwhile."""
        average = self.average
        if average is None:
            return after_epoch

        def with_average(state: LoopState) -> None:
            with average.swapped_in(state.model):
                after_epoch(state)

        return with_average

    def state(self) -> dict[str, Any]:
        """Return both, None for what there is not."""
        return {
            "average": self.average.state() if self.average else None,
            "books": dict(self.books.state()) if self.books else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up both."""
        if self.average is not None:
            self.average.restore(state["average"])
        if self.books is not None:
            self.books.restore(state["books"])
