"""Training a net, or its last blocks, with validation after each epoch and the best epoch kept.

What full training, full fine-tuning and every step of unfreezing share. The start counts as an
epoch too, so that what is kept is never worse on the validation images than what was there before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.evaluation.classification import accuracy_of, predict
from relearn.evaluation.efficiency import parameter_count
from relearn.evaluation.records import Log, no_log
from relearn.methods.last_layer_probe.blocks import rate_groups, set_modes
from relearn.training.device import PLAIN_CPU, Device
from relearn.training.loop import Windows, fit
from relearn.training.optimizers import make_optimizer, make_schedule
from relearn.training.supervised import Task

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from relearn.data.images import Split
    from relearn.methods.last_layer_probe.blocks import Thawed
    from relearn.models.architectures import Architecture
    from relearn.training.config import TrainConfig
    from relearn.training.loop import LoopState
    from relearn.training.resume import NoResume, ResumePoint


@dataclass(frozen=True)
class Training:
    """What a net learns from, and how.

    Attributes:
        architecture: Its mean and std normalise the images.
        train: Images and labels that train.
        validation: Images and labels that choose the epoch; never test images.
        settings: Knobs of training.
        seed: Seed of order, augmentation and dropout.
        batch_norm: ``learn``, or ``frozen`` at its running statistics.
        keep: ``best`` keeps the epoch of the highest validation accuracy (then the lowest loss,
            then the first), ``last`` the last one.
        where: For error messages.
    """

    architecture: Architecture
    train: Split
    validation: Split
    settings: TrainConfig
    seed: int
    batch_norm: str = "learn"
    keep: str = "best"
    where: str = "last_layer_probe.trained"


@dataclass(frozen=True)
class Trained:
    """A training that is over; the net holds the kept weights.

    Attributes:
        kept_epoch: Whose weights were kept; 0 is the start.
        epochs: Epochs trained.
        steps: Optimizer steps.
        seconds: Of training, validation left out.
        validation_seconds: Of validation.
        flops: Of training: measured for one image, forward and backward, times images seen.
        trained_parameters: Numbers that were trained.
        validation_accuracy: Of the kept weights, 0 to 1.
        validation_loss: Of the kept weights, nats.
        hits: Whether each validation image is classified rightly, bool, shape (n,).
        order_digest: Of the sample order consumed.
        rows: For each epoch from 0: epoch, step, validation_accuracy, validation_loss.
    """

    kept_epoch: int
    epochs: int
    steps: int
    seconds: float
    validation_seconds: float
    flops: float
    trained_parameters: int
    validation_accuracy: float
    validation_loss: float
    hits: Tensor
    order_digest: str
    rows: tuple[Mapping[str, float], ...]

    def costs(self) -> dict[str, float]:
        """Return what it cost, by metric."""
        return {
            "epochs": float(self.epochs),
            "steps": float(self.steps),
            "train_seconds": self.seconds,
            "validation_seconds": self.validation_seconds,
            "train_flops": self.flops,
            "trained_parameters": float(self.trained_parameters),
        }


def train_net(
    net: nn.Module,
    training: Training,
    thawed: Thawed,
    *,
    device: Device = PLAIN_CPU,
    log: Log = no_log,
    resume: ResumePoint | NoResume | None = None,
    progress: str | None = None,
) -> Trained:
    """Train what is thawed, in place, and leave the net with the kept weights.

    Args:
        net: The net as it starts.
        training: What it learns from, and how.
        thawed: What is trained, and at what rates (``blocks.thaw_last``, ``blocks.thaw_all``).
        device: Where to train.
        log: ``log(step, {metric: value})`` after each epoch.
        resume: Where training is kept while it runs; None keeps nothing.
        progress: Text before the progress bar; None shows none.

    Returns:
        The kept epoch, the curve and the cost.

    Raises:
        ParameterError: ``batch_norm``, the optimizer or the schedule is not known.
        DataError: There are no images.
        TrainingError: The loss is not finite.
    """
    device.place(net)
    run = _Run(net, training, log)
    settings = training.settings
    task = Task(training.architecture, training.train, settings, training.seed)
    batches = task.batches(device)
    optimizer = _optimizer(net, thawed, settings)
    run.judge(0, 0)  # resuming puts the books of the first time in its place
    state = fit(
        net,
        batches,
        task.loss,
        optimizer,
        epochs=settings.epochs,
        windows=Windows(
            before_epoch=lambda at: run.begin(at, thawed),
            after_epoch=run.end,
        ),
        log=log,
        resume=resume,
        schedule=make_schedule(
            optimizer,
            name=settings.schedule,
            epochs=settings.epochs,
            steps_per_epoch=batches.steps_per_epoch,
            warmup_epochs=settings.warmup_epochs,
        ),
        device=device,
        max_gradient_norm=settings.max_gradient_norm,
        progress=progress,
        where=training.where,
        books=run,
    )
    return run.finished(state, batches.order_digest)


def step_flops(net: nn.Module, architecture: Architecture) -> float:
    """Return the FLOPs of one image in a training step: forward, and backward as far as is trained.

    Counted while one step is done in evaluation mode; a multiply-add counts as two.

    Args:
        net: Its gradients are empty afterwards; mode and weights are kept.
        architecture: Shape of the images.
    """
    from torch.utils.flop_counter import FlopCounterMode

    side = architecture.image_size
    device = next(net.parameters()).device
    images = torch.zeros(2, architecture.in_channels, side, side, device=device)
    modes = {module: module.training for module in net.modules()}
    net.eval()
    counter = FlopCounterMode(display=False)
    with torch.enable_grad(), counter:
        torch.autograd.backward(net(images).square().sum())
    net.zero_grad(set_to_none=True)
    for module, mode in modes.items():
        module.training = mode
    return counter.get_total_flops() / len(images)


def _optimizer(net: nn.Module, thawed: Thawed, settings: TrainConfig) -> Optimizer:
    (first, params), *others = rate_groups(net, thawed, settings.learning_rate)
    optimizer = make_optimizer(
        params,
        name=settings.optimizer,
        learning_rate=first,
        weight_decay=settings.weight_decay,
        momentum=settings.momentum,
    )
    for rate, parameters in others:
        optimizer.add_param_group({"params": parameters, "lr": rate})
    return optimizer


class _Run:
    """A net while it is trained: its curve and the best weights so far."""

    def __init__(self, net: nn.Module, training: Training, log: Log) -> None:
        self.net, self.training, self.log = net, training, log
        self.seconds = self.validation_seconds = self.began = 0.0
        self.rows: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.place = -1
        self.flops = step_flops(net, training.architecture)

    def begin(self, state: LoopState, thawed: Thawed) -> None:
        """Set the modes for one epoch."""
        set_modes(state.model, thawed, batch_norm=self.training.batch_norm)
        self.began = time.perf_counter()

    def end(self, state: LoopState) -> None:
        """Judge an epoch."""
        self.seconds += time.perf_counter() - self.began
        self.judge(state.epoch, state.step)

    def judge(self, epoch: int, step: int) -> None:
        """Note accuracy and loss on the validation images, and keep weights that are to be kept."""
        began = time.perf_counter()
        logits, labels = self._logits(), self.training.validation.labels
        loss = torch.nn.functional.cross_entropy(logits.double(), labels)
        row = {
            "epoch": float(epoch),
            "step": float(step),
            "validation_accuracy": accuracy_of(logits, labels),
            "validation_loss": float(loss),
        }
        self.validation_seconds += time.perf_counter() - began
        self.log(step, {name: row[name] for name in ("validation_accuracy", "validation_loss")})
        self.rows.append(row)
        if self.training.keep == "last" or self.place < 0 or _better(row, self.rows[self.place]):
            self.place = epoch
            self.best = {k: v.detach().cpu().clone() for k, v in self.net.state_dict().items()}

    def finished(self, state: LoopState, order_digest: str) -> Trained:
        """Return the training, with the kept weights in the net."""
        self.net.load_state_dict(self.best)
        self.net.eval()
        row = self.rows[self.place]
        return Trained(
            kept_epoch=self.place,
            epochs=state.epoch,
            steps=state.step,
            seconds=self.seconds,
            validation_seconds=self.validation_seconds,
            flops=self.flops * state.epoch * len(self.training.train),
            trained_parameters=parameter_count(self.net),
            validation_accuracy=row["validation_accuracy"],
            validation_loss=row["validation_loss"],
            hits=self._logits().argmax(1) == self.training.validation.labels,
            order_digest=order_digest,
            rows=tuple(self.rows),
        )

    def state(self) -> dict[str, Any]:
        """Return the books for a resume point."""
        return {
            "rows": self.rows,
            "place": self.place,
            "best": self.best,
            "seconds": [self.seconds, self.validation_seconds],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the books kept by ``state``."""
        self.rows = [dict(row) for row in state["rows"]]
        self.place, self.best = int(state["place"]), dict(state["best"])
        self.seconds, self.validation_seconds = map(float, state["seconds"])

    def _logits(self) -> Tensor:
        architecture = self.training.architecture
        images = self.training.validation.images
        return predict(self.net, images, mean=architecture.mean, std=architecture.std).cpu()


def _better(row: Mapping[str, float], than: Mapping[str, float]) -> bool:
    def rank(of: Mapping[str, float]) -> tuple[float, float]:
        return of["validation_accuracy"], -of["validation_loss"]

    return rank(row) > rank(than)
