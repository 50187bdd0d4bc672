"""One readable training loop, with four windows through which a method can look in and act.

A method whose order of events differs writes its own loop in its own ``train.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from relearn.errors import TrainingError
from relearn.training.device import PLAIN_CPU, Device
from relearn.training.progress import progress_bar
from relearn.training.randomness import isolated
from relearn.training.resume import NoResume

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

_STEPS_BETWEEN_CHECKS = 50
"""On a GPU reading the loss waits for it, so that it is looked at only this often."""


class EpochSource(Protocol):
    """What the loop asks of its batches; ``relearn.data.batches.Batches`` offers it."""

    seed: int
    name: str

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        ...

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images and labels in an order that is a function of the epoch's number."""
        ...

    def replay(self, epoch: int) -> None:
        """Note the order of an epoch that was trained before, without making its batches."""
        ...


class Books(Protocol):
    """What a method writes down while it trains, kept in the resume point."""

    def state(self) -> Mapping[str, Any]:
        """Return plain numbers, strings, lists, dicts and tensors."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned."""
        ...


class Keeper(Protocol):
    """Keeps a training while it runs; ``relearn.training.resume.ResumePoint`` and ``NoResume``."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Keep the whole state."""
        ...

    def load(self) -> dict[str, Any] | None:
        """Return what was kept, or None."""
        ...


@dataclass
class LoopState:
    """Where the training stands; each window is given it.

    Attributes:
        model: The net that is trained.
        optimizer: What trains it.
        epoch: Epochs done: the number of the present one, counted from 0, while it runs.
        step: Optimizer steps done.
    """

    model: nn.Module
    optimizer: Optimizer
    epoch: int = 0
    step: int = 0
    last_loss: Tensor | None = None

    @property
    def loss(self) -> float:
        """Loss of the last step, NaN before the first; reading it on a GPU waits for the GPU."""
        return math.nan if self.last_loss is None else float(self.last_loss)


Window = Callable[[LoopState], None]


@dataclass(frozen=True)
class Windows:
    """Four optional callables, called in this order.

    Attributes:
        before_epoch: Before the first batch; ``state.epoch`` epochs are done.
        after_backward: The gradients are there and clipped; ``state.step`` steps are done.
        after_step: The optimizer has stepped; ``state.step`` counts it.
        after_epoch: After the last batch; ``state.epoch`` counts the epoch.
    """

    before_epoch: Window | None = None
    after_backward: Window | None = None
    after_step: Window | None = None
    after_epoch: Window | None = None


def fit(  # noqa: PLR0913 - all but what is trained go by keyword
    model: nn.Module,
    batches: EpochSource,
    loss_fn: Callable[[Any, Tensor], Tensor],
    optimizer: Optimizer,
    *,
    epochs: int,
    windows: Windows = Windows(),
    log: Callable[[int, Mapping[str, float]], None] | None = None,
    resume: Keeper | None = None,
    schedule: LRScheduler | None = None,
    device: Device | None = None,
    max_gradient_norm: float = 0.0,
    progress: str | None = None,
    where: str = "training",
    books: Books | None = None,
) -> LoopState:
    """Train the net in place and return where the training stands.

    A training that was interrupted and goes on from its resume point ends bit for bit (on a CPU)
    where an uninterrupted one ends: order, augmentation and dropout of an epoch are functions of
    (seed, name, epoch) of the batches.

    Args:
        model: The net.
        batches: Yields float images (batch, channels, height, width) and labels (batch,).
        loss_fn: From the net's output and the labels to a scalar.
        optimizer: Trains the parameters of ``model``.
        epochs: Passes over the batches.
        windows: What a method does in between.
        log: ``log(step, {metric: value})`` after each epoch.
        resume: Where the training is kept after each epoch and taken up from.
        schedule: Stepped after each step of the optimizer.
        device: Where and in what precision; None is the CPU in fp32.
        max_gradient_norm: Gradients are scaled down to this norm; 0 = off.
        progress: Text before the progress bar; None shows none.
        where: What is trained, for error messages, such as ``zap: arm iid, seed 0``.
        books: What the method wants kept in the resume point besides.

    Raises:
        TrainingError: The loss is NaN or infinite.
    """
    place, kept = device or PLAIN_CPU, resume or NoResume()
    place.place(model)
    state = LoopState(model, optimizer)
    loop = _Loop(state, loss_fn, schedule, place, windows, max_gradient_norm, where)
    _take_up(kept, state, schedule, books)
    _replay(batches, state.epoch)
    bar = progress_bar(None, progress, total=epochs * batches.steps_per_epoch, initial=state.step)
    with bar:
        for epoch in range(state.epoch, epochs):
            with isolated(batches.seed, f"{batches.name}.noise.{epoch}", place.name):
                mean = loop.epoch(batches.epoch(epoch), bar.update)
                _log_epoch(log, state, mean)
                _open(windows.after_epoch, state)
            kept.save(_to_keep(state, schedule, books))
    return state


