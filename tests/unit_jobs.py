"""Units for the tests of execution: module-level, because worker processes find them by name."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from relearn.errors import DataError


@dataclass(frozen=True)
class Job:
    """What a unit of the tests does.

    Attributes:
        name: Written into its file.
        act: ``write``, ``raise``, ``fault``, ``die_once``, ``die``, ``wait``, ``leave_litter``.
        shared: Folder in which every run of a unit leaves a file.
        seconds: How long to work first.
    """

    name: str
    act: str = "write"
    shared: Path | None = None
    seconds: float = 0.0


def run_unit(job: Job, folder: Path) -> None:
    """Do what the job says."""
    calls = 0
    if job.shared is not None:
        job.shared.mkdir(parents=True, exist_ok=True)
        calls = len(list(job.shared.glob(f"{job.name}.*")))
        (job.shared / f"{job.name}.{time.monotonic_ns()}.{os.getpid()}").touch()
    time.sleep(job.seconds)
    if job.act == "raise":
        raise ValueError(f"{job.name} cannot\nsecond line")
    if job.act == "fault":
        raise DataError("data.source: is wrong")
    if job.act == "die" or (job.act == "die_once" and calls == 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if job.act == "leave_litter":
        (folder / "resume.safetensors").write_text("half")
        (folder / ".writing-1-x.json").write_text("half")
    if job.act == "threads":
        import torch

        (folder / "threads.txt").write_text(str(torch.get_num_threads()))
    (folder / "result.txt").write_text(job.name)


def hold_forever(job: Job, folder: Path) -> None:
    """Say that the unit has begun, then wait to be killed."""
    (folder / "begun.txt").write_text(str(os.getpid()))
    time.sleep(600)
