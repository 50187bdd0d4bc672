"""The base checkpoint as one unit of work: what a worker is handed and what it writes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from relearn.atomic import write_text
from relearn.data.batches import channel_statistics
from relearn.data.images import Split
from relearn.evaluation.classification import accuracy_of, predict
from relearn.evaluation.efficiency import parameter_count
from relearn.evaluation.records import Log, Record, Recorder
from relearn.execution import Unit, address_of
from relearn.models.checkpoint import (
    Architecture,
    Checkpoint,
    build,
    capture,
    load_checkpoint,
    save_checkpoint,
)
from relearn.models.heads import find_head
from relearn.models.weights import own_normalisation, start_net
from relearn.provenance import digest
from relearn.tracking import arm_run
from relearn.training.config import ExecutionConfig, PretrainConfig
from relearn.training.device import Device, device_of
from relearn.training.distributed import train_in_parallel
from relearn.training.memory import keep_freed_memory
from relearn.training.resume import ResumePoint
from relearn.training.supervised import Task, train_classifier

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Stream
    from relearn.tracking import RunHandle
    from relearn.training.loop import LoopState

FLOORS = ("data", "models", "training", "evaluation")
CHECKPOINT, _RECORDS, _RESUME = "checkpoint.safetensors", "records.json", "resume.safetensors"
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """What the unit needs; plain and picklable.

    Attributes:
        stream: Frozen data.
        config: Net, weights and training.
        execution: Device and precision.
        seed: Seed of initialisation, order and augmentation.
        handle: The parent run; None keeps curves in memory.
    """

    stream: Stream
    config: PretrainConfig
    execution: ExecutionConfig
    seed: int
    handle: RunHandle | None

    @property
    def where(self) -> str:
        """What error messages call it."""
        return f"pretrain: arm base, seed {self.seed}"

    @property
    def weights_path(self) -> Path | None:
        """The file of first weights, if one is named."""
        return Path(self.config.model.weights_path) if self.config.model.weights_path else None


def unit_of(job: Job) -> Unit:
    """Return the unit of a job, addressed by its configuration, data and code.

    Args:
        job: What to do.
    """
    execution = [job.execution.device, job.execution.precision, job.execution.devices]
    told = {"config": digest(job.config), "seed": job.seed, "execution": execution}
    if job.weights_path is not None and job.weights_path.is_file():
        # other weights under the same name are another unit
        changed = job.weights_path.stat()
        told["weights"] = [changed.st_size, changed.st_mtime_ns]
    address = address_of(config=digest(told), data=job.stream.digest, floors=FLOORS)
    return Unit(key=f"base.seed{job.seed}", address=address, payload=job)


def run_unit(job: Job, folder: Path) -> None:
    """Train the base and write checkpoint and records, with live curves in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    keep_freed_memory()
    config = job.config.model_dump()
    with arm_run(job.handle, method="pretrain", arm="base", seed=job.seed, config=config) as run:
        checkpoint, records = make_base(job, folder, run.log)
        save_checkpoint(checkpoint, folder / CHECKPOINT)
        write_text(folder / _RECORDS, json.dumps([record.as_row() for record in records]))
        (folder / _RESUME).unlink(missing_ok=True)
        run.artifact(folder / CHECKPOINT, "checkpoints")


def load_unit(folder: Path) -> tuple[Checkpoint, list[dict[str, Any]]]:
    """Return what ``run_unit`` wrote: the checkpoint and the rows of the records.

    Args:
        folder: The unit's own folder.
    """
    rows: list[dict[str, Any]] = json.loads((folder / _RECORDS).read_text(encoding="utf-8"))
    return load_checkpoint(folder / CHECKPOINT), rows


def make_base(job: Job, folder: Path, log: Log) -> tuple[Checkpoint, list[Record]]:
    """Return the trained base and its records; with ``epochs: 0`` the first weights as they are.

    Args:
        job: What to do.
        folder: For the resume point.
        log: Live curves.

    Raises:
        TrainingError: The loss is not finite, or the device is not there.
        CheckpointError: The first weights cannot be used.
        HeadNotFoundError: The net has no last layer that can be found.
    """
    run = _BaseRun(job, log)
    begin = time.perf_counter()
    steps = run.train_alone(folder) if job.execution.devices == 1 else run.train_shared(folder)
    seconds = time.perf_counter() - begin
    log(steps, {"train_seconds": seconds, "parameters": float(parameter_count(run.net))})
    return capture(run.net, run.architecture, run.provenance(steps)), run.recorder.records


