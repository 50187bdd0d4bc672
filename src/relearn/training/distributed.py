"""One training shared by several devices: a request in a folder, workers under torchrun, a result.

``train_in_parallel`` writes the request and starts
``python -m torch.distributed.run --standalone --nproc-per-node=N -m relearn.training.distributed``.
Every worker takes every N-th image of each batch, so that the batch, its order and the gradient are
those of one device. (Fabric's own launch would run the whole calling program again in each worker.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from relearn.atomic import write_text
from relearn.data.images import Split
from relearn.errors import RelearnError, TrainingError
from relearn.models.checkpoint import (
    Architecture,
    Checkpoint,
    build,
    capture,
    load_checkpoint,
    save_checkpoint,
)
from relearn.process import Identity, this_process
from relearn.provenance import digest
from relearn.training.config import TrainConfig
from relearn.training.device import Device
from relearn.training.resume import ResumePoint
from relearn.training.supervised import Task, train_classifier

if TYPE_CHECKING:
    from torch import nn

    from relearn.data.batches import Batches

_REQUEST, _START, _IMAGES = "request.json", "start.safetensors", "images.safetensors"
_RESULT, _CURVE, _FAULT = "result.safetensors", "curve.jsonl", "fault.txt"
_SECONDS_BETWEEN_LOOKS = 0.2

Log = Callable[[int, Mapping[str, float]], None]


class Shard:
    """What one of several workers takes of each batch.

    Args:
        batches: The whole batches; every worker draws the same.
        rank: Number of the worker.
        world: Number of workers.
    """

    def __init__(self, batches: Batches, rank: int, world: int) -> None:
        self.batches, self.rank, self.world = batches, rank, world
        self.seed = batches.seed
        self.name = f"{batches.name}.worker{rank}"  # door of this worker's dropout
        self.weight = 1.0

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        return self.batches.steps_per_epoch

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every ``world``-th image of each batch, and set ``weight`` to its share of it.

        The mean over workers of weight * (mean loss of the share) is the mean loss of the batch. A
        share without images is one image of weight 0: all workers take part in every step.

        Args:
            epoch: Number of the epoch.
        """
        for images, labels in self.batches.epoch(epoch):
            own = labels[self.rank :: self.world]
            self.weight = len(own) * self.world / len(labels)
            if len(own):
                yield images[self.rank :: self.world], own
            else:
                yield images[:1], labels[:1]

    def replay(self, epoch: int) -> None:
        """Take the order of an epoch that was trained before into the order digest.

        Args:
            epoch: Number of the epoch.
        """
        self.batches.replay(epoch)


def train_in_parallel(
    start: Checkpoint,
    task: Task,
    *,
    folder: Path,
    devices: int,
    device: str,
    precision: str,
    log: Log | None = None,
) -> Checkpoint:
    """Train on several devices and return the trained checkpoint.

    Args:
        start: The net to train.
        task: What is learnt and how; its batch size is that of all devices together.
        folder: For request, resume point and result; a rerun with the same folder goes on.
        devices: Workers: processes of a CPU, or GPUs.
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``fp32`` or ``bf16``.
        log: ``log(step, {metric: value})``, called while the workers train.

    Raises:
        TrainingError: A worker failed; its one-line reason is passed on.
    """
    _write_request(start, task, folder, device=device, precision=precision)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={devices}", "-m", "relearn.training.distributed", str(folder)]
    with (folder / "workers.log").open("w", encoding="utf-8") as output:
        workers = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603
        try:
            _follow(workers, folder / _CURVE, log)
        finally:
            workers.terminate()
            workers.wait()
    fault = folder / _FAULT
    if workers.returncode != 0 or fault.exists():
        said = fault.read_text(encoding="utf-8") if fault.exists() else f"see {output.name}"
        raise TrainingError(f"execution.devices: a worker failed: {said}")
    return load_checkpoint(folder / _RESULT)


def _write_request(
    start: Checkpoint, task: Task, folder: Path, *, device: str, precision: str
) -> None:
    """Write what the workers need; the images travel as a checkpoint without a net."""
    for name in (_RESULT, _CURVE, _FAULT):
        (folder / name).unlink(missing_ok=True)
    save_checkpoint(start, folder / _START)
    tensors = {"images": task.split.images, "labels": task.split.labels}
    data = Checkpoint(Architecture("images", 0, 0, 0), tensors)
    save_checkpoint(data, folder / _IMAGES)
    told: dict[str, Any] = {
        "train": task.train.model_dump(),
        "seed": task.seed,
        "average_decay": task.average_decay,
        "where": task.where,
        "device": device,
        "precision": precision,
        "caller": this_process().as_row(),
    }
    told["key"] = digest({"start": start.digest, "images": data.digest, "train": told["train"]})
    write_text(folder / _REQUEST, json.dumps(told))


