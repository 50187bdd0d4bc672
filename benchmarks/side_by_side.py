"""Two codes timed against each other in one run: each in a process of its own, taking turns.

A busy machine hits both alike, because a repetition of the one is followed at once by a repetition
of the other; what counts is the median of the ratios of neighbours. The first repetition of each,
which chooses kernels and fills caches, is not counted. Time is CPU time of the process: with one
thread on an idle machine that is the time on the clock, and others at work do not change it.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import statistics
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from foreign_worker import ForeignWorker

Repetition = Callable[[], float]
"""Does the work once and returns how much it was, in the units of the row (images, episodes)."""


@dataclass(frozen=True)
class Job:
    """What one process does.

    Attributes:
        module: Module beside this file.
        maker: Function in it that prepares the work and returns a ``Repetition``.
        options: Keyword arguments of ``maker``.
        python: Another Python that runs ``module`` as a script (``foreign_worker``); None: ours.
    """

    module: str
    maker: str
    options: Mapping[str, Any] = field(default_factory=dict)
    python: str | None = None


class Worker:
    """A process that waits, and does a repetition when told.

    Attributes:
        first: What the first repetition returned.
        megabytes: Largest memory of the process so far; NaN where nobody tells.
    """

    def __init__(self, job: Job, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, job, threads), daemon=True)
        self._process.start()
        theirs.close()
        self.first, self.megabytes = self._receive()  # it is ready

    def rates(self) -> tuple[float, float]:
        """Return the units per CPU second, and per second on the clock, of one repetition."""
        self._pipe.send("go")
        units, busy, passed, self.megabytes = self._receive()
        return units / busy, units / passed

    def close(self) -> None:
        """End the process."""
        self._pipe.send("stop")
        self._process.join(timeout=30)
        self._pipe.close()

    def _receive(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError("a benchmark process ended without a word") from None
        if kind == "failed":
            raise RuntimeError(f"a benchmark process failed:\n{value}")
        return value


def _serve(pipe: Connection, job: Job, threads: int) -> None:
    try:
        import torch

        torch.set_num_threads(threads)
        repetition = getattr(importlib.import_module(job.module), job.maker)(**job.options)
        pipe.send(("ready", (repetition(), peak_megabytes())))
        while pipe.recv() == "go":
            busy, passed = time.process_time(), time.perf_counter()
            units = repetition()
            busy, passed = time.process_time() - busy, time.perf_counter() - passed
            pipe.send(("done", (units, busy, passed, peak_megabytes())))
    except Exception:  # the parent raises it
        pipe.send(("failed", traceback.format_exc()))


def peak_megabytes() -> float:
    """Return the largest resident memory of this process since it began; NaN where nobody tells."""
    return _told_megabytes("VmHWM:")


def resident_megabytes() -> float:
    """Return the resident memory of this process now; NaN where nobody tells."""
    return _told_megabytes("VmRSS:")


def _told_megabytes(field: str) -> float:
    listing = Path("/proc/self/status")
    if listing.exists():
        for line in listing.read_text(encoding="ascii").splitlines():
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return math.nan


def outcome(job: Job, *, threads: int) -> float:
    """Return what one repetition returns, made in a process of its own.

    Args:
        job: The work.
        threads: Of the process.
    """
    worker = _worker(job, threads)
    worker.close()
    return worker.first


def _worker(job: Job, threads: int) -> Worker | ForeignWorker:
    if job.python is None:
        return Worker(job, threads)
    return ForeignWorker(job.python, job.module, job.maker, options=job.options, threads=threads)


@dataclass(frozen=True)
class Race:
    """What a race showed; all but the first are None where there was no other code.

    Attributes:
        ours: Median units per CPU second.
        peer: The same of the other code.
        ratio: Median of ours over peer, neighbour by neighbour; above 1 = ours is faster.
        lowest: Smallest of those ratios.
        highest: Largest of them.
        clock_ratio: As ``ratio``, by the clock.
        megabytes: Largest memory of our process and of the other's.
    """

    ours: float
    peer: float | None = None
    ratio: float | None = None
    lowest: float | None = None
    highest: float | None = None
    clock_ratio: float | None = None
    megabytes: tuple[float, ...] = ()


def race(ours: Job, peer: Job | None, *, repetitions: int, threads: int) -> Race:
    """Let both codes take turns and return medians.

    Args:
        ours: Our work.
        peer: The same work by another code; None times ours alone.
        repetitions: Counted repetitions of each.
        threads: Threads of each process; only one works at a time.
    """
    workers = [_worker(job, threads) for job in (ours, peer) if job is not None]
    try:
        rounds = [[worker.rates() for worker in workers] for _ in range(repetitions)]
    finally:
        for worker in workers:
            worker.close()
    return replace(_summary(rounds), megabytes=tuple(worker.megabytes for worker in workers))


def _summary(rounds: Sequence[Sequence[tuple[float, float]]]) -> Race:
    ours = statistics.median(r[0][0] for r in rounds)
    if len(rounds[0]) == 1:
        return Race(ours)
    ratios = [mine[0] / other[0] for mine, other in rounds]
    clock = [mine[1] / other[1] for mine, other in rounds]
    return Race(
        ours,
        statistics.median(r[1][0] for r in rounds),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(clock),
    )