class _BaseRun:
    """The net with its data and books while it trains."""

    def __init__(self, job: Job, log: Log) -> None:
        self.job, self.log = job, log
        self.classes = job.stream.split("train").classes
        split = job.stream.split("train").of_classes(self.classes)
        held_out = job.stream.splits.get("validation")
        self.held_out = _renumbered(held_out, self.classes) if held_out else None
        self.architecture = _architecture(job, split, len(self.classes))
        model = job.config.model
        self.net: nn.Module = start_net(
            self.architecture,
            weights=model.weights,
            path=job.weights_path,
            head=model.head,
            seed=job.seed,
        )
        self.head = find_head(self.net, model.head).name
        self.recorder = Recorder("pretrain", "base", job.seed)
        self.task = Task(
            self.architecture,
            split,
            job.config.train,
            job.seed,
            average_decay=job.config.average_decay,
            where=job.where,
        )
        self._loss: dict[str, float] = {}

    def device(self) -> Device:
        """Return the device, and say which it is where that was left to us."""
        found = device_of(self.job.execution, self.architecture)
        _logger.info("pretrain: %s on %s", self.architecture.name, found.describe())
        return found

    def train_alone(self, folder: Path) -> int:
        """Train on one device and return the steps done."""
        device = self.device()
        device.place(self.net)
        self._judge(0)
        state = train_classifier(
            self.net,
            self.task,
            device=device,
            after_epoch=self._after_epoch,
            books=self,
            log=self._log_epoch,
            resume=ResumePoint(folder / _RESUME, key=digest(self.job.config)),
            progress="pretrain",
        )
        return state.step

    def train_shared(self, folder: Path) -> int:
        """Train on several devices and return the steps done."""
        self._judge(0)
        found = train_in_parallel(
            capture(self.net, self.architecture),
            self.task,
            folder=folder / "shared",
            devices=self.job.execution.devices,
            device=self.job.execution.device,
            precision=self.device().precision,
            log=self.log,
        )
        self.net = build(found)
        steps = int(found.provenance["steps"])
        if steps:
            self._judge(steps)
        return steps

    def state(self) -> dict[str, Any]:
        """Return the books for the resume point."""
        return {"records": [record.as_row() for record in self.recorder.records]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the books of a resume point."""
        self.recorder.records = [Record(**row) for row in state["records"]]

    def provenance(self, steps: int) -> dict[str, Any]:
        """Return what the checkpoint says about itself.

        Args:
            steps: Optimizer steps done.
        """
        judged = {r.metric: r.value for r in self.recorder.records}
        names = self.job.stream.class_names
        return {
            "method": "pretrain",
            "arm": "base",
            "seed": self.job.seed,
            "config": digest(self.job.config),
            "stream": self.job.stream.digest,
            "class_names": [names[int(number)] for number in self.classes],
            "class_numbers": [int(number) for number in self.classes],
            "epochs": self.job.config.train.epochs,
            "steps": steps,
            "head": self.head,
            "weights": self.job.config.model.weights,
            "validation_accuracy": judged.get("validation_accuracy"),
        }

    def _log_epoch(self, step: int, values: Mapping[str, float]) -> None:
        self._loss = {"train_loss": values["epoch_loss"]}
        self.log(step, {"learning_rate": values["learning_rate"], **self._loss})

    def _after_epoch(self, state: LoopState) -> None:
        self._judge(state.step)

    def _judge(self, step: int) -> None:
        """Write the row of an epoch; the start has no training loss yet."""
        values = dict(self._loss)
        if self.held_out is not None:
            told = self.architecture
            logits = predict(self.net, self.held_out.images, mean=told.mean, std=told.std)
            values["validation_accuracy"] = accuracy_of(logits, self.held_out.labels)
        self.recorder.add("pretrain", step, values)
        self.log(step, values)


def _renumbered(split: Split, classes: Tensor) -> Split:
    """Return the samples of the sorted ``classes``, which need not all occur, renumbered."""
    own = torch.isin(split.labels, classes)
    return Split(split.images[own], torch.searchsorted(classes, split.labels[own]))


def _architecture(job: Job, split: Split, classes: int) -> Architecture:
    """Return the net for these images, normalised as its first weights expect, if that is known."""
    model = job.config.model
    bare = Architecture(
        model.name, job.stream.channels, job.stream.image_size, classes, model.options()
    )
    told = own_normalisation(bare, weights=model.weights, path=job.weights_path)
    mean, std = told or channel_statistics(split.images)
    return Architecture(
        bare.name, bare.in_channels, bare.image_size, classes, bare.options, mean, std
    )
