"""Units of the probe: one arm with one seed, or one candidate of a trained arm's settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.evaluation.records import Log
    from relearn.execution import Unit
    from relearn.models.checkpoint import Checkpoint
    from relearn.tracking import RunHandle

FLOORS = ("data", "models", "training", "evaluation", "methods.last_layer_probe")
METHOD = "last_layer_probe"

_NOT_AN_ARMS = ("arms", "evidence", "verdict", "special", "depth_report", "initialisation")
"""Blocks that say nothing about one arm, or only how it is judged."""

_OWN_BLOCKS = {
    "kernel": ("kernel",),
    "trained": ("unfrozen", "full", "fine_tuned"),
    "width_law": ("random",),
}
"""Block to the kinds of arms that read it."""


@dataclass(frozen=True)
class Job:
    """What one arm with one seed needs; plain and picklable.

    Attributes:
        base: Architecture and weights.
        stream: Frozen data.
        config: Knobs, with the settings chosen for a trained arm.
        arm: Name of the arm.
        seed: Seed of the pair.
        execution: Device, precision, threads.
        handle: The parent run; None keeps curves in memory.
        label: Name of the unit and its child run; the arm's name, or a candidate's.
        scoring: Only score the settings on validation images.
    """

    base: Checkpoint
    stream: Stream
    config: LastLayerProbeConfig
    arm: str
    seed: int
    execution: ExecutionConfig
    handle: RunHandle | None
    label: str = ""
    scoring: bool = False


def unit_of(job: Job) -> Unit:
    """Return the unit of a job, addressed by its configuration, data and code.

    Args:
        job: What to do.
    """
    from relearn.execution import Unit, address_of
    from relearn.methods.last_layer_probe.arms import arm_named
    from relearn.provenance import digest

    arm = arm_named(job.config, job.arm)
    spare = {block for block, kinds in _OWN_BLOCKS.items() if arm.kind not in kinds}
    own = job.config.model_dump(exclude={*_NOT_AN_ARMS, *spare}, mode="json")
    told = {
        "settings": own,
        "arm": asdict(arm),
        "base": _base_of(job, arm.kind),
        "seed": job.seed,
        "scoring": job.scoring,
        "device": [job.execution.device, job.execution.precision],
    }
    address = address_of(config=digest(told), data=job.stream.digest, floors=FLOORS)
    return Unit(key=f"{job.label or job.arm}.seed{job.seed}", address=address, payload=job)


def _base_of(job: Job, kind: str) -> str:
    """Return what of the base net an arm depends on."""
    if kind in ("frozen", "unfrozen", "fine_tuned"):
        return job.base.digest
    return str(job.base.architecture) if kind == "full" else ""


def run_unit(job: Job, folder: Path) -> None:
    """Run one arm with one seed and write its files, with live curves in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.tracking import arm_run
    from relearn.training.memory import keep_freed_memory

    keep_freed_memory()
    told = job.config.model_dump(exclude={"arms", "evidence", "verdict", "study"})
    label = job.label or job.arm
    with arm_run(job.handle, method=METHOD, arm=label, seed=job.seed, config=told) as run:
        if job.scoring:
            _score(job, folder, run.log)
        else:
            run.artifact(_run(job, folder, run.log), "checkpoints")


def candidate(job: Job, *, rate: float, epochs: float) -> Job:
    """Return the job that scores one setting of a trained arm.

    Args:
        job: The arm's job.
        rate: Factor on its learning rate.
        epochs: Factor on its epochs.
    """
    from relearn.methods.last_layer_probe.trained_arms import with_settings

    config = with_settings(job.config, rate=rate, epochs=epochs)
    label = f"{job.arm}.rate_x{rate:g}.epochs_x{epochs:g}"
    return replace(job, config=config, label=label, scoring=True)


def _run(job: Job, folder: Path, log: Log) -> Path:
    from relearn.arm_store import save_arm
    from relearn.methods.last_layer_probe.train import run_arm
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    resume = ResumePoint(folder / "resume.safetensors")
    result = run_arm(
        job.base,
        job.stream,
        job.config,
        arm=job.arm,
        seed=job.seed,
        log=log,
        resume=resume,
        device=device_of(job.execution, job.base.architecture),
    )
    path = save_arm(result, folder)
    resume.clear()
    return path


def _score(job: Job, folder: Path, log: Log) -> None:
    from relearn.arm_store import save_score
    from relearn.methods.last_layer_probe.train import score_settings
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    resume = ResumePoint(folder / "resume.safetensors")
    score, seconds = score_settings(
        job.base,
        job.stream,
        job.config,
        arm=job.arm,
        seed=job.seed,
        log=log,
        resume=resume,
        device=device_of(job.execution, job.base.architecture),
    )
    save_score(folder, score, seconds)
    resume.clear()
