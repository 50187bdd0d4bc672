"""Units of growing: teachers, and the arms of each seed that are trained on from them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from relearn.methods.grow.config import GrowConfig
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.evaluation.records import Log
    from relearn.execution import Unit
    from relearn.models.checkpoint import Checkpoint
    from relearn.tracking import RunHandle

FLOORS = ("data", "models", "training", "evaluation", "methods.grow")
METHOD = "grow"

_NOT_AN_ARMS = {"arms", "rates", "tuning", "evidence", "teacher", "distillation"}
"""Blocks that say nothing about one arm, or that are told apart below."""


@dataclass(frozen=True)
class TeacherJob:
    """What one teacher needs; plain and picklable.

    Attributes:
        base: Architecture, and the teacher itself where ``start_from`` is ``base``.
        stream: Frozen data.
        config: Knobs.
        seed: Seed of the pair.
        execution: Device, precision, threads.
        handle: The parent run; None keeps curves in memory.
    """

    base: Checkpoint
    stream: Stream
    config: GrowConfig
    seed: int
    execution: ExecutionConfig
    handle: RunHandle | None


@dataclass(frozen=True)
class ArmJob:
    """What one arm with one seed needs; plain and picklable.

    Attributes:
        teacher: Folder of the seed's teacher.
        teacher_digest: Digest of its checkpoint file.
        stream: Frozen data.
        config: Knobs, with the rate chosen for the arm.
        arm: Name of the arm.
        seed: Seed of the pair.
        execution: Device, precision, threads.
        handle: The parent run; None keeps curves in memory.
        label: Name of the unit and its child run; the arm's name, or a candidate's.
        scoring: Only score the settings on validation images.
    """

    teacher: str
    teacher_digest: str
    stream: Stream
    config: GrowConfig
    arm: str
    seed: int
    execution: ExecutionConfig
    handle: RunHandle | None
    label: str = ""
    scoring: bool = False


def teacher_unit(job: TeacherJob) -> Unit:
    """Return the unit of a teacher, addressed by its configuration, data and code.

    Args:
        job: What to do.
    """
    from relearn.execution import Unit, address_of
    from relearn.provenance import digest

    config = job.config
    told = {
        "start_from": config.start_from,
        "teacher": config.teacher.model_dump(),
        "samples": config.samples.model_dump(),
        "trigger": config.growth.trigger.model_dump(),
        "seed": job.seed,
        "device": [job.execution.device, job.execution.precision],
        "architecture": str(job.base.architecture),
    }
    if config.start_from == "base":
        told["base"] = job.base.digest
    address = address_of(config=digest(told), data=job.stream.digest, floors=FLOORS)
    return Unit(key=f"teacher.seed{job.seed}", address=address, payload=job)


def run_teacher(job: TeacherJob, folder: Path) -> None:
    """Train one teacher and write it, with live curves in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.methods.grow.pair import teach
    from relearn.pipelines.grow.teacher_store import save_teacher
    from relearn.tracking import arm_run
    from relearn.training.device import device_of
    from relearn.training.memory import keep_freed_memory
    from relearn.training.resume import ResumePoint

    keep_freed_memory()
    told = {"teacher": job.config.teacher.model_dump(), "samples": job.config.samples.model_dump()}
    with arm_run(job.handle, method=METHOD, arm="teacher", seed=job.seed, config=told) as run:
        resume = ResumePoint(folder / "resume.safetensors")
        teacher = teach(
            job.base,
            job.stream,
            job.config,
            seed=job.seed,
            log=run.log,
            resume=resume,
            device=device_of(job.execution, job.base.architecture),
        )
        run.artifact(save_teacher(teacher, folder), "checkpoints")
        resume.clear()


def arm_unit(job: ArmJob) -> Unit:
    """Return the unit of an arm, addressed by its configuration, teacher, data and code.

    Args:
        job: What to do.
    """
    from relearn.execution import Unit, address_of
    from relearn.methods.grow.arms import arm_named, rate_factor
    from relearn.provenance import digest

    arm, config = arm_named(job.config, job.arm), job.config
    own = config.model_dump(exclude={**dict.fromkeys(_NOT_AN_ARMS, True), "growth": {"headroom"}})
    told = {
        "settings": own,
        "rate": rate_factor(config, job.arm),
        "arm": [arm.name, arm.start, arm.budget, arm.distils],
        "distillation": config.distillation.model_dump() if arm.distils else None,
        "teacher": job.teacher_digest,
        "seed": job.seed,
        "scoring": job.scoring,
        "device": [job.execution.device, job.execution.precision],
    }
    address = address_of(config=digest(told), data=job.stream.digest, floors=FLOORS)
    return Unit(key=f"{job.label or job.arm}.seed{job.seed}", address=address, payload=job)


def run_arm_unit(job: ArmJob, folder: Path) -> None:
    """Train one arm with one seed and write its files, with live curves in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.tracking import arm_run
    from relearn.training.memory import keep_freed_memory

    keep_freed_memory()
    told = job.config.model_dump(exclude={"arms", "evidence", "tuning", "teacher"})
    label = job.label or job.arm
    with arm_run(job.handle, method=METHOD, arm=label, seed=job.seed, config=told) as run:
        if job.scoring:
            _score(job, folder, run.log)
        else:
            run.artifact(_train(job, folder, run.log), "checkpoints")


def candidate(job: ArmJob, *, factor: float) -> ArmJob:
    """Return the job that scores one learning rate of the arm.

    Args:
        job: The arm's job.
        factor: Factor on the arm's own rate.
    """
    from relearn.methods.grow.train import with_rate

    config = with_rate(job.config, arm=job.arm, factor=factor)
    return replace(job, config=config, label=f"{job.arm}.rate_x{factor:g}", scoring=True)


def _train(job: ArmJob, folder: Path, log: Log) -> Path:
    from relearn.arm_store import save_arm
    from relearn.methods.grow.train import run_arm
    from relearn.pipelines.grow.teacher_store import load_teacher
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    teacher = load_teacher(Path(job.teacher))
    resume = ResumePoint(folder / "resume.safetensors")
    result = run_arm(
        teacher,
        job.stream,
        job.config,
        arm=job.arm,
        seed=job.seed,
        log=log,
        resume=resume,
        device=device_of(job.execution, teacher.checkpoint.architecture),
    )
    path = save_arm(result, folder)
    resume.clear()
    return path


def _score(job: ArmJob, folder: Path, log: Log) -> None:
    from relearn.arm_store import save_score
    from relearn.methods.grow.train import score_settings
    from relearn.pipelines.grow.teacher_store import load_teacher
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    teacher = load_teacher(Path(job.teacher))
    resume = ResumePoint(folder / "resume.safetensors")
    score, seconds = score_settings(
        teacher,
        job.stream,
        job.config,
        arm=job.arm,
        seed=job.seed,
        log=log,
        resume=resume,
        device=device_of(job.execution, teacher.checkpoint.architecture),
    )
    save_score(folder, score, seconds)
    resume.clear()