def _log_epoch(
    log: Callable[[int, Mapping[str, float]], None] | None, state: LoopState, mean: float
) -> None:
    if log is not None:
        rate = float(state.optimizer.param_groups[0]["lr"])
        log(state.step, {"epoch_loss": mean, "learning_rate": rate})


@dataclass
class _Loop:
    """What one epoch needs."""

    state: LoopState
    loss_fn: Callable[[Any, Tensor], Tensor]
    schedule: LRScheduler | None
    device: Device
    windows: Windows
    max_gradient_norm: float
    where: str

    def epoch(
        self, batches: Iterator[tuple[Tensor, Tensor]], moved: Callable[[int], object]
    ) -> float:
        """Train one epoch and return its mean loss."""
        self.state.model.train()
        _open(self.windows.before_epoch, self.state)
        often = 1 if self.device.name == "cpu" else _STEPS_BETWEEN_CHECKS
        total = torch.zeros((), dtype=torch.float64, device=self.device.name)
        count = 0
        for images, labels in batches:
            total += self._step(images, labels) * len(labels)
            count += len(labels)
            if self.state.step % often == 0:
                self._check(total)
            moved(1)
        self._check(total)
        self.state.epoch += 1
        return float(total) / max(1, count)

    def _step(self, images: Tensor, labels: Tensor) -> Tensor:
        state = self.state
        state.optimizer.zero_grad(set_to_none=True)
        with self.device.autocast():
            output = state.model(self.device.lay_out(images))
        loss = self.loss_fn(output, labels)
        torch.autograd.backward(loss)
        if self.max_gradient_norm > 0:
            torch.nn.utils.clip_grad_norm_(state.model.parameters(), self.max_gradient_norm)
        state.last_loss = loss.detach()
        _open(self.windows.after_backward, state)
        state.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        state.step += 1
        _open(self.windows.after_step, state)
        return state.last_loss

    def _check(self, total: Tensor) -> None:
        """Refuse to go on once a loss was not finite; a sum keeps NaN and infinity."""
        if not math.isfinite(float(total)):
            knobs = f"{self.where.partition(':')[0]}.train"
            raise TrainingError(
                f"{self.where}: the loss became {float(total)} in epoch {self.state.epoch + 1}, "
                f"at or before step {self.state.step}; lower {knobs}.learning_rate, add "
                f"{knobs}.warmup_epochs, or clip with {knobs}.max_gradient_norm"
            )


def _open(window: Window | None, state: LoopState) -> None:
    if window is not None:
        window(state)


def _replay(batches: EpochSource, epochs: int) -> None:
    """Draw the orders of finished epochs again, so that an order digest covers all epochs."""
    for epoch in range(epochs):
        batches.replay(epoch)


def _to_keep(state: LoopState, schedule: LRScheduler | None, books: Books | None) -> dict[str, Any]:
    return {
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": schedule.state_dict() if schedule is not None else None,
        "books": books.state() if books is not None else None,
        "epoch": state.epoch,
        "step": state.step,
    }


def _take_up(
    resume: Keeper,
    state: LoopState,
    schedule: LRScheduler | None,
    books: Books | None,
) -> None:
    found = resume.load()
    if found is None:
        return
    state.model.load_state_dict(found["model"])
    state.optimizer.load_state_dict(found["optimizer"])
    if schedule is not None:
        schedule.load_state_dict(found["schedule"])
    if books is not None:
        books.restore(found["books"])
    state.epoch, state.step = int(found["epoch"]), int(found["step"])
