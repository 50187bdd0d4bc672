"""One (arm, seed) unit of zapping: what a worker process is handed and what it writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relearn.methods.zap.config import ZapConfig
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.evaluation.records import Log
    from relearn.execution import Unit
    from relearn.models.checkpoint import Checkpoint
    from relearn.tracking import RunHandle

FLOORS = ("data", "models", "training", "evaluation", "methods.zap")


@dataclass(frozen=True)
class Job:
    """What one unit needs; plain and picklable.

    Attributes:
        base: Architecture, and weights where arms continue them.
        stream: Frozen data.
        config: Knobs, with the arm's own pre-training settings put in.
        arm: Name of the arm.
        seed: Seed of the pair.
        execution: Device, precision, threads.
        handle: The parent run; None keeps curves in memory.
        label: Name of the child run; the arm's name, or a candidate's.
        scoring: Only score the settings on the selection classes.
    """

    base: Checkpoint
    stream: Stream
    config: ZapConfig
    arm: str
    seed: int
    execution: ExecutionConfig
    handle: RunHandle | None
    label: str = ""
    scoring: bool = False


def unit_of(job: Job) -> Unit:
    """Return the unit of a job, addressed by its configuration, data and code."""
    from relearn.execution import Unit, address_of
    from relearn.methods.zap.arms import arm_named
    from relearn.provenance import digest

    arm = arm_named(job.config, job.arm)
    # What other arms are switched on, or how many seeds confirm, does not change this unit.
    own = job.config.model_dump(exclude={"arms", "evidence", "study", "compare", "tuning"})
    told = {
        "settings": own,
        "arm": [arm.pretraining, arm.change, digest(arm.policy), digest(arm.reset)],
        "name": arm.name,
        "seed": job.seed,
        "scoring": job.scoring,
        "device": [job.execution.device, job.execution.precision],
    }
    if job.config.start_from == "base":
        told["base"] = job.base.digest
    told["architecture"] = str(job.base.architecture)
    address = address_of(config=digest(told), data=job.stream.digest, floors=FLOORS)
    return Unit(key=f"{job.label or job.arm}.seed{job.seed}", address=address, payload=job)


def run_unit(job: Job, folder: Path) -> None:
    """Train one arm with one seed and write its files, with live curves in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.tracking import arm_run
    from relearn.training.memory import keep_freed_memory

    keep_freed_memory()
    told = job.config.model_dump(exclude={"arms", "evidence", "study", "tuning"})
    label = job.label or job.arm
    with arm_run(job.handle, method="zap", arm=label, seed=job.seed, config=told) as run:
        if job.scoring:
            _score(job, folder, run.log)
            return
        run.artifact(_train(job, folder, run.log), "checkpoints")


def _train(job: Job, folder: Path, log: Log) -> Path:
    from relearn.arm_store import save_arm
    from relearn.methods.zap.arms import arm_named
    from relearn.methods.zap.train import train_baseline, train_treated
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    treated = arm_named(job.config, job.arm).treated
    result = (train_treated if treated else train_baseline)(
        job.base,
        job.stream,
        job.config,
        arm=job.arm,
        seed=job.seed,
        log=log,
        resume=ResumePoint(folder / "resume.safetensors"),
        device=device_of(job.execution, job.base.architecture),
    )
    return save_arm(result, folder)


def _score(job: Job, folder: Path, log: Log) -> None:
    from relearn.arm_store import save_score
    from relearn.methods.zap.train import score_settings
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    score, seconds = score_settings(
        job.base,
        job.stream,
        job.config,
        arm=job.arm,
        seed=job.seed,
        log=log,
        resume=ResumePoint(folder / "resume.safetensors"),
        device=device_of(job.execution, job.base.architecture),
    )
    save_score(folder, score, seconds)


def candidate(job: Job, *, factor: float, shift: int) -> Job:
    """Return the job that scores one candidate setting of the arm.

    Args:
        job: The arm's job.
        factor: Factor on the pre-training rate.
        shift: Random shift in pixels.
    """
    from relearn.methods.zap.train import with_settings

    config = with_settings(job.config, rate_factor=factor, shift_pixels=shift)
    label = f"{job.arm}.rate_x{factor:g}.shift{shift}"
    return replace(job, config=config, label=label, scoring=True)
