"""One arm with one seed while it trains: net, data, and the books that are kept about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from relearn.data import augment
from relearn.data.batches import to_float
from relearn.errors import DataError
from relearn.evaluation.classification import accuracy_of, predict
from relearn.evaluation.efficiency import Stopwatch
from relearn.evaluation.records import Intervention, Log, Record, Recorder
from relearn.methods.zap.ledger import Changer
from relearn.methods.zap.monitor import ResetMonitor
from relearn.methods.zap.policy import Due, Policy
from relearn.models.checkpoint import build, build_fresh
from relearn.models.heads import find_head

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn
    from torch.optim import Optimizer

    from relearn.data.images import Stream
    from relearn.methods.zap.arms import Arm
    from relearn.methods.zap.config import ZapConfig
    from relearn.models.checkpoint import Architecture, Checkpoint
    from relearn.training.device import Device

_CURVE_EVERY = 10  # steps between points of the live training curve


class Session:
    """Everything that changes while one arm trains.

    Args:
        base: Architecture, and weights where ``start_from`` is ``base``; it keeps every bit.
        stream: Data of all arms.
        config: Knobs of the method.
        arm: What is done.
        seed: Seed of the pair.
        device: Where to train.
        log: Live curves.
    """

    def __init__(
        self,
        base: Checkpoint,
        stream: Stream,
        config: ZapConfig,
        *,
        arm: Arm,
        seed: int,
        device: Device,
        log: Log,
    ) -> None:
        self.config, self.arm, self.seed, self.train = config, arm, seed, config.train
        self.device, self.log = device, log
        self.base_classes = stream.split("train").classes
        self.pixels = stream.split("train").of_classes(self.base_classes)
        held_out = stream.splits.get("validation")
        self.held_out = held_out.of_classes(self.base_classes) if held_out else None
        self.architecture = _architecture(base, config, len(self.base_classes))
        self.model = device.place(self._start(base).train())
        self.head = find_head(self.model, config.head)
        self.recorder = Recorder("zap", arm.name, seed)
        self.monitor = ResetMonitor(
            window=config.monitor.window,
            tolerance=config.monitor.tolerance,
            gradient_every=config.monitor.gradient_every,
        )
        self.policy = Policy(arm.policy)
        self.changer = Changer(arm, seed=seed, architecture=self.architecture, sham=config.sham)
        self.watch = Stopwatch()
        self.steps = self.extra_steps = 0
        self.order_digest = ""
        self.where = f"zap: arm {arm.name}, seed {seed}"
        self._losses: list[float] = []
        self._hits: list[float] = []
        self._accuracy = 0.0

    def _start(self, base: Checkpoint) -> nn.Module:
        fits = self.architecture.classes == base.architecture.classes
        if self.config.start_from == "initialisation":
            return build_fresh(self.architecture, seed=self.seed)
        model = build(base)
        if not fits:
            fresh = build_fresh(self.architecture, seed=self.seed)
            name = find_head(model, self.config.head).name
            model.set_submodule(name, fresh.get_submodule(name))
        return model

    def batch(self, rows: Tensor, noise: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Return normalised images and labels of the given rows.

        Args:
            rows: int64, shape (batch,).
            noise: Source of the random shifts of ``train.shift_pixels``; None shifts nothing.
        """
        images, labels = self.pixels.images[rows], self.pixels.labels[rows]
        if noise is not None and self.train.shift_pixels:
            offsets = augment.draw_offsets(len(rows), self.train.shift_pixels, noise)
            images = augment.shift(images, offsets)
        place = self.device.name
        x = to_float(images.to(place), self.architecture.mean, self.architecture.std)
        return x, labels.to(place)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Yield every parameter outside the last layer."""
        inside = {id(p) for p in self.head.module.parameters()}
        return (p for p in self.model.parameters() if id(p) not in inside)

    def due(self, done: int, *, steps_left: int) -> Due | None:
        """Return the change that is due now, or None; a baseline arm never has one."""
        return self.policy.due(done, steps_left=steps_left) if self.arm.treated else None

    def change(
        self, optimizer: Optimizer, due: Due, *, step: int, epoch: int, sampled: int | None = None
    ) -> Tensor:
        """Do the arm's change, book it, and return the rows touched."""
        with self.watch("change"):
            rows = self.changer.change(
                self.model, self.head, optimizer, due=due, step=step, epoch=epoch, sampled=sampled
            )
        self.policy.fired()
        if sampled is None:
            self.monitor.reset_done(step)
        self.log(step, {"reset": float(len(rows))})
        return rows

    def note_batch(self, logits: Tensor, labels: Tensor) -> None:
        """Note the accuracy of a training batch (a by-product of its forward pass)."""
        hits = logits.detach().argmax(1) == labels
        self._accuracy = float(hits.float().mean())
        self._hits.append(self._accuracy)
        self.monitor.batch(self._accuracy)

    def note_loss(self, loss: float, step: int) -> None:
        """Note the loss of a finished step and put it on the live curve."""
        self.steps = step
        self._losses.append(loss)
        if step % _CURVE_EVERY == 0:
            self.log(step, {"train_loss": loss, "train_batch_accuracy": self._accuracy})

    @property
    def mean_loss(self) -> float:
        """Mean loss since the last progress row."""
        return sum(self._losses) / max(1, len(self._losses))

    def write_progress(self, step: int, *, epoch: int) -> None:
        """Write training and validation figures since the last row, and start afresh."""
        values = {
            "train_loss": self.mean_loss,
            "train_accuracy": sum(self._hits) / max(1, len(self._hits)),
        }
        if self.held_out is not None:
            with self.watch("validation"):
                found = self.validation_accuracy()
            values |= {
                "validation_accuracy": found,
                "generalisation_gap": values["train_accuracy"] - found,
            }
        self.recorder.add("pretrain", step, values)
        self.log(step, {**values, "epoch": float(epoch)})
        self._losses, self._hits = [], []

    def validation_accuracy(self) -> float:
        """Return the accuracy on held-out samples of the base classes, 0 to 1.

        Raises:
            DataError: The stream has no validation samples.
        """
        if self.held_out is None:
            raise DataError("data.split.validation_share: is 0, so nothing can be validated")
        mean, std = self.architecture.mean, self.architecture.std
        logits = predict(self.model, self.held_out.images, mean=mean, std=std)
        return accuracy_of(logits, self.held_out.labels)

    @property
    def steps_since_change(self) -> int:
        """Optimizer steps since the last change; all steps where there was none."""
        return self.steps - max(0, self.changer.last_step)

    def state(self) -> dict[str, Any]:
        """Return the books for a resume point: plain numbers and rows."""
        return {
            "records": [r.as_row() for r in self.recorder.records],
            "interventions": [i.as_row() for i in self.changer.interventions],
            "last_step": self.changer.last_step,
            "steps": self.steps,
            "order_digest": self.order_digest,
            "extra_steps": self.extra_steps,
            "policy": self.policy.state(),
            "monitor": self.monitor.state(),
            "seconds": self.watch.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the books kept by ``state``."""
        self.recorder.records = [Record(**row) for row in state["records"]]
        self.changer.interventions = [Intervention(**row) for row in state["interventions"]]
        self.changer.last_step = int(state["last_step"])
        self.steps, self.order_digest = int(state["steps"]), str(state["order_digest"])
        self.extra_steps = int(state["extra_steps"])
        self.policy.restore(state["policy"])
        self.monitor.restore(state["monitor"])
        self.watch.seconds = dict(state["seconds"])


def _architecture(base: Checkpoint, config: ZapConfig, classes: int) -> Architecture:
    outputs = config.head_outputs or classes
    return replace(base.architecture, classes=max(outputs, classes))