def _follow(workers: subprocess.Popen[bytes], curve: Path, log: Log | None) -> None:
    """Pass the lines of the curve on to ``log`` until the workers have ended."""
    done, ended = 0, False
    while not ended:
        ended = workers.poll() is not None
        whole = curve.read_text(encoding="utf-8") if curve.exists() else ""
        lines = whole[: whole.rfind("\n") + 1].splitlines()
        for line in lines[done:]:
            step, values = json.loads(line)
            if log is not None:
                log(step, values)
        done = len(lines)
        if not ended:
            time.sleep(_SECONDS_BETWEEN_LOOKS)


def work(folder: Path) -> None:
    """Do one worker's share of a request; only the first worker writes.

    Args:
        folder: Where ``train_in_parallel`` wrote the request.

    Raises:
        RelearnError: As ``train_classifier``; the reason is in the folder too.
    """
    request = json.loads((folder / _REQUEST).read_text(encoding="utf-8"))
    start, data = load_checkpoint(folder / _START), load_checkpoint(folder / _IMAGES).weights
    task = Task(
        architecture=start.architecture,
        split=Split(data["images"], data["labels"]),
        train=TrainConfig.model_validate(request["train"]),
        seed=request["seed"],
        average_decay=request["average_decay"],
        where=request["where"],
    )
    device, rank, world = _join(request["device"], request["precision"])
    net = _parallel(build(start).train(), device)
    shard = Shard(task.batches(device), rank, world)
    try:
        state = train_classifier(
            net,
            task,
            device=device,
            batches=shard,
            loss_fn=lambda logits, labels: task.loss(logits, labels) * shard.weight,
            log=_shared_log(folder / _CURVE, Identity.from_row(request["caller"]), device),
            resume=_Shared(folder / "resume.safetensors", key=request["key"]),
        )
    except RelearnError as error:
        write_text(folder / _FAULT, str(error))
        raise
    if rank == 0:
        told = {"steps": state.step, "order_digest": shard.batches.order_digest}
        save_checkpoint(capture(net.module, start.architecture, told), folder / _RESULT)
    distributed.barrier()
    distributed.destroy_process_group()


def _join(device: str, precision: str) -> tuple[Device, int, int]:
    """Join the other workers and return this one's device, number, and how many there are."""
    from lightning_fabric import Fabric

    world = int(os.environ["WORLD_SIZE"])
    fabric = Fabric(
        accelerator={"auto": "auto", "cpu": "cpu"}.get(device, "cuda"),
        devices=world,
        strategy="ddp",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()  # torchrun has started the processes; this only makes them a group
    own = Device(str(fabric.device), precision, opener=fabric.autocast)
    return own, fabric.global_rank, fabric.world_size


def _parallel(net: nn.Module, device: Device) -> DistributedDataParallel:
    if device.name.startswith("cuda"):
        # on several GPUs the statistics of a batch are those of the whole batch
        net = torch.nn.SyncBatchNorm.convert_sync_batchnorm(net)
    return DistributedDataParallel(device.place(net))


class _Shared(ResumePoint):
    """A resume point that the first worker writes and all read."""

    def save(self, state: Mapping[str, Any]) -> None:
        """Write, and let nobody go on before it is written."""
        if distributed.get_rank() == 0:
            super().save(state)
        distributed.barrier()


def _shared_log(curve: Path, caller: Identity, device: Device) -> Log:
    """Return a log that writes the mean over workers to a file, and stops if nobody reads it."""

    def log(step: int, values: Mapping[str, float]) -> None:
        total = torch.tensor(list(values.values()), dtype=torch.float64, device=device.name)
        distributed.all_reduce(total)
        mean = (total / distributed.get_world_size()).tolist()
        if distributed.get_rank() == 0:
            with curve.open("a", encoding="utf-8") as file:
                file.write(json.dumps([step, dict(zip(values, mean, strict=True))]) + "\n")
        if caller.is_surely_dead():
            raise TrainingError("the program that started this worker is gone")

    return log


if __name__ == "__main__":
    work(Path(sys.argv[1]))
