"""The teacher: trained for each seed, or the base checkpoint as it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from relearn.errors import ParameterError
from relearn.evaluation.classification import accuracy_of, predict
from relearn.evaluation.efficiency import Stopwatch, forward_flops
from relearn.evaluation.records import Log, no_log
from relearn.methods.grow.samples import batches_of
from relearn.methods.grow.stopping import Plateau, Stopped
from relearn.models.checkpoint import Architecture, Checkpoint, build, build_fresh, capture
from relearn.provenance import digest
from relearn.training.device import Device, open_device
from relearn.training.loop import Windows, fit
from relearn.training.optimizers import make_optimizer, make_schedule

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from relearn.data.images import Split, Stream
    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.samples import Samples
    from relearn.training.config import TrainConfig
    from relearn.training.loop import LoopState
    from relearn.training.resume import ResumePoint

TRAINING_PASSES = 3
"""A training step takes about three times the FLOPs of a forward pass: backward takes two."""


@dataclass(frozen=True)
class Teacher:
    """A trained teacher at rest.

    Attributes:
        checkpoint: The net.
        optimizer: State of its optimizer by number of the parameter; empty where there is none.
        told: Plain numbers: epochs, steps, seconds, flops (of all its training), plateau_epoch (-1
            none), train_accuracy, validation_accuracy, validation_loss, and rows of its curve.
    """

    checkpoint: Checkpoint
    optimizer: Mapping[int, Any]
    told: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """Return optimizer and numbers as a nested state that a file can hold."""
        return {"optimizer": dict(self.optimizer), "told": dict(self.told)}


def train_teacher(
    base: Checkpoint,
    samples: Samples,
    stream: Stream,
    config: GrowConfig,
    *,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> Teacher:
    """Return the teacher of one seed, trained to the end of its epochs or to its plateau.

    Args:
        base: Architecture, and the teacher itself with ``start_from: base``; it keeps every bit.
        samples: Images of the seed; the teacher learns from ``first``.
        stream: Only named in the teacher's provenance.
        config: Knobs of the method.
        seed: Seed of the pair.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Raises:
        ParameterError: The architecture has no width to be set.
        TrainingError: The loss is not finite.
    """
    run = _TeacherRun(base, samples, config, seed=seed, device=device, log=log)
    if config.start_from == "initialisation":
        run.train(resume)
    return run.finished(stream)


def teacher_architecture(base: Checkpoint, config: GrowConfig, classes: int) -> Architecture:
    """Return the teacher's architecture: that of the base, with ``teacher.width``.

    Args:
        base: The base checkpoint.
        config: Knobs of the method.
        classes: Number of classes.

    Raises:
        ParameterError: The net has no such option, or the base was made for other classes.
    """
    architecture = base.architecture
    if config.start_from == "base" and architecture.classes != classes:
        raise ParameterError(
            f"grow.start_from: the base has {architecture.classes} outputs and the images "
            f"{classes} classes; use start_from: initialisation"
        )
    options = dict(architecture.options)
    if config.teacher.width:
        if "width" not in options:
            raise ParameterError(
                f"grow.teacher.width: {architecture.name} has no width to set; use 0 (the net of "
                "pretrain.model as it is)"
            )
        options["width"] = config.teacher.width
    return replace(architecture, options=options, classes=classes)


class _TeacherRun:
    """The teacher while it is trained."""

    def __init__(
        self,
        base: Checkpoint,
        samples: Samples,
        config: GrowConfig,
        *,
        seed: int,
        device: Device | None,
        log: Log,
    ) -> None:
        self.config, self.samples, self.seed, self.log = config, samples, seed, log
        self.settings: TrainConfig = config.teacher.train
        self.device = device or open_device("cpu", "fp32")
        self.architecture = teacher_architecture(base, config, samples.classes)
        given = config.start_from == "base"
        net = build(base) if given else build_fresh(self.architecture, seed=seed)
        self.net: nn.Module = self.device.place(net.train())
        trigger = config.growth.trigger
        waits = trigger.when == "plateau"
        self.plateau = Plateau(
            patience=trigger.plateau.patience if waits else 0,
            smallest_gain=trigger.plateau.smallest_gain,
        )
        self.rows: list[dict[str, float]] = []
        self.optimizer: Optimizer | None = None
        self.watch = Stopwatch()
        self.epochs = self.steps = 0

    def train(self, resume: ResumePoint | None) -> None:
        """Train until the epochs are over or validation accuracy stands still."""
        train = self.settings
        name = self.device.name
        batches = batches_of(
            self.samples.first,
            self.architecture,
            train,
            seed=self.seed,
            name="teacher",
            device=name,
        )
        self.optimizer = optimizer_of(self.net, train, train.learning_rate)
        schedule = make_schedule(
            self.optimizer,
            name=train.schedule,
            epochs=train.epochs,
            steps_per_epoch=batches.steps_per_epoch,
            warmup_epochs=train.warmup_epochs,
        )
        with self.watch("train"), suppress(Stopped):
            fit(
                self.net,
                batches,
                self._loss,
                self.optimizer,
                epochs=train.epochs,
                windows=Windows(after_epoch=self._after_epoch),
                log=self.log,
                resume=resume,
                schedule=schedule,
                device=self.device,
                max_gradient_norm=train.max_gradient_norm,
                progress=f"grow: teacher, seed {self.seed}",
                where=f"grow.teacher: seed {self.seed}",
                books=self,
            )

    def finished(self, stream: Stream) -> Teacher:
        """Return the teacher as it stands."""
        accuracy, loss = score(self.net, self.samples.validation, self.architecture)
        flops = forward_flops(self.net, shape_of(self.architecture))
        seen = self.epochs * len(self.samples.first)
        told = {
            "epochs": self.epochs,
            "steps": self.steps,
            "seconds": self.watch.seconds.get("train", 0.0),
            "validation_seconds": self.watch.seconds.get("validation", 0.0),
            "flops": TRAINING_PASSES * flops * seen,
            "forward_flops": flops,
            "plateau_epoch": self.plateau.reached,
            "train_accuracy": score(self.net, self.samples.first, self.architecture)[0],
            "validation_accuracy": accuracy,
            "validation_loss": loss,
            "rows": self.rows,
        }
        made = {
            "method": "grow",
            "arm": "teacher",
            "seed": self.seed,
            "config": digest(
                [self.config.teacher, self.config.samples, self.config.growth.trigger]
            ),
            "stream": stream.digest,
            "steps": self.steps,
            "class_names": list(self.samples.class_names),
            "class_numbers": [int(c) for c in self.samples.class_numbers],
        }
        checkpoint = capture(self.net, self.architecture, made)
        state = self.optimizer.state_dict()["state"] if self.optimizer else {}
        return Teacher(checkpoint, state, told)

    def state(self) -> dict[str, Any]:
        """Return the books for a resume point."""
        return {
            "rows": self.rows,
            "plateau": self.plateau.state(),
            "seconds": self.watch.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the books kept by ``state``."""
        self.rows = [dict(row) for row in state["rows"]]
        self.plateau.restore(state["plateau"])
        self.watch.seconds = dict(state["seconds"])
        if self.rows:
            self.epochs, self.steps = (int(self.rows[-1][name]) for name in ("epoch", "step"))

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.settings.label_smoothing
        return torch.nn.functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)

    def _after_epoch(self, state: LoopState) -> None:
        self.epochs, self.steps = state.epoch, state.step
        with self.watch("validation"):
            accuracy, loss = score(self.net, self.samples.validation, self.architecture)
        row = {
            "epoch": float(state.epoch),
            "step": float(state.step),
            "validation_accuracy": accuracy,
            "validation_loss": loss,
        }
        self.rows.append(row)
        self.log(
            state.step, {name: row[name] for name in ("validation_accuracy", "validation_loss")}
        )
        if self.plateau.stands_still(accuracy, state.epoch):
            raise Stopped


def score(net: nn.Module, split: Split, architecture: Architecture) -> tuple[float, float]:
    """Return accuracy, 0 to 1, and mean cross-entropy in nats of a net on a split.

    Args:
        net: The net; its mode is kept.
        split: Images and labels.
        architecture: Its mean and standard deviation normalise the images.
    """
    logits = predict(net, split.images, mean=architecture.mean, std=architecture.std).cpu()
    loss = torch.nn.functional.cross_entropy(logits.double(), split.labels)
    return accuracy_of(logits, split.labels), float(loss)


def shape_of(architecture: Architecture) -> tuple[int, int, int]:
    """Return (channels, height, width) of the images that a net takes."""
    return architecture.in_channels, architecture.image_size, architecture.image_size


def optimizer_of(net: nn.Module, train: TrainConfig, rate: float) -> Optimizer:
    """Return a fresh optimizer for all weights of a net.

    Args:
        net: What is trained.
        train: Kind, decay and momentum.
        rate: Highest learning rate.
    """
    return make_optimizer(
        net.parameters(),
        name=train.optimizer,
        learning_rate=rate,
        weight_decay=train.weight_decay,
        momentum=train.momentum,
    )
